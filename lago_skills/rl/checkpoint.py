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
from lago_skills.errors import ArtifactCorrupt, ArtifactMissing, DiskFull, FormatTooNew

ARRAYS_FILE, VALUES_FILE = "arrays.safetensors", "values.json"
FORMAT = 2
"""2: one loop for all algorithms, optimisers as torch has them. What was written before has no number."""


def digest_of(arrays: Iterable[NDArray[Any]]) -> str:
    """SHA-256 of arrays: what a recipe names data by that has no file."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class Checkpoint:
    """Arrays and plain values by name; a name may be a path, `actor/body.0.weight`."""

    def __init__(self) -> None:
        self.arrays: dict[str, Tensor] = {}
        self.values: dict[str, Any] = {"format": FORMAT}

    def put(self, name: str, array: NDArray[Any] | Tensor) -> None:
        """Save an array."""
        self.arrays[name] = torch.as_tensor(array).detach().cpu().contiguous().clone()

    def array(self, name: str) -> NDArray[Any]:
        """A saved array."""
        return self.arrays[name].numpy()

    def put_module(self, name: str, module: torch.nn.Module) -> None:
        """Save the parameters of a network."""
        for key, value in module.state_dict().items():
            self.put(f"{name}/{key}", value)

    def load_module(self, name: str, module: torch.nn.Module) -> None:
        """Give a network its parameters back."""
        module.load_state_dict(self._under(name))

    def put_optimizer(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        """Save the moments of an optimiser, which all are tensors."""
        for number, moments in optimizer.state_dict()["state"].items():
            for key, value in moments.items():
                self.put(f"{name}/{number}/{key}", value)

    def load_optimizer(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        """Give an optimiser its moments back; its settings stay."""
        moments: dict[int, dict[str, Tensor]] = {}
        for path, value in self._under(name).items():
            number, key = path.split("/")
            moments.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})

    def put_generator(self, name: str, generator: np.random.Generator | torch.Generator) -> None:
        """Save the state of a random number generator."""
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
                no_room = any(f"os error {code}" in str(error) for code in (errno.ENOSPC, errno.EDQUOT))
                if no_room or (isinstance(error, OSError) and disk_is_full(error)):
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
            ArtifactCorrupt: the files are damaged, or of an earlier format.
            FormatTooNew: of a later one.
        """
        sweep(folder)  # a kill between the two renames of a swap leaves the one of before beside its place
        try:
            manifest = verify(folder)
        except ArtifactMissing:
            return None
        checkpoint = Checkpoint()
        try:
            checkpoint.values = json.loads((folder / VALUES_FILE).read_text(encoding="utf-8"))
            version = checkpoint.values.get("format", 1)
            if version == FORMAT and manifest.key == fingerprint(recipe):
                checkpoint.arrays = load_file(str(folder / ARRAYS_FILE))
                return checkpoint
        except (OSError, ValueError) as error:
            raise ArtifactCorrupt(
                f"checkpoint {str(folder)!r} cannot be read ({error}); expected what a training run writes; delete the folder to "
                "train from the beginning"
            ) from error
        if version == FORMAT:
            return None
        kind = FormatTooNew if version > FORMAT else ArtifactCorrupt
        raise kind(
            f"checkpoint {str(folder)!r}: found format {version} of an unfinished run; expected format {FORMAT}, since learners have changed; "
            "finish the run with the version that began it, or delete the folder to train from the beginning"
        )
