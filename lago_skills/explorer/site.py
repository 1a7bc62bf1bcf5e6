"""The pages as a folder: opened from disk, or put on any web host. They hold everything but what changes something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lago_skills.artifacts.folder import write_text
from lago_skills.errors import StudyError
from lago_skills.explorer.documents import names, written
from lago_skills.explorer.pages import page_files
from lago_skills.explorer.source import Source

DATA_DIR, MARK = "data", "lago-explorer.txt"
"""The last says that a folder is an export, which another may take the place of."""


def export(source: Source, folder: Path, progress: Callable[[int, str], None] = lambda done, name: None) -> int:
    """Write the pages and all documents into a folder; returns how many documents.

    Browsers let no page on disk fetch its neighbours, but load scripts: so each document is one, a call with the document.

    Raises:
        StudyError: the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise StudyError(
            f"found files in {str(folder)!r} that are no pages of the explorer; expected an empty folder, or one that an earlier export wrote; choose another one"
        )
    (folder / DATA_DIR).mkdir(parents=True, exist_ok=True)
    write_text(folder / MARK, "Pages of lago-skills. Open index.html.\n")
    for name, content in page_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    count = 0
    wanted: set[str] = set()
    for count, name in enumerate(names(source), 1):
        wanted.add(f"{name}.js")
        (folder / DATA_DIR / f"{name}.js").write_text(
            f'lago.take("{name}",{written(source, name)});\n', encoding="utf-8"
        )
        progress(count, name)
    for old in (folder / DATA_DIR).glob("*.js"):
        if old.name not in wanted:
            old.unlink()
    write_text(folder / "place.js", 'window.lagoPlace = "folder";\n')
    return count
