"""Motions of data without playbooks: measured once and committed like the scenes, named by recorded answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lago_skills.core import Episode, Segment, Task
from lago_skills.data.config import SegmentConfig
from lago_skills.data.motion_clusters import Motion, Motions, find_motions, motion_segments
from lago_skills.errors import ArtifactMissing, PlanError
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner.ask import BEST
from lago_skills.planner.motion_names import Naming, read_names
from lago_skills.stages import collect
from lago_skills.stages.workspace import Workspace
from lago_skills.study import Study
from lago_skills.worlds.grounding import Grounding

Episodes = Mapping[str, list[Episode]]
"""By task id."""


def load(path: Path) -> dict[str, Motions]:
    """Measured motions, by task id; empty where nothing has been measured.

    Raises:
        PlanError: the file is not of this form.
    """
    if not path.exists():
        return {}
    try:
        raw: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {name: _motions(entry) for name, entry in raw.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise PlanError(
            f"motion file {str(path)!r} cannot be read ({error}); expected one JSON object with the motions of each task; restore "
            f"it from version control or make it with: lago plan {path.stem} --segments"
        ) from error


def _motions(entry: dict[str, Any]) -> Motions:
    motions: list[Motion] = []
    for motion in entry["motions"]:
        changed: dict[str, Any] = {**motion, "action": tuple(motion["action"]), "centre": tuple(motion["centre"])}
        motions.append(Motion(**changed))
    changed = {**entry, "motions": tuple(motions)}
    for name in ("feature_scale", "action_mean", "action_scale"):
        changed[name] = tuple(entry[name])
    return Motions(**changed)


def measure(space: Workspace, say: Callable[[str], None], *, again: bool) -> None:
    """Find the motions of tasks without playbooks and keep them; without `again`, only of tasks that have none yet.

    Requests quote these numbers, and the keys of recorded answers must be the same on every machine: so they are measured
    once, and new data is compared with them.

    Raises:
        ArtifactMissing: a task's episodes have not been collected.
    """
    known = load(space.motions)
    todo = [task for task in space.study.unplanned if again or task.id not in known]
    if not todo:
        return
    for task, episodes in _episodes(space.study, space.collected, todo).items():
        known[task] = motions_of(task, episodes, space.study.grounding, space.study.segment)
        say(f"{task}: {len(known[task].motions)} kinds of motion in {len(episodes)} episodes")
    save(known, space.motions)
    say(f"motions written to {space.motions}; requests, and with them recorded answers, may change")


def motions_of(task: str, episodes: list[Episode], grounding: Grounding, config: SegmentConfig) -> Motions:
    """The kinds of motion between the change points of a task's episodes."""
    return find_motions(task, episodes, grounding, config.penalty, config.min_steps, config.max_motions)


def save(known: Mapping[str, Motions], path: Path) -> None:
    """Write motions, a line for each task."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"  {json.dumps(name)}: {json.dumps(asdict(motions))}" for name, motions in known.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _episodes(study: Study, folders: Mapping[str, Path], tasks: list[Task]) -> dict[str, list[Episode]]:
    try:
        collected = collect.load(folders)
    except ArtifactMissing as error:
        raise ArtifactMissing(
            f"tasks {[task.id for task in tasks]} are to be cut by change points, and their episodes are not there; expected "
            f"collected data; run: lago collect {study.name}"
        ) from error
    return {task.id: collected[task.id] for task in tasks}


def naming(study: Study, known: Mapping[str, Motions], transcripts: TranscriptFile) -> Naming:
    """Names of the motions of a study's tasks, as far as they have been measured and named."""
    tasks = [(task, known[task.id]) for task in study.unplanned if task.id in known]
    model = study.plan.model
    return read_names(tasks, study.grounding, transcripts, None if model == BEST else model)


def complete(study: Study, known: Mapping[str, Motions], transcripts: TranscriptFile) -> Naming:
    """The names of all motions of a study's tasks.

    Raises:
        PlanError: motions have not been measured or named; says what to do.
    """
    names = naming(study, known, transcripts)
    missing = [task.id for task in study.unplanned if task.id not in names.names]
    if missing:
        fault = f" ({names.fault})" if names.fault else ""
        raise PlanError(
            f"found no names for the motions of {', '.join(missing)}{fault}; expected a recorded answer, since segment.change_points "
            f"names them; record it with: lago plan {study.name} --live, or lago plan {study.name} --export requests.jsonl, then "
            f"lago plan {study.name} --import responses.jsonl --model NAME"
        )
    return names


def segments(study: Study, known: Mapping[str, Motions], names: Naming, episodes: Episodes) -> list[Segment]:
    """Named segments of all episodes that are cut by change points."""
    config = study.segment
    named: list[Segment] = []
    for task in study.unplanned:
        named += motion_segments(
            known[task.id],
            episodes[task.id],
            study.grounding,
            config.penalty,
            config.min_steps,
            names.names[task.id],
        )
    return named
