"""The whole state of a training run on disk, so that a run that was killed goes on as if it had not been. No pickle.

A checkpoint is one folder that is put in place by renaming: `arrays.safetensors` and `values.json`. The one before stays until then.
"""

# torch and safetensors leave some types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from lago_skills.artifacts.folder import disk_is_full, fingerprint, sweep, verify, writing
from lago_skills.errors import ArtifactCorrupt, ArtifactMissing, DiskFull

ARRAYS_FILE, VALUES_FILE = "arrays.safetensors", "values.json"
FORMAT = 2
"""2: one loop for all algorithms, optimisers as torch has them. What was written before has no number."""


def digest_of(arrays: Iterable[NDArray[Any]]) -> str:
    """SHA-256 of arrays: what a recipe names data by that has no file."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


class Checkpoint:
    """Arrays and plain values by name; a name may be a path, `actor/body.0.weight`."""

    def __init__(self) -> None:
        self.arrays: dict[str, Tensor] = {}
        self.values: dict[str, Any] = {"format": FORMAT}

    def put(self, name: str, array: NDArray[Any] | Tensor) -> None:
        """Keep an array."""
        self.arrays[name] = torch.as_tensor(array).detach().contiguous().clone()

    def array(self, name: str) -> NDArray[Any]:
        """A kept array."""
        return self.arrays[name].numpy()

    def put_module(self, name: str, module: torch.nn.Module) -> None:
        """Keep the parameters of a network."""
        for key, value in module.state_dict().items():
            self.put(f"{name}/{key}", value)

    def load_module(self, name: str, module: torch.nn.Module) -> None:
        """Give a network its parameters back."""
        module.load_state_dict(self._under(name))

    def put_generator(self, name: str, generator: np.random.Generator | torch.Generator) -> None:
        """Keep the state of a random number generator."""
        if isinstance(generator, torch.Generator):
            self.put(name, generator.get_state())
        else:
            self.values[name] = generator.bit_generator.state

    def load_generator(self, name: str, generator: np.random.Generator | torch.Generator) -> None:
        """Give a generator its state back."""
        if isinstance(generator, torch.Generator):
            generator.set_state(self.arrays[name])
        else:
            generator.bit_generator.state = self.values[name]

    def _under(self, name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}/"): value for key, value in self.arrays.items() if key.startswith(f"{name}/")}

    def save(self, folder: Path, recipe: dict[str, Any]) -> None:
        """Put this in the place of what is in the folder, which is kept until this is whole.

        Raises:
            DiskFull: no room; the former checkpoint stays.
        """
        with writing(folder, "checkpoint", recipe) as writer:
            try:
                save_file(self.arrays, str(writer.path / ARRAYS_FILE))
            except Exception as error:  # safetensors raises a class of its own for what the system says
                said = any(f"os error {code}" in str(error) for code in (errno.ENOSPC, errno.EDQUOT))
                if said or (isinstance(error, OSError) and disk_is_full(error)):
                    raise DiskFull(
                        f"the disk of {str(folder.parent)!r} is full while writing checkpoint {folder.name!r}; expected room for "
                        "it; free some space (the former checkpoint is kept)"
                    ) from error
                raise
            (writer.path / VALUES_FILE).write_text(json.dumps(self.values), encoding="utf-8")

    @staticmethod
    def load(folder: Path, recipe: dict[str, Any]) -> Checkpoint | None:
        """What was saved for this very recipe; None where there is nothing, or something else.

        Raises:
            ArtifactCorrupt: the files are damaged.
        """
        sweep(folder)  # a kill between the two renames of a swap leaves the one of before beside its place
        try:
            manifest = verify(folder)
        except ArtifactMissing:
            return None
        if manifest.key != fingerprint(recipe):
            return None
        found = Checkpoint()
        try:
            found.arrays = load_file(str(folder / ARRAYS_FILE))
            found.values = json.loads((folder / VALUES_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArtifactCorrupt(
                f"checkpoint {str(folder)!r} cannot be read ({error}); expected what a training run writes; delete the folder to "
                "train from the beginning"
            ) from error
        return found
