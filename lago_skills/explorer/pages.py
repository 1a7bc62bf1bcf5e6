"""The files of the pages, and what browsers are told of them: nothing from elsewhere, no script but these."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MAP = (
    "sandbox allow-scripts; default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Of the frame that the map is drawn in: its WebGL library writes code as it goes, so it is kept apart from everything else."""
MAP_PAGE = "map.html"


def policy(name: str) -> str:
    """The Content-Security-Policy of a file."""
    return MAP if name == MAP_PAGE else STRICT


@cache
def page_files() -> dict[str, bytes]:
    """All files by their path below the pages' folder."""
    root = files("lago_skills.explorer").joinpath("web")
    return {name: entry.read_bytes() for name, entry in _walk(root, "")}


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif not entry.name.startswith("."):
            yield prefix + entry.name, entry


def content_type(name: str) -> str:
    """Of a file by its ending."""
    return TYPES.get(f".{name.rpartition('.')[2]}", "application/octet-stream")
