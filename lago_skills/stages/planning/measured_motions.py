"""Motions of data without playbooks: measured once and committed like the scenes, named by recorded answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from lago_skills.core import Segment, Task
from lago_skills.data.motion_clusters import Motion, Motions, find_motions, motion_segments
from lago_skills.errors import ArtifactMissing, PlanError
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner.ask import BEST
from lago_skills.planner.motion_names import Naming, read_names
from lago_skills.stages import collect
from lago_skills.stages.workspace import Workspace


def load(space: Workspace) -> dict[str, Motions]:
    """Measured motions, by task id; empty where nothing has been measured.

    Raises:
        PlanError: the file is not of this form.
    """
    path = space.motions
    if not path.exists():
        return {}
    try:
        raw: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {name: _motions(entry) for name, entry in raw.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise PlanError(
            f"motion file {str(path)!r} cannot be read ({error}); expected one JSON object with the motions of each task; restore "
            f"it from version control or make it with: lago plan {space.study.name} --segments"
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
    known = load(space)
    todo = [task for task in space.study.unplanned if again or task.id not in known]
    if not todo:
        return
    config = space.study.segment
    for task, episodes in _episodes(space, todo).items():
        known[task] = find_motions(
            task, episodes, space.study.grounding, config.penalty, config.min_steps, config.max_motions
        )
        say(f"{task}: {len(known[task].motions)} kinds of motion in {len(episodes)} episodes")
    path = space.motions
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"  {json.dumps(name)}: {json.dumps(asdict(motions))}" for name, motions in known.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    say(f"motions written to {path}; requests, and with them recorded answers, may change")


def _episodes(space: Workspace, tasks: list[Task]) -> dict[str, list[Any]]:
    try:
        collected = collect.load(space.collected)
    except ArtifactMissing as error:
        raise ArtifactMissing(
            f"tasks {[task.id for task in tasks]} are to be cut by change points, and their episodes are not there; expected "
            f"collected data; run: lago collect {space.study.name}"
        ) from error
    return {task.id: collected[task.id] for task in tasks}


def naming(space: Workspace, transcripts: TranscriptFile) -> Naming:
    """Names of the motions, as far as they have been measured and named.

    Raises:
        PlanError: the motion file cannot be read.
    """
    known = load(space)
    tasks = [(task, known[task.id]) for task in space.study.unplanned if task.id in known]
    model = space.study.plan.model
    return read_names(tasks, space.study.grounding, transcripts, None if model == BEST else model)


def complete(space: Workspace, transcripts: TranscriptFile) -> Naming:
    """The names of all motions.

    Raises:
        PlanError: motions have not been measured or named; says what to do.
    """
    study = space.study
    names = naming(space, transcripts)
    missing = [task.id for task in study.unplanned if task.id not in names.names]
    if missing:
        fault = f" ({names.fault})" if names.fault else ""
        raise PlanError(
            f"found no names for the motions of {', '.join(missing)}{fault}; expected a recorded answer, since segment.change_points "
            f"names them; record it with: lago plan {study.name} --live, or lago plan {study.name} --export requests.jsonl, then "
            f"lago plan {study.name} --import responses.jsonl --model NAME"
        )
    return names


def segments(space: Workspace, names: Naming, episodes: dict[str, list[Any]]) -> list[Segment]:
    """Named segments of all episodes that are cut by change points."""
    config, known = space.study.segment, load(space)
    named: list[Segment] = []
    for task in space.study.unplanned:
        named += motion_segments(
            known[task.id],
            episodes[task.id],
            space.study.grounding,
            config.penalty,
            config.min_steps,
            names.names[task.id],
        )
    return named
