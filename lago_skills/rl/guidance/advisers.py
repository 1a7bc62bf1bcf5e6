"""Where the priors of a training run come from: a skill library, or any guide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Neighbors
from lago_skills.errors import ShapeError, StudyError
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.retrieval import Retrieval
from lago_skills.guide.together import joined_together
from lago_skills.prior import Prior
from lago_skills.worlds.grounding import State


class AnyGuide(Protocol):
    """Knows a prior, over continuous or discrete actions, for each observation of a task; `lago_skills.guide.guides.Guide` is one."""

    def prior(self, observations: NDArray[Any], task: str) -> Prior:
        """(B, S) observations -> prior over actions."""
        ...


class GuideAdviser:
    """Any guide, for several tasks."""

    plan_shape: tuple[int, int] = (0, 0)

    def __init__(self, guide: AnyGuide, tasks: Sequence[str]) -> None:
        self.guide, self.tasks = guide, tuple(tasks)

    def prior(
        self, observations: NDArray[Any], tasks: NDArray[np.int64], shifts: Sequence[NDArray[np.float64] | None]
    ) -> Prior:
        """(B, S) observations of (B,) tasks -> the prior of each; shifts mean nothing to it."""

        def of_task(rows: NDArray[np.int64], task: int) -> Prior:
            return self.guide.prior(observations[rows], self.tasks[task])

        return by_task(tasks, of_task)


class LibraryAdviser:
    """A library's guide, whose playbooks can be shifted for exploration.

    Raises:
        StudyError: the guide has no playbook of a task.
    """

    def __init__(self, guide: LibraryGuide, tasks: Sequence[str]) -> None:
        if unknown := [task for task in tasks if task not in guide.books]:
            raise StudyError(
                f"found no playbook for {', '.join(map(repr, unknown))} in this bundle; expected one of {sorted(guide.books)}; "
                "plan the task and build the bundle again"
            )
        self.guide, self.tasks = guide, tuple(tasks)
        n_steps, target_size = (
            max(len(guide.books[task].steps) for task in tasks),
            guide.grounding.vocabulary.target_size,
        )
        self.plan_shape = (n_steps, target_size) if target_size else (0, 0)

    def prior(
        self, observations: NDArray[Any], tasks: NDArray[np.int64], shifts: Sequence[NDArray[np.float64] | None]
    ) -> Prior:
        """(B, S) observations of (B,) tasks, the targets of each moved by its shift -> the prior of each."""
        if (tasks == tasks[0]).all():
            retrieval = self.guide.retrieve(observations, self.tasks[int(tasks[0])])
        else:
            places = [np.flatnonzero(tasks == task) for task in np.unique(tasks)]
            parts = [self.guide.retrieve(observations[rows], self.tasks[int(tasks[rows[0]])]) for rows in places]
            state = self.guide.grounding.read(np.asarray(observations, np.float64))
            retrieval = joined(parts, np.argsort(np.concatenate(places)), state)
        for row, shift in enumerate(shifts):
            if shift is not None:
                retrieval.targets[row] += shift[retrieval.steps[row]]
        return self.guide.decode(retrieval)  # once for all tasks: the decoder costs more than what is looked up


def joined(retrievals: Sequence[Retrieval], order: NDArray[np.int64], state: State) -> Retrieval:
    """What was looked up for rows of several tasks as one, in the order given; `state` is of all of them in that order."""
    ids, scores = (
        np.concatenate([getattr(each.neighbors, name) for each in retrievals])[order] for name in ("ids", "scores")
    )
    queries, steps, targets, weights, latents = (
        np.concatenate([getattr(each, name) for each in retrievals])[order]
        for name in ("queries", "steps", "targets", "weights", "latents")
    )
    about = [each.subjects for each in retrievals if each.subjects is not None]
    subjects = np.concatenate(about)[order] if len(about) == len(retrievals) else None
    paces = None
    if any(each.paces is not None for each in retrievals):
        of_each = [np.ones(len(each.steps), np.float32) if each.paces is None else each.paces for each in retrievals]
        paces = np.concatenate(of_each)[order]
    beside = [each.together for each in retrievals if each.together is not None]
    together = joined_together(beside, order) if len(beside) == len(retrievals) else None
    return Retrieval(
        state, queries, steps, targets, Neighbors(ids, scores), weights, latents, subjects, paces, together
    )


def by_task(tasks: NDArray[np.int64], of_task: Callable[[NDArray[np.int64], int], Prior]) -> Prior:
    """Priors of rows of several tasks, put together; all of one kind, one number of components and one floor, as one guide's are.

    Raises:
        ShapeError: they are not.
    """
    different = np.unique(tasks)
    if len(different) == 1:
        return of_task(np.arange(len(tasks)), int(different[0]))
    rows_by_task = [np.flatnonzero(tasks == task) for task in different]
    parts = [of_task(rows, int(task)) for rows, task in zip(rows_by_task, different, strict=True)]
    shapes = {(type(part).__name__, part.weights.shape[1], part.floor) for part in parts}
    if len(shapes) > 1:
        raise ShapeError(
            f"prior: found {' and '.join(f'{kind} of {k} components with floor {floor}' for kind, k, floor in sorted(shapes))} from one guide; "
            "expected the same of all tasks; train the tasks apart, or make the guide's priors alike"
        )
    order = np.argsort(np.concatenate(rows_by_task))
    arrays = {
        each.name: np.concatenate([getattr(part, each.name) for part in parts])[order]
        for each in fields(parts[0])
        if each.name != "floor"
    }
    return replace(parts[0], **arrays)
