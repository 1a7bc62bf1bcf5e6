"""The argument that most commands begin with: which study."""

from __future__ import annotations

from typing import Any


def add_study(parser: Any) -> None:
    """Add it to a command."""
    parser.add_argument("study", help="a study's name (data/studies/NAME.toml), or the path of its TOML file")
