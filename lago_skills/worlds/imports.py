"""A user's own classes and functions, by their import path."""

from __future__ import annotations

import importlib
from typing import Any

from lago_skills.errors import StudyError


def imported(path: str) -> Any:
    """The object at `module:NAME`.

    Raises:
        Exception: whatever a user's module does at import.
    """
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def imported_for(setting: str, text: str, path: str, expected: str, *, made: bool = False) -> Any:
    """The object that a setting of a study names.

    Args:
        setting: the key of the study file, for messages.
        text: its whole value, for messages.
        path: the part of it that is an import path, `module:NAME`.
        expected: what is wanted, such as `MODULE:FUNCTION, observation -> action`.
        made: of a class, an object made without arguments is meant.

    Raises:
        StudyError: it cannot be imported or made; says why.
    """
    try:
        value = imported(path)
        return value() if made and isinstance(value, type) else value
    except Exception as error:  # whatever a user's module does at import
        raise StudyError(
            f"found {setting} = {text!r}, which cannot be imported ({type(error).__name__}: {error}); expected {expected}, importable from here; "
            "correct it or install the package"
        ) from error
