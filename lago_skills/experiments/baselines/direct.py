"""The language model as direct controller in the latent table: which start states it is asked about, and how its answers are followed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.errors import TranscriptMissing
from lago_skills.experiments.baselines.controllers import act
from lago_skills.llm.transcripts import Request, TranscriptFile
from lago_skills.planner.waypoints import NEAR_M, PATIENCE, Waypoint, read_waypoints, waypoints_request
from lago_skills.study import Study
from lago_skills.worlds.grounding import Grounding

TASKS = ("push-wall", "window-close", "drawer-open")
"""Without demonstrations: around a wall, along a rail, by a handle."""
STARTS = 10
"""Start states of each, the first ones that seed 0 of every other row begins in."""


def requests(study: Study) -> list[Request]:
    """One request for each task and start state that the study has."""
    from lago_skills.worlds.seeds import EVAL_SEED

    ours = {task.id: task for task in study.all_tasks}
    chosen = [ours[name] for name in TASKS if name in ours]
    return [request for task in chosen for request in _requests(study, task, [EVAL_SEED + i for i in range(STARTS)])]


def missing(study: Study, transcripts: TranscriptFile) -> list[Request]:
    """Those that nobody has answered."""
    known = {transcript.key for transcript in transcripts.all()}
    return [request for request in requests(study) if request.key not in known]


def motions(study: Study, transcripts: TranscriptFile, task: Task, seeds: list[int]) -> list[tuple[Waypoint, ...]]:
    """The recorded motion for each start state.

    Raises:
        TranscriptMissing: a start state has no answer.
        PlanError: an answer is no motion.
    """
    recorded: list[tuple[Waypoint, ...]] = []
    for request in _requests(study, task, seeds):
        answer = transcripts.get(request)
        if answer is None:
            raise TranscriptMissing(
                f"no motion is recorded for {request.name!r}; expected one for each of the first {STARTS} start states of seed 0 "
                f"({', '.join(TASKS)}); measure those with --episodes {STARTS} --seeds 0, or record them with: lago plan "
                f"{study.name} --direct --live, or --direct --export and --direct --import"
            )
        recorded.append(read_waypoints(answer.response, request.name))
    return recorded


def _requests(study: Study, task: Task, seeds: list[int]) -> list[Request]:
    env = study.load_world().make(task.id)
    starts = [env.reset(seed=seed)[0] for seed in seeds]
    env.close()
    return [waypoints_request(task, study.grounding, start, seed) for start, seed in zip(starts, seeds, strict=True)]


@dataclass
class WaypointController:
    """Follows a motion for each episode: clip(gain * (waypoint - effector)), one waypoint after the other."""

    waypoints: list[tuple[Waypoint, ...]]
    """By the number of the episode."""
    grounding: Grounding
    gain: float
    _at: dict[int, tuple[int, int, int]] = field(default_factory=dict[int, tuple[int, int, int]])
    """Of each episode: waypoint, control steps towards it, control steps waited there."""

    def __call__(self, observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, S) observations and (B,) numbers of the episodes they are of -> (B, A) actions."""
        effector = self.grounding.read(observations).anchors[:, 0]
        moves, closed = np.zeros((len(effector), 3)), list[bool]()
        numbers: list[int] = episodes.tolist()
        for row, episode in enumerate(numbers):
            motion = self.waypoints[episode]
            point, towards, waited = self._at.get(episode, (0, 0, 0))
            way = np.array(motion[point].position) - effector[row]
            there = waited > 0 or np.linalg.norm(way) < NEAR_M or towards >= PATIENCE
            if there and waited >= motion[point].wait and point + 1 < len(motion):
                point, towards, waited = point + 1, 0, 0
                way = np.array(motion[point].position) - effector[row]
            elif there:
                waited += 1
            else:
                towards += 1
            self._at[episode] = (point, towards, waited)
            moves[row] = self.gain * way
            closed.append(motion[point].closed)
        return act(moves, np.array(closed))
