"""Pickled files, read without running anything that they name. The only door to pickle.

A pickle may call any function while it is loaded. Here it gets NumPy's own array makers, the plain containers and nothing else: every other class
or function that it names is an `Inert` object, which holds what the pickle says of it and does nothing.
"""

from __future__ import annotations

import collections
import pickle  # noqa: TID251  (read through `find_class` below alone)
from pathlib import Path
from typing import Any, cast

import numpy as np

from lago_skills.errors import DataError


def _bytes(text: str, coding: str = "latin1") -> bytes:
    return text.encode(coding)


_ARRAYS = {
    "_reconstruct": "numpy._core.multiarray",
    "scalar": "numpy._core.multiarray",
    "_frombuffer": "numpy._core.numeric",
}
_PLAIN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _bytes,  # how the second protocol writes them
}


class Inert:
    """An object of a class that is not loaded: its attributes, and the name of the class."""

    name = ""
    """Import path of the class, `module:Name`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        """Whatever it would be made of."""
        del args, kwargs
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        parts = cast("tuple[Any, ...]", state) if isinstance(state, tuple) else (state,)
        for part in parts:  # attributes, or those beside `__slots__`
            if isinstance(part, dict):
                self.__dict__.update(cast("dict[str, Any]", part))

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None:
        """Of a list of a class of its own: left out."""

    def extend(self, items: Any) -> None:
        """Of a list of a class of its own: left out."""

    def add(self, item: Any) -> None:
        """Of a set of a class of its own: left out."""


class _Unpickler(pickle.Unpickler):  # noqa: S301  (it finds nothing that could be called)
    def find_class(self, module: str, name: str) -> Any:
        if name in _ARRAYS and module in (_ARRAYS[name], _ARRAYS[name].replace("._core", ".core")):
            return super().find_class(_ARRAYS[name], name)
        known = _PLAIN.get((module, name))
        return known if known is not None else type("Inert", (Inert,), {"name": f"{module}:{name}"})

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"something outside the file, {str(pid)[:40]!r}")


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins so is a pickle of the second protocol or a later one."""
    return len(head) >= 2 and head[0] == 0x80 and 2 <= head[1] <= pickle.HIGHEST_PROTOCOL


def load_inert(path: Path) -> Any:
    """What a pickled file holds: arrays, numbers, texts and containers of them as they are, all else as `Inert`.

    Raises:
        DataError: it is damaged, or cannot be read without running it.
    """
    try:
        with path.open("rb") as stream:
            return _Unpickler(stream).load()
    except Exception as error:  # damaged pickles fail in every way there is
        raise DataError(
            f"data {str(path)!r} cannot be read ({type(error).__name__}: {error}); expected a pickle of arrays, as Stable-Baselines3's save_replay_buffer writes "
            "it; write it again, or its arrays with np.savez"
        ) from error
