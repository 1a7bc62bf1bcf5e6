"""Environments as the learners drive them: crashes, bad numbers, spaces, and going back to a state."""

# torch leaves some argument types open, and numpy.interp some results.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Playbook
from lago_skills.errors import ShapeError, StudyError, TrainingStopped
from lago_skills.guide.guides import NullGuide
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.envs import MAX_CRASHES, Envs, Watched
from lago_skills.rl.loop import Loop, train
from lago_skills.rl.problem import evaluate
from lago_skills.rl.sac.algorithm import SoftActorCritic
from lago_skills.rl.sac.replay import Batch, Columns
from lago_skills.rl.world_problem import world_problem
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import MetaWorld
from lago_skills.worlds.rollouts import rollouts
from tests.random_guides import random_guide
from tests.small_envs import SMALL, Pointing, Walk, problem, same


def test_a_crash_ends_the_episode_and_is_counted() -> None:
    envs = Envs([lambda: Walk(crash_at=3), Walk], ["first", "second"])
    envs.reset([1, 2])
    for _ in range(2):
        assert not envs.step(np.full((2, 2), 0.01, np.float32))[3].any()
    observations, _, terminated, truncated, infos = envs.step(np.full((2, 2), 0.01, np.float32))
    assert truncated.tolist() == [True, False]
    assert not terminated[0]
    assert infos[0]["crash"] == "RuntimeError: the simulator fell over"
    assert infos[1]["success"] is not None
    assert np.isfinite(observations).all()
    assert envs.counts() == [(3, 1), (3, 0)]
    assert np.isfinite(envs.restart(0, 5)).all()
    envs.close()


def test_an_environment_that_always_crashes_stops_the_run() -> None:
    watched = Watched(lambda: Walk(crash_at=1), "arm")
    watched.reset(seed=0)
    for _ in range(MAX_CRASHES):
        assert watched.step(np.zeros(2, np.float32))[3]
    with pytest.raises(TrainingStopped, match=r"arm: found 21 crashes.*expected at most 20"):
        watched.step(np.zeros(2, np.float32))


class Once(Walk):
    """Crashes once, in one of its copies: at a step or at a reset, counted over all of them; or while it is made again."""

    def __init__(self, step: int = 0, reset: int = 0, make: int = 0, counts: list[int] | None = None) -> None:
        super().__init__()
        self.at, self.counts = (step, reset, make), counts if counts is not None else [0, 0, 0]
        self._count(2)

    def _count(self, what: int) -> None:
        self.counts[what] += 1
        if self.counts[what] == self.at[what]:
            raise RuntimeError("the simulator fell over")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._count(1)
        return super().reset(seed=seed, options=options)

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._count(0)
        return super().step(action)


def once(**at: int) -> Callable[[], Once]:
    counts = [0, 0, 0]
    return lambda: Once(**at, counts=counts)


def test_an_environment_that_crashes_at_reset_or_when_it_is_made_again_is_made_once_more() -> None:
    watched = Watched(once(reset=2, make=2), "arm")
    first, _ = watched.reset(seed=3)
    again, _ = watched.reset(seed=3)  # this one crashes, and so does making the next
    np.testing.assert_array_equal(first, again)
    assert watched.counts() == (0, 2)


def test_nothing_is_learned_from_a_step_that_crashed() -> None:
    def rows(crash: int) -> NDArray[np.float32]:
        loop = Loop(problem(once(step=crash)), SMALL.model_copy(update={"n_step": 3}), 0)
        loop.begin()
        while loop.step < 20:
            loop.advance()
        loop.close()
        kept = Checkpoint()
        assert isinstance(loop.algorithm, SoftActorCritic)
        loop.algorithm.memory.put(kept, "memory")
        return kept.array("memory")

    smooth, crashed = rows(0), rows(15)
    np.testing.assert_array_equal(smooth[:12], crashed[:12])
    assert len(smooth) == 18  # the last two wait for steps to come
    assert len(crashed) == 14 + 3  # all of the 14 before the crash, though cut off; three of the five after it
    columns = Columns(4, 2, 0)
    discounts = Batch(crashed, columns).discount.numpy()
    np.testing.assert_allclose(discounts[11:14], 0.99 ** np.array([3, 2, 1]))  # a crash is no termination


def test_an_environment_that_crashes_while_it_is_evaluated_has_failed() -> None:
    made = problem(once(step=30))
    outcomes = evaluate(made, lambda observations, tasks: np.zeros((len(observations), 2), np.float32), 3, n_envs=3)
    assert [outcome.crashed for outcome in outcomes].count(True) == 1
    assert not any(outcome.success for outcome in outcomes if outcome.crashed)
    assert len(outcomes) == 3
    crashes = [0]

    class Evaluated(Walk):
        def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            if self.np_random_seed >= 1_000_000 and self.left == 20 and not crashes[0]:
                crashes[0] = 1
                raise RuntimeError("the simulator fell over")
            return super().step(action)

    curve = train(problem(Evaluated), SMALL, 0).curve
    assert [row["eval/crashes"] for row in curve] == [1, 0]


def test_infos_may_hold_dictionaries() -> None:
    wrapped: Any = gymnasium.wrappers.RecordEpisodeStatistics
    envs = Envs([lambda: wrapped(Walk()), lambda: wrapped(Walk(crash_at=30))], ["first", "second"])
    envs.reset([1, 2])
    infos = [envs.step(np.zeros((2, 2), np.float32))[4] for _ in range(40) if not envs.counts()[1][1]]
    envs.close()
    assert len(infos) == 30
    assert "episode" not in infos[-1][0]
    result = train(problem(lambda: wrapped(Walk())), SMALL, 0)
    assert same(result, train(problem(Walk), SMALL, 0))


@pytest.mark.parametrize("guided", [False, True])
def test_processes_of_their_own_change_nothing(guided: bool) -> None:
    made = problem(Walk, Pointing(1.0) if guided else None, n_envs=2)
    assert same(train(replace(made, vectorize="async"), SMALL, 0), train(made, SMALL, 0))


def test_going_back_into_an_episode_repeats_it() -> None:
    envs, other = Envs([Walk], ["walk"]), Envs([Walk], ["walk"])
    envs.reset([4])
    rng = np.random.default_rng(0)
    observation = [envs.step(rng.uniform(-1, 1, (1, 2)).astype(np.float32))[0] for _ in range(7)][-1]
    seed, actions = envs.positions()[0]
    assert seed == 4
    other.reset([0])
    np.testing.assert_array_equal(other.restart(0, seed, replay=list(actions), counts=(7, 2))[None], observation)
    assert other.counts() == [(7, 2)]
    action = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(envs.step(action)[0], other.step(action)[0])
    envs.close()
    other.close()


@pytest.mark.parametrize(
    ("space", "what"),
    [
        (gymnasium.spaces.Box(-2.0, 2.0, (2,)), r"Box\(-2.*lago_skills.adapt"),
        (gymnasium.spaces.Discrete(3, start=1), r"actions Discrete\(3, start=1\).*lago_skills.adapt"),
        (gymnasium.spaces.MultiBinary(3), "actions MultiBinary"),
    ],
)
def test_spaces_that_no_learner_knows_are_refused(space: Any, what: str) -> None:
    class Odd(Walk):
        action_space = space

    with pytest.raises(StudyError, match=what):
        Envs([Odd], ["odd"])


def test_observations_of_several_axes_are_refused() -> None:
    class Picture(Walk):
        observation_space = gymnasium.spaces.Box(0.0, 1.0, (8, 8))

    with pytest.raises(StudyError, match=r"\(8, 8\).*lago_skills.adapt"):
        Envs([Picture], ["picture"])


def test_soft_actor_critic_refuses_discrete_actions() -> None:
    class Choice(Walk):
        action_space = gymnasium.spaces.Discrete(3)

    with pytest.raises(StudyError, match="train with PPO"):
        train(problem(Choice), SMALL, 0)


def test_a_reward_or_an_observation_that_is_not_finite_stops_with_the_step() -> None:
    with pytest.raises(TrainingStopped, match=r"environment 0 \(small\), reward at step 41: found nan; expected"):
        train(problem(lambda: Walk(bad_reward_at=41)), SMALL, 0)

    class Hole(Walk):
        def _seen(self) -> NDArray[np.float64]:
            return np.array([0.0, np.inf if self.n_steps == 5 else 0.0, 0.0, 0.0])

    with pytest.raises(TrainingStopped, match=r"observation at step 5: found inf at index \[1\]"):
        train(problem(Hole), SMALL, 0)

    class Rich(Walk):
        def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            observation, _, terminated, truncated, info = super().step(action)
            return observation, 1e39, terminated, truncated, info

    with pytest.raises(TrainingStopped, match=r"reward at step 1: found 1e\+39; expected finite numbers that float32"):
        train(problem(Rich), SMALL, 0)


def test_a_loss_that_is_not_finite_stops_with_the_step() -> None:
    class Steep(Walk):
        def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            observation, _, terminated, truncated, info = super().step(action)
            return observation, 1e30, terminated, truncated, info

    with pytest.raises(TrainingStopped, match=r"small, update 1 at step \d+: found loss/critic = inf"):
        train(problem(Steep), SMALL, 0)


def test_a_guide_for_other_actions_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"found actions of size 4; expected size 2"):
        train(problem(Walk, NullGuide(ActionSpace(4))), SMALL, 0)


def test_a_task_without_playbook_is_refused(playbooks: dict[str, Playbook]) -> None:
    with pytest.raises(StudyError, match="found no playbook for 'soccer'"):
        world_problem(MetaWorld(), [find_task("soccer")], MetaWorldGrounding(), random_guide(playbooks), 0)


def test_rollouts_do_not_depend_on_how_many_run_side_by_side() -> None:
    task = find_task("reach")

    def goal_seeking(observations: NDArray[np.float64]) -> NDArray[np.float32]:
        heading = 10.0 * (observations[:, 36:39] - observations[:, :3] + np.array([0.0, 0.0, 0.045]))
        return np.clip(np.concatenate([heading, np.zeros((len(heading), 1))], 1), -1, 1).astype(np.float32)

    steps: list[int] = []
    one = rollouts(MetaWorld(), task, goal_seeking, [5, 6, 7], steps.append, n_envs=1)
    three = rollouts(MetaWorld(), task, goal_seeking, [5, 6, 7], lambda n: None, n_envs=3)
    assert one == three
    assert [r.seed for r in one] == [5, 6, 7]
    assert all(r.success for r in one)
    assert sum(steps) == sum(r.steps for r in one)
    made = world_problem(MetaWorld(), [task], MetaWorldGrounding(), None, 0)
    outcomes = evaluate(made, lambda observations, tasks: goal_seeking(observations), 3, n_envs=2)
    assert [(o.success, o.seed) for o in outcomes] == [(True, made.eval_seed + i) for i in range(3)]
