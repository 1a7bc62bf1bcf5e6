"""Named NumPy arrays on disk as safetensors: no pickle, no code. The only door to safetensors for NumPy."""

# safetensors leaves the path type open.
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from lago_skills.errors import ArtifactCorrupt


def save_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write arrays by name. A full disk is an `OSError` here, not safetensors' own error without a number."""
    path.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read arrays by name.

    Raises:
        ArtifactCorrupt: the file is missing or not safetensors.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactCorrupt(
            f"arrays in {str(path)!r} cannot be read ({error}); expected safetensors written by this package; "
            "delete the folder and run the stage that made it again"
        ) from error
