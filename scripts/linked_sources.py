"""A Sphinx extension: a link from a page to a file outside docs/ leads to a page of the site that shows this file.

On a code host `[the loop](../lago_skills/rl/loop.py)` opens the file, and goes on doing so. The site, which may be opened from a disk without the
repository, has a copy of each file that is linked to, with its colours, under `files/`. A link to a folder, or to a file that is no text, is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers import get_lexer_for_filename  # pyright: ignore[reportUnknownVariableType]  # its options are not typed
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging

FOLDER = "files"
"""Of the site, where the copies are."""
LOG = logging.getLogger(__name__)


def language(path: Path) -> str:
    """What Pygments calls the language of a file; `none` where it knows none."""
    try:
        return str(get_lexer_for_filename(path.name).aliases[0])
    except ClassNotFound:
        return "none"


def page_name(path: Path, root: Path) -> str:
    """The site's page of a file of the repository."""
    return f"{FOLDER}/{path.relative_to(root).as_posix()}"


def target_of(link: nodes.Element, page: Path, root: Path) -> Path | None:
    """The file outside the pages that a download link means; None for one inside of them.

    Args:
        link: as MyST makes it of a link to a file that is no page.
        page: the file that it stands in.
        root: of the repository.
    """
    path = Path(os.path.normpath(page.parent / str(link["reftarget"])))
    inside = path.is_relative_to(root) and not path.is_relative_to(root / "docs")
    return path if inside else None


def replace_links(app: Sphinx, doctree: nodes.document) -> None:
    """Put a reference to the file's page in the place of each download; before Sphinx copies what is to be downloaded."""
    root, page = Path(app.config.linked_sources_root), Path(str(app.env.doc2path(app.env.docname)))
    for link in list(doctree.findall(addnodes.download_reference)):
        path = target_of(link, page, root)
        if path is None:
            continue
        if not path.is_file():
            LOG.warning("found a link to %r; expected a file of the repository", link["reftarget"], location=link)
            continue
        known = _known(app).setdefault(app.env.docname, set())
        known.add(str(path))
        uri = app.builder.get_relative_uri(app.env.docname, page_name(path, root))
        link.replace_self(nodes.reference("", "", *link.children, internal=True, refuri=uri))


def forget(app: Sphinx, env: Any, docname: str) -> None:
    """A page that is read anew names its files anew."""
    _known(app).pop(docname, None)


def file_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file that was linked to: name, what its template is told, and the template."""
    root, highlighter = Path(app.config.linked_sources_root), getattr(app.builder, "highlighter", None)
    if highlighter is None:
        return
    for path in sorted({Path(name) for names in _known(app).values() for name in names}):
        text = path.read_text(encoding="utf-8")
        shown = highlighter.highlight_block(text, language(path), linenos=False)
        title = path.relative_to(root).as_posix()
        yield page_name(path, root), {"title": title, "body": f"<h1>{title}</h1>{shown}"}, "page.html"


def _known(app: Sphinx) -> dict[str, set[str]]:
    """Files that are linked to, by page; kept with what else Sphinx remembers between two builds."""
    if not hasattr(app.env, "linked_sources"):
        app.env.linked_sources = {}  # pyright: ignore[reportAttributeAccessIssue]  # as Sphinx's own extensions do
    return app.env.linked_sources  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType]


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_config_value("linked_sources_root", "", "env", (str,))
    app.connect("env-purge-doc", forget)
    app.connect("doctree-read", replace_links, priority=100)
    app.connect("html-collect-pages", file_pages)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
