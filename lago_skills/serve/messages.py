"""Messages of the websocket and of the binary HTTP form: msgpack with arrays, as openpi's policy servers have made common. Never pickle.

An array is a map `{__ndarray__: true, data: bytes, dtype: "<f4", shape: [..]}` whose keys are bytes; a scalar of NumPy `{__npgeneric__: true, data, dtype}`.
Format: https://github.com/Physical-Intelligence/openpi, `openpi_client/msgpack_numpy.py`.
"""

# msgpack has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
from typing import Any, cast

import msgpack
import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import ShapeError

KINDS = "biuf"
"""Kinds of arrays that may be sent: truths, whole numbers, floating-point numbers."""


def packed(value: Any) -> bytes:
    """A message of plain values and arrays."""
    return cast("bytes", msgpack.packb(value, default=_array))


def read(data: bytes) -> Any:
    """What `packed` wrote, here or elsewhere.

    Raises:
        ShapeError: it is no such message, or an array in it is none.
    """
    try:
        return msgpack.unpackb(data, object_hook=_value, strict_map_key=False)
    except ShapeError:
        raise
    except Exception as error:  # msgpack raises half a dozen classes, and ours wrap what NumPy says
        raise ShapeError(
            f"message: found {len(data)} bytes that are no msgpack ({type(error).__name__}: {error}); expected a map with an observation; pack it with msgpack"
        ) from error


def _array(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": list(value.shape)}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"cannot be sent: {type(value).__name__}")


def _value(entry: dict[Any, Any]) -> Any:
    marked = "__ndarray__" if "__ndarray__" in entry else b"__ndarray__"
    if marked in entry:
        return _read_array({key if isinstance(key, bytes) else str(key).encode(): each for key, each in entry.items()})
    if b"__npgeneric__" in entry:
        return _dtype(entry.get(b"dtype")).type(entry.get(b"data"))
    return entry


def _read_array(entry: dict[bytes, Any]) -> NDArray[Any]:
    """An array that owns its memory."""
    data, dtype, shape = entry.get(b"data"), _dtype(entry.get(b"dtype")), entry.get(b"shape")
    if not isinstance(data, bytes) or not isinstance(shape, list | tuple):
        raise ShapeError(
            "message: found an array without data, dtype and shape; expected all three, as openpi's msgpack_numpy writes them; pack it with that"
        )
    sizes = [
        size for size in cast("list[Any]", shape) if isinstance(size, int) and not isinstance(size, bool) and size >= 0
    ]
    n_bytes = math.prod(sizes) * dtype.itemsize
    if len(sizes) != len(cast("list[Any]", shape)) or len(sizes) > 4 or n_bytes != len(data):
        raise ShapeError(
            f"message: found an array of shape {shape} and dtype {dtype} in {len(data)} bytes; expected {n_bytes}; send the array whole"
        )
    return np.frombuffer(data, dtype).reshape(sizes).copy()


def _dtype(text: Any) -> np.dtype[Any]:
    try:
        dtype = np.dtype(text if isinstance(text, str) else "O")
    except TypeError:
        dtype = np.dtype("O")
    if dtype.kind not in KINDS or dtype.subdtype is not None:
        raise ShapeError(
            f"message: found an array of dtype {str(text)[:40]!r}; expected numbers or truths, such as '<f4'; convert it"
        )
    return dtype
