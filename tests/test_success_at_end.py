"""Success at an episode's last step: what is a reward, what ends an episode, and who is learned from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.errors import StudyError
from lago_skills.rl import SACConfig, greedy_policy, train
from lago_skills.rl.algorithm import steps_unsolved
from lago_skills.rl.guidance.leaders import Leaders
from lago_skills.rl.judged import Judged
from lago_skills.rl.plans.trial import try_plans
from lago_skills.rl.problem import Problem, evaluate
from lago_skills.rl.world_problem import world_problem
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import expand
from lago_skills.worlds.success import EpisodeSoFar, success_rule
from lago_skills.worlds.world import find_world
from tests.small_envs import SMALL, Pointing, Walk, problem


class Passing(gymnasium.Env[NDArray[np.float64], NDArray[np.float32]]):
    """Solved at the third and fourth step and no more; says that it has ended whenever it is solved."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.n = 0
        return np.zeros(1), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n += 1
        solved = self.n in (3, 4)
        return np.zeros(1), 5.0, solved, False, {"success": solved}


@pytest.mark.parametrize(("horizon", "success"), [(4, True), (6, False)])
def test_every_solved_step_is_rewarded_and_only_the_last_one_counts(horizon: int, success: bool) -> None:
    judge = success_rule("info.success").solved
    env = Judged(Passing(), judge, horizon, ends_at_success=True, success_at_end=True)
    env.reset(seed=0)
    rewards, over, info, terminated = list[float](), False, dict[str, Any](), False
    while not over:
        _, reward, terminated, truncated, info = env.step(np.zeros(1, np.float32))
        rewards.append(reward)
        over = terminated or truncated
    assert rewards == [0.0, 0.0, 1.0, 1.0, 0.0, 0.0][:horizon]
    assert not terminated, "success ends no episode"
    assert info["success"] is success


def test_an_environment_that_ends_without_success_has_ended() -> None:
    class Falling(Passing):
        def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return np.zeros(1), 0.0, True, False, {"success": False}

    env = Judged(Falling(), success_rule("info.success").solved, 9, success_at_end=True)
    env.reset(seed=0)
    assert env.step(np.zeros(1, np.float32))[1:4] == (0.0, True, False)


def test_steps_without_success_are_counted_once_it_is_lost_again() -> None:
    assert steps_unsolved([0.0, 0.0, 1.0]) == 3
    assert steps_unsolved([0.0, 1.0, 0.0, 1.0]) == 3
    assert steps_unsolved([0.0, 0.0]) == 2


def test_a_world_that_cannot_be_played_on_is_refused() -> None:
    class Ends:
        name, ends_at_success, plays_on = "ends", True, False

        def check_success(self) -> None:
            return

    world: Any = Ends()
    with pytest.raises(StudyError, match="expected a world that can be played on; leave it out"):
        world_problem(world, (Task("a", "a", "a"),), MetaWorldGrounding(), None, 0, success_at_end=True)


def test_meta_world_is_played_on_to_its_horizon() -> None:
    """The package's own policy of one task, by the problem that learners get."""
    world, (task,) = find_world("metaworld"), expand(["reach"])
    act = world.demonstrator("reach")
    assert act is not None
    of_task = world_problem(world, (task,), MetaWorldGrounding(), None, 0, success_at_end=True)
    outcomes = evaluate(of_task, lambda states, tasks: np.stack([act(each) for each in states]), 2)
    assert [each.steps for each in outcomes] == [task.horizon_steps] * 2
    assert all(each.success and each.episode_return > 10.0 for each in outcomes)


class Staying(Walk):
    """`Walk` to the end of its steps, whether or not the goal has been reached."""

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, _, _, info = super().step(action)
        return observation, reward, False, self.left == 0, info


def at_end(guide: object) -> Problem:
    return replace(problem(Staying, guide, success="info.success"), success_at_end=True)


def test_a_trial_prefers_the_plan_that_stays_solved() -> None:
    plans = [("slowly", Pointing(0.06)), ("at once", Pointing(1.0))]
    trial = try_plans(at_end(plans[0][1]), plans, 12, 0)
    assert trial.plans[trial.best].name == "at once"
    assert all(len(each.actions) == 40 for each in trial.harvested)
    assert all(each.rewards[-1] == 1.0 for each in trial.harvested)


def test_an_end_of_the_episode_cannot_be_read_where_it_goes_on() -> None:
    ended = replace(at_end(None), success="terminated")
    with pytest.raises(StudyError, match=r"found success = 'terminated' and success_at_end.*such as \"info.success\""):
        ended.judged(0)
    replace(ended, success="info.success").judged(0)


@pytest.mark.parametrize("follow_weight", [0.0, 4.0])
def test_a_policy_that_follows_the_prior_everywhere_does_as_the_prior_does(follow_weight: float) -> None:
    settings = {"follow_weight": follow_weight, "observe_prior": False, "imitation_weight": 0.0, "reward_scale": 0.05}
    config = SACConfig.model_validate(SMALL.model_dump() | settings | {"n_steps": 1_500, "eval_every": 1_500})
    of_walk = at_end(Pointing(1.0))
    trained = train(of_walk, config, 0)
    outcomes = evaluate(of_walk, greedy_policy(of_walk, trained.agent, "policy"), 20)
    solved = float(np.mean([each.success for each in outcomes]))
    assert (solved >= 0.5) == bool(follow_weight), solved


def test_the_lead_over_the_policy_leaves_out_the_mix() -> None:
    leaders = Leaders(("prior", "mix", "policy"))
    for _ in range(20):
        leaders.note("prior", 1.0)
        leaders.note("mix", 1.0)
        leaders.note("policy", 0.0)
    assert leaders.lead_of_prior() < 0.2
    assert leaders.lead_over_policy() > 0.8


def test_the_rule_is_asked_at_every_step() -> None:
    asked: list[int] = []

    def judge(so_far: EpisodeSoFar) -> bool:
        asked.append(len(so_far.rewards))
        return True

    env = Judged(Passing(), judge, 5, success_at_end=True)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.zeros(1, np.float32))
    assert asked == [1, 2, 3, 4, 5]
