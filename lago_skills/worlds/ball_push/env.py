"""Ball push as an environment of Gymnasium: five balls, forty pushes, a goal that an episode names."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lago_skills.worlds.ball_push.balls import COLOURS, HORIZON_STEPS, N_ACTIONS, N_BALLS, N_DIRECTIONS, WALLS, Floats
from lago_skills.worlds.ball_push.drawing import LEVELS, draw_goal
from lago_skills.worlds.ball_push.goals import GOAL_SIZE, Goal, goal_of, moved_there, pushes_there
from lago_skills.worlds.ball_push.layouts import draw_layout
from lago_skills.worlds.ball_push.sentences import draw_sentence
from lago_skills.worlds.offscreen import Camera, prepare_rendering

SUCCESS_REWARD, PROGRESS_SCALE = 100.0, 10.0
"""What success is worth where progress is rewarded, and what a metre or a part is."""
SETTLE_STEPS = 100
"""Physics steps for which balls are left alone where they are to settle."""
RESET_OPTIONS = ("positions", "goal", "sentence")


class BallPush(gymnasium.Env[NDArray[np.float64], np.int64]):
    """Push balls until the goal holds, which ends the episode; so do `horizon_steps`.

    Observations are x and y of the red, blue, green, purple and cyan ball, in metres, while balls may still roll. Action `8 * ball + direction` pushes a ball for 0.4 s:
    to the right, back, left, front, back right, back left, front right, front left.

    `info` holds `goal` (as `Goal.as_json` has it), `goal_vector` (64,), `sentence`, `success`, `parts_done`, and at the easy level after a step
    `label_success` and `motion_success`, both judges. `reset(options=...)` takes `positions` (5, 2), `goal` and `sentence`; what is not given is drawn.

    Args:
        level: pair, rephrased, easy, two, three, gather or line-up.
        reward: `sparse`, 1 at success; or `progress`, 100 at success and else ten times what the step won: metres by which a pair came nearer, or parts.
            The easy level has 1 at success in both.
        goal: the same goal in all episodes.
        horizon_steps: 50, and 1 at the easy level, unless another number is given.
        exclude_true: whether goals that hold at the start are drawn again. The original kept them.
        bonus: whether success pays 100 where progress is rewarded. The released original never paid it.
        stale_first_push: whether the first push of an episode begins where another random layout has the ball, as in the released original.
        easy_judge: `label`, by the action alone as in the original, or `motion`, by 15 cm of motion.
        feasible_only: whether goals of several parts that cannot hold at once are drawn again.
        settle: whether balls come to rest before an episode begins. In the original those that overlap a wall are pushed out by the first action.
        observe_goal: whether the goal's 64 numbers follow the ten of the balls.
        render_mode: `rgb_array` draws.

    Raises:
        ValueError: a setting that it does not have; says which there are.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 3}  # noqa: RUF012  (as Gymnasium declares it)

    def __init__(
        self,
        level: str = "pair",
        *,
        reward: str = "sparse",
        goal: Goal | Mapping[str, Any] | None = None,
        horizon_steps: int | None = None,
        exclude_true: bool = True,
        bonus: bool = True,
        stale_first_push: bool = False,
        easy_judge: str = "label",
        feasible_only: bool = True,
        settle: bool = False,
        observe_goal: bool = False,
        render_mode: str | None = None,
    ) -> None:
        _check("level", level, LEVELS)
        _check("reward", reward, ("sparse", "progress"))
        _check("easy_judge", easy_judge, ("label", "motion"))
        _check("render_mode", render_mode, (None, "rgb_array"))
        self.level, self.reward = level, cast("Literal['sparse', 'progress']", reward)
        self.horizon_steps = horizon_steps or (1 if level == "easy" else HORIZON_STEPS)
        self.exclude_true, self.bonus, self.stale_first_push = exclude_true, bonus, stale_first_push
        self.easy_judge, self.feasible_only, self.settle = easy_judge, feasible_only, settle
        self.observe_goal, self.render_mode = observe_goal, render_mode
        self._fixed_goal = None if goal is None else self._own_goal(goal)
        low, high = np.full(2 * N_BALLS, -1.0), np.ones(2 * N_BALLS)
        if observe_goal:
            low, high = np.append(low, np.zeros(GOAL_SIZE)), np.append(high, np.ones(GOAL_SIZE))
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float64)
        self.action_space = gymnasium.spaces.Discrete(N_ACTIONS)
        if render_mode is not None:
            prepare_rendering()
        from lago_skills.worlds.ball_push.scene import Scene  # MuJoCo chooses how to draw when it is imported

        self.scene = Scene()
        self._camera: Camera | None = None
        self._behind: Floats | None = None
        self.n_steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Begin an episode; the same seed gives the same start, goal and sentence.

        Raises:
            ValueError: another option than those of the class, positions that are not (5, 2) finite numbers between the walls, or a goal of another level.
        """
        super().reset(seed=seed)
        given = options or {}
        if unknown := sorted(set(given) - set(RESET_OPTIONS)):
            raise ValueError(
                f"found reset options {unknown}; expected some of {', '.join(RESET_OPTIONS)}; correct them"
            )
        goal = self._own_goal(given["goal"]) if "goal" in given else self._fixed_goal
        positions = _positions(given["positions"]) if "positions" in given else None
        self._start(positions, goal)
        sentence = draw_sentence(self.level, self.goal, self.np_random)
        self.sentence = str(given.get("sentence", sentence))
        self._behind = draw_layout(self.np_random) if self.stale_first_push else None
        self.n_steps = 0
        return self._observation(), self._info(success=False)

    def _own_goal(self, goal: Goal | Mapping[str, Any]) -> Goal:
        known = goal if isinstance(goal, Goal) else goal_of(goal)
        kind = "pair" if self.level == "rephrased" else self.level
        if known.kind != kind:
            raise ValueError(
                f"found a goal of kind {known.kind!r} at level {self.level!r}; expected one of kind {kind!r}; correct one of them"
            )
        return known

    def _start(self, positions: Floats | None, goal: Goal | None) -> None:
        """A layout, and a goal that does not hold in it; what is given stays, whatever holds."""
        while True:
            self.scene.place(draw_layout(self.np_random) if positions is None else positions)
            if self.settle:
                self.scene.wait(SETTLE_STEPS)
            self.goal = goal or draw_goal(self.level, self.np_random, feasible_only=self.feasible_only)
            fixed = positions is not None and (goal is not None or self.level in ("gather", "line-up"))
            if fixed or not self.exclude_true or not self.goal.holds(self.scene.positions):
                return

    def step(self, action: Any) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """One push of 0.4 s.

        Raises:
            ValueError: the action is not one of the forty.
        """
        if not self.action_space.contains(np.int64(action)):
            raise ValueError(
                f"found action {action!r}; expected 0 to {N_ACTIONS - 1}, 8 * ball + direction; correct it"
            )
        number = int(action)
        before = self.scene.positions
        behind = None if self._behind is None else self._behind[number // N_DIRECTIONS]
        self.scene.push(number, behind)
        self._behind = None
        self.n_steps += 1
        after = self.scene.positions
        info = self._info(success=False)
        if self.level == "easy":
            judged = {"label": pushes_there(self.goal, number), "motion": moved_there(self.goal, before, after)}
            info |= {f"{judge}_success": found for judge, found in judged.items()}
            success = judged[self.easy_judge]
        else:
            success = self.goal.holds(after)
        info["success"] = success
        truncated = not success and self.n_steps >= self.horizon_steps
        return self._observation(), self._rewarded(before, after, success=success), success, truncated, info

    def _rewarded(self, before: Floats, after: Floats, *, success: bool) -> float:
        if self.reward == "sparse" or self.level == "easy":
            return float(success)
        if success and self.bonus:
            return SUCCESS_REWARD
        if self.goal.kind == "pair":
            (part,) = self.goal.parts
            apart = [float(np.hypot(*(place[part.moved] - place[part.reference]))) for place in (before, after)]
            return PROGRESS_SCALE * (apart[0] - apart[1])
        n_before, n_after = (int(self.goal.done(place[None]).sum()) for place in (before, after))
        return PROGRESS_SCALE * (n_after - n_before)

    def render(self) -> Any:
        """An RGB picture (240, 320, 3) from above the front edge of the table, with the right at its right.

        Raises:
            RenderingUnavailable: this machine has no off-screen OpenGL.
        """
        if self._camera is None:
            self._camera = Camera(self.scene.model, (0.0, 0.15, -0.3), 1.9, 90.0, -50.0)
        return self._camera.picture(self.scene.data)

    def close(self) -> None:
        """Free the memory of pictures."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def _observation(self) -> NDArray[np.float64]:
        flat = self.scene.positions.reshape(-1)
        return np.append(flat, self.goal.vector) if self.observe_goal else flat

    def _info(self, *, success: bool) -> dict[str, Any]:
        return {
            "goal": self.goal.as_json(),
            "goal_vector": self.goal.vector,
            "sentence": self.sentence,
            "success": success,
            "parts_done": int(self.goal.done(self.scene.positions[None]).sum()),
        }


def _check(what: str, found: Any, known: tuple[Any, ...]) -> None:
    if found not in known:
        raise ValueError(f"found {what} = {found!r}; expected one of {', '.join(map(str, known))}; correct it")


def _positions(given: Any) -> Floats:
    positions = np.asarray(given, np.float64)
    if positions.shape != (N_BALLS, 2) or not np.isfinite(positions).all():
        raise ValueError(
            f"found positions of shape {positions.shape}; expected (5, 2) finite metres, x and y of {', '.join(COLOURS)}; correct them"
        )
    if beyond := [
        COLOURS[ball]
        for ball in range(N_BALLS)
        if (positions[ball] < WALLS[0]).any() or (positions[ball] > WALLS[1]).any()
    ]:
        raise ValueError(
            f"found the {beyond[0]} ball at {positions[COLOURS.index(beyond[0])].tolist()}; expected all between the walls, x from -0.6 to 0.6 and y from -0.3 to 0.7; correct it"
        )
    return positions
