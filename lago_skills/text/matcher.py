"""Which task a sentence asks for: the sentence model, trained further on recorded wordings.

Cosine similarity of plain sentence embeddings takes "open the drawer" and "close the drawer" for the same thing: what two
sentences are about outweighs what they want done. So the encoder itself is trained (`matcher_training`) to put the wordings
of one task near that task's prototype and away from all others, and sentences that fit no task near a prototype of their own.
What training changes is of low rank: half a megabyte beside the installed model, small enough to come with the package and
to go into a bundle; and asking takes NumPy alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.errors import ArtifactCorrupt
from lago_skills.text.sentence_model import LowRank, SentenceModel

SCALE = 20.0
"""Of cosines to prototypes before the softmax."""
NEAR = 1 / 3
"""A playbook is near where its task is at least so probable. (Fitting this to sentences kept back from training needs more of them that fit no task
than there are: of 60 a tenth.)"""
MATCHER_FILE = "matcher.safetensors"
PROTOTYPES, TASKS = "prototypes", "tasks"
DOWN, UP = ".down", ".up"


@dataclass(frozen=True)
class Match:
    """The answer to one sentence."""

    task: str | None
    """None where no playbook is near."""
    nearest: str
    score: float
    """Probability, 0 to 1."""
    runner_up: str
    runner_up_score: float


class WordingMatcher:
    """A sentence model, a prototype (384,) per task and one for sentences that fit none."""

    def __init__(
        self,
        tasks: tuple[str, ...],
        changes: Mapping[str, LowRank],
        prototypes: NDArray[np.float32],
    ) -> None:
        """A matcher of what training came to.

        Args:
            tasks: ids.
            changes: of the sentence model's weights.
            prototypes: (n_tasks + 1, 384), unit rows; the last is that of no task.

        Raises:
            ModuleNotFoundError: the sentence model is not installed.
            ArtifactCorrupt: what is installed is another one.
        """
        self.tasks = tasks
        self._changes = dict(changes)
        self._prototypes = prototypes
        self._model = SentenceModel(changes)

    def probabilities(self, sentences: list[str]) -> NDArray[np.float64]:
        """(B, n_tasks + 1): how probable each task is, and, last, that none is meant."""
        logits = SCALE * self._model(sentences).astype(np.float64) @ self._prototypes.T.astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        return odds / odds.sum(axis=1, keepdims=True)

    def match(self, sentences: list[str], among: Collection[str] | None = None) -> list[Match]:
        """The task that each sentence asks for, with its probability and the runner-up; of some tasks alone, where they are `among` others."""
        if not sentences:
            return []
        columns = [number for number, task in enumerate(self.tasks) if among is None or task in among]
        matches: list[Match] = []
        for row in self.probabilities(sentences)[:, columns]:
            order = np.argsort(-row, kind="stable")
            first, second = int(order[0]), int(order[min(1, len(order) - 1)])
            nearest, runner_up = self.tasks[columns[first]], self.tasks[columns[second]]
            near = nearest if row[first] >= NEAR else None
            matches.append(Match(near, nearest, float(row[first]), runner_up, float(row[second])))
        return matches

    def save(self, path: Path) -> None:
        """Write tasks, changes and prototypes; half precision is enough for them."""
        halves = {f"{name}{DOWN}": down.astype(np.float16) for name, (down, _) in self._changes.items()}
        halves |= {f"{name}{UP}": up.astype(np.float16) for name, (_, up) in self._changes.items()}
        halves[PROTOTYPES] = self._prototypes.astype(np.float16)
        tasks = np.frombuffer("\n".join(self.tasks).encode(), np.uint8)
        save_arrays({**halves, TASKS: tasks}, path)

    @staticmethod
    def load(path: Path) -> WordingMatcher:
        """Read what `save` wrote.

        Raises:
            ArtifactCorrupt: the file is missing or damaged, or the installed sentence model is not the expected one.
            ModuleNotFoundError: no sentence model is installed.
        """
        arrays = load_arrays(path)
        try:
            tasks = tuple(arrays.pop(TASKS).tobytes().decode().split("\n"))
            prototypes = arrays.pop(PROTOTYPES).astype(np.float32)
            names = [name.removesuffix(DOWN) for name in arrays if name.endswith(DOWN)]
            changes = {n: (arrays[n + DOWN].astype(np.float32), arrays[n + UP].astype(np.float32)) for n in names}
        except (KeyError, UnicodeDecodeError) as error:
            raise ArtifactCorrupt(
                f"{str(path)!r} is no matcher ({error}); expected what training one writes; delete it and train again (lago plan find)"
            ) from error
        return WordingMatcher(tasks, changes, prototypes)
