"""The fenced blocks of code in the documents: where they are, what they say they are, and who runs them."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.conftest import ROOT

MARK = re.compile(r"\s*<!-- (run by|not run:) (.+) -->\s*")
"""On the line above a block: `<!-- run by tests/test_x.py -->`, with what is needed after a colon, or `<!-- not run: REASON -->`."""
FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,})(?P<language>\S*)\s*$")
OUTSIDE = frozenset({"cd", "cp", "mkdir", "curl", "pip", "prefect", "dask", "make", "git"})
"""Programs that are not ours: their lines are read by nobody here."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    path: Path
    line: int
    """Of its opening fence, from 1."""
    language: str
    text: str
    mark: tuple[str, str] | None
    """`run by` and a test, or `not run:` and a reason."""

    @property
    def name(self) -> str:
        """Where it is, for messages."""
        return f"{self.path.relative_to(ROOT)}:{self.line}"


@cache
def blocks() -> tuple[Block, ...]:
    """All blocks of README.md and docs/."""
    pages = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    return tuple(block for page in pages for block in blocks_in(page, page.read_text(encoding="utf-8")))


def blocks_in(path: Path, text: str) -> Iterator[Block]:
    """The blocks of a page.

    Raises:
        ValueError: a block is never closed.
    """
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        opening = FENCE.fullmatch(lines[number])
        if opening is None:
            number += 1
            continue
        closing = opening["indent"] + opening["ticks"]
        try:
            end = next(i for i in range(number + 1, len(lines)) if lines[i].rstrip() == closing)
        except StopIteration:
            raise ValueError(f"{path}:{number + 1}: found a block of code without an end") from None
        said = MARK.fullmatch(lines[number - 1]) if number else None
        inside = textwrap.dedent("\n".join(lines[number + 1 : end])) + "\n"
        yield Block(path, number + 1, opening["language"], inside, (said[1], said[2]) if said else None)
        number = end + 1


def of(*languages: str) -> list[Block]:
    """The blocks in these languages that nobody is said not to run."""
    return [
        block for block in blocks() if block.language in languages and not (block.mark and block.mark[0] == "not run:")
    ]


def commands_in(text: str) -> Iterator[list[str]]:
    """The commands of a block of shell lines as words: comments left out, pipes and `&&` taken apart, variables before a command dropped.

    Raises:
        ValueError: a line is no shell.
    """
    for line in re.sub(r"\\\n\s*", " ", text).split("\n"):
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word not in ("&&", "||", "|", ";"):
                words.append(word)
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                yield words
            words = []
