"""What the sections of a study have to agree on; a contradiction is refused with a sentence."""

from __future__ import annotations

import itertools
from pathlib import Path

from lago_skills.errors import StudyError
from lago_skills.rl.methods import TRAINABLE
from lago_skills.study.study import Study


def check_study(study: Study, path: Path) -> None:
    """Refuse a study whose parts contradict each other.

    Raises:
        StudyError: says which, and what to do.
    """
    for check in (_check_names, _check_tasks, _check_sentences, _check_data, _check_train):
        check(study, path)


def _check_names(study: Study, path: Path) -> None:
    if study.name != path.stem:
        raise StudyError(
            f"study {str(path)!r}: found name = {study.name!r}; expected {path.stem!r}, as the file is called, since artifacts "
            "are kept by name; rename one of them"
        )
    if study.environment is not None and "world" in study.model_fields_set:
        raise StudyError(
            f"study {str(path)!r}: found [world] use = {study.world.use!r} and [environment]; expected one of them, since both say what the "
            "tasks are of; remove one"
        )
    if study.gym is None and (homeless := [task.id for task in study.tasks.own if task.env_id is None]):
        raise StudyError(
            f"study {str(path)!r}: found own task {homeless[0]!r} without env_id; expected a Gymnasium id, as the world has none of its own; add it"
        )


def _check_tasks(study: Study, path: Path) -> None:
    groups = {"seen": study.seen, "unseen": study.unseen, "planned": study.planned}
    names = {task.id for task in (*study.seen, *study.unseen)}
    for (one, first), (two, second) in itertools.combinations(groups.items(), 2):
        overlap = {task.id for task in first} & {task.id for task in second}
        if overlap:
            raise StudyError(
                f"study {str(path)!r}: found {sorted(overlap)} in both tasks.{one} and tasks.{two}; expected each task once; "
                "remove it from one of them"
            )
    for task in study.find(study.train.tasks):
        if task.id not in names:
            raise StudyError(
                f"study {str(path)!r}: found {task.id!r} in train.tasks; expected a task of tasks.seen or tasks.unseen; "
                "add it there too"
            )


def _check_sentences(study: Study, path: Path) -> None:
    """Two tasks with one sentence could not be told apart: not by the planner, and not by who asks for one of them."""
    known: dict[str, str] = {}
    for task in study.all_tasks:
        sentence = " ".join(task.sentence.casefold().split())
        if sentence in known:
            raise StudyError(
                f"study {str(path)!r}: found tasks {known[sentence]!r} and {task.id!r} with the same sentence {short(task.sentence)}; "
                "expected one of its own for each, since tasks are told apart by their sentences; change one of them"
            )
        known[sentence] = task.id


def _check_data(study: Study, path: Path) -> None:
    seen = {task.id for task in study.seen}
    for source in study.data:
        if source.task is not None and source.task not in seen:
            raise StudyError(
                f"study {str(path)!r}: found data {source.name!r} of task {source.task!r}; expected a task of tasks.seen; add "
                "it there, or correct task"
            )
    for task in study.seen:
        if not study.sources(task) and not study.collect.episodes_per_task:
            raise StudyError(
                f"study {str(path)!r}: found collect.episodes_per_task = 0 and no [[data]] of task {task.id!r}; expected one of "
                "them, since a seen task needs episodes; add one"
            )
    for task in study.unplanned:
        if task.id not in seen:
            raise StudyError(
                f"study {str(path)!r}: found {task.id!r} in segment.change_points; expected a task of tasks.seen, since only "
                "those have data; correct it"
            )


def _check_train(study: Study, path: Path) -> None:
    config = study.train
    for what, values in (("algorithms", config.algorithms), ("seeds", config.seeds), ("tasks", config.tasks)):
        if len(set(values)) != len(values):
            raise StudyError(
                f"study {str(path)!r}: found train.{what} = {values}; expected each once; remove what is repeated"
            )
    for name in config.algorithms:
        if name not in TRAINABLE:
            raise StudyError(
                f"study {str(path)!r}: found {name!r} in train.algorithms; expected one of {list(TRAINABLE)}; correct it"
            )


def short(value: object) -> str:
    """A value as messages show it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}... ({len(text)} characters)"
