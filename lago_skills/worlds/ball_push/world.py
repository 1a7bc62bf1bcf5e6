"""Ball push as a world: a task for each goal, which observations hold beside the balls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Step, Task
from lago_skills.errors import StudyError
from lago_skills.worlds.ball_push.balls import COLOURS, N_ACTIONS, N_DIRECTIONS, PUSH_NAMES, Floats, action_name
from lago_skills.worlds.ball_push.goals import GOAL_SIZE, Goal
from lago_skills.worlds.ball_push.grounding import BallPushGrounding
from lago_skills.worlds.ball_push.observed import colours_of, goals_in, positions_in
from lago_skills.worlds.ball_push.tasks import BALL_PUSH_TASKS, GOALS, GROUPS, SEPARATOR
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.interface import Entry, Interface
from lago_skills.worlds.offscreen import prepare_rendering
from lago_skills.worlds.world import Demonstrator, Env, EpisodeSoFar, Provenance, World

PACKAGE = "mujoco"
CONTROL_HZ = 2.5
ROLES = ("moved", "reference", "first other", "second other", "third other")
REWARDS, DEMONSTRATORS = ("sparse", "progress"), ("planner", "rule")


class BallPushWorld(World):
    """Five balls, forty pushes; a task is solved when its goal holds.

    Observations are the ten coordinates and the goal's 64 numbers.

    Args:
        by_role: whether balls, in observations and actions alike, are numbered by the role that the goal gives them: the ball to be moved, its reference, the others.
            Whoever learns from them then need not find out that balls are alike. Else they are numbered by their colours, as published benchmarks have it, and
            demonstrations are varied by renumbering them.
        side_told: whether a decoder is told on which side of the reference the ball is wanted; else only a skill's sentence says so.
        demonstrator: `planner` looks ahead with the planar twin; `rule` knows only how far a push goes.

    Raises:
        StudyError: no such demonstrator.
    """

    name = "ball-push"
    groups: Mapping[str, tuple[str, ...]] = GROUPS
    tasks: Mapping[str, Task] = BALL_PUSH_TASKS
    plays_on = True

    def __init__(self, *, by_role: bool = False, side_told: bool = True, demonstrator: str = "planner") -> None:
        if demonstrator not in DEMONSTRATORS:
            raise StudyError(
                f"world {self.name!r}: found demonstrator = {demonstrator!r}; expected one of {', '.join(DEMONSTRATORS)}; correct it"
            )
        self.by_role, self.side_told, self._demonstrator = by_role, side_told, demonstrator
        self.grounding: Grounding = BallPushGrounding(by_role=by_role, side_told=side_told)

    def make(self, task: str, *, reward: str = "sparse", rendered: bool = False) -> Env:
        """An environment of a task's goal.

        Raises:
            StudyError: no such task or reward, or MuJoCo or Gymnasium is not installed.
        """
        (known,) = self.find([task])
        if reward not in REWARDS:
            raise StudyError(f"found reward {reward!r}; expected one of {', '.join(REWARDS)}; correct it")
        try:
            if rendered:
                prepare_rendering()
            from lago_skills.worlds.ball_push.by_role import ByRole
            from lago_skills.worlds.ball_push.env import BallPush

            level, goal = GOALS[known.id]
            mode = "rgb_array" if rendered else None
            env = BallPush(level, reward=reward, goal=goal, observe_goal=True, render_mode=mode)
        except ImportError as error:
            raise StudyError(
                f"world {self.name!r}: found no {PACKAGE} here ({error}); expected it; install it with: pip install 'lago-skills[ball-push]'"
            ) from error
        return cast("Env", ByRole(env) if self.by_role else env)

    def success(self, so_far: EpisodeSoFar) -> bool:
        """Whether the goal holds; of an easy one, whether the action pushed its ball its way."""
        return bool(so_far.infos[-1]["success"])

    @property
    def success_text(self) -> str:
        """As the released original judges."""
        return "the goal holds: on the named side of the reference and nearer than 0.391 m; of an easy one, by the action alone"

    def demonstrator(self, task: str) -> Demonstrator:
        """A planner with the planar twin, or a rule; reads observations however their balls are numbered."""
        from lago_skills.worlds.ball_push.demonstrators import plan, rule

        (known,) = self.find([task])
        _, goal = GOALS[known.id]
        return self._showing(goal, plan if self._demonstrator == "planner" else rule)

    @staticmethod
    def _showing(goal: Goal, chooses: Callable[[Floats, Goal], int]) -> Demonstrator:
        def show(observation: NDArray[np.float64]) -> int:
            by_colour = np.argsort(colours_of(goal, observation))
            ball, direction = divmod(chooses(positions_in(observation[None])[0, by_colour], goal), N_DIRECTIONS)
            return int(N_DIRECTIONS * by_colour[ball] + direction)

        return show

    def rules(self, task: str) -> Mapping[str, Demonstrator]:
        """`aim`, ten lines; and `rule`, which knows how balls give way and where there is room. Both are told the goal as data."""
        from lago_skills.worlds.ball_push.demonstrators import aim_at_goal, rule

        (known,) = self.find([task])
        _, goal = GOALS[known.id]
        return {"aim": self._showing(goal, aim_at_goal), "rule": self._showing(goal, rule)}

    def follower(self, step: Step) -> Demonstrator | None:
        """`aim`, for one step of a plan: the same ten lines; None where balls are numbered by their roles, which have no names."""
        from lago_skills.worlds.ball_push.demonstrators import aim

        if step.until is None or self.by_role:
            return None
        word = step.until.word
        thing, place = (*(COLOURS.index(name) for name in step.about), -1)[:2]
        return lambda observation: aim(positions_in(observation[None])[0], thing, word, place)

    def parts(self, task: str) -> tuple[str, ...]:
        """Of a task of two or three pairs: the pairs."""
        (known,) = self.find([task])
        return tuple(known.id.split(SEPARATOR)) if known.parts > 1 else (known.id,)

    def next_part(self, task: str, observations: NDArray[np.float64]) -> list[str]:
        """The first pair that does not hold; the last one where all do."""
        parts, rows = self.parts(task), np.asarray(observations, np.float64)
        if len(parts) == 1:
            return [task] * len(rows)
        return [parts[int(number)] for number in goals_in(rows).next_part(positions_in(rows))]

    def interface(self) -> Interface:
        """Coordinates, the goal, and the forty pushes."""
        balls = ROLES if self.by_role else COLOURS
        places = tuple(Entry(f"{ball} ball", 2, "m", -1.0, 1.0, "x, to the right, and y, backwards") for ball in balls)
        goal = Entry(
            "goal", GOAL_SIZE, "", 0.0, 1.0, "for each of four parts: moved ball, reference, and how it shall lie"
        )
        pushes = tuple(
            Entry(
                f"push the {ROLES[a // N_DIRECTIONS]} ball {PUSH_NAMES[a % N_DIRECTIONS]}"
                if self.by_role
                else action_name(a)
            )
            for a in range(N_ACTIONS)
        )
        return Interface((*places, goal), pushes, CONTROL_HZ)

    def provenance(self, task: str) -> Provenance:
        """MuJoCo and this demonstrator."""
        try:
            requirement = f"{PACKAGE}=={version(PACKAGE)}"
        except PackageNotFoundError:
            requirement = PACKAGE
        return Provenance(f"{self._demonstrator} of lago_skills.worlds.ball_push", (requirement,))

    def spec(self) -> dict[str, Any]:
        """Its registered name and settings."""
        settings = {"by_role": self.by_role, "side_told": self.side_told, "demonstrator": self._demonstrator}
        return {"use": self.name, **settings}
