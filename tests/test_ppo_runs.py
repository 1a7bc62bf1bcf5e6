"""Runs of PPO: going on after a kill, bad input, the log, Meta-World, and the curve beside a public implementation."""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from lago_skills.core import Playbook
from lago_skills.errors import DiskFull, ShapeError, StudyError, TrainingStopped
from lago_skills.experiments.benches import training_speed
from lago_skills.prior import ActionPrior, DiscretePrior
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import PPOConfig, SACConfig
from lago_skills.rl.guidance.advisers import GuideAdviser, by_task
from lago_skills.rl.loop import Loop, train
from lago_skills.rl.methods import METHODS
from lago_skills.rl.ppo.agent import PPO
from lago_skills.rl.ppo.algorithm import LOG_KEYS
from lago_skills.rl.ppo.rollout import Rollout, advantages_and_targets
from lago_skills.rl.problem import Problem, evaluate
from lago_skills.rl.runlog import Row
from lago_skills.rl.world_problem import world_problem
from lago_skills.stages import train as stage
from lago_skills.stages.workspace import Workspace
from lago_skills.study import load_study
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import expand
from lago_skills.worlds.metaworld.world import MetaWorld
from tests.ppo_envs import (
    HORIZON,
    KINDS,
    N_BITS,
    SHORT,
    Broken,
    Kind,
    Told,
    config,
    curve_of,
    identity,
    numbers,
    weights_of,
)
from tests.random_guides import random_guide

needs_peer = pytest.mark.skipif(importlib.util.find_spec("stable_baselines3") is None, reason="needs stable-baselines3")


# Going on -----------------------------------------------------------------------------------------------------------------


class Stop(Exception):
    """Raised in the middle of a run."""


@pytest.mark.parametrize("at", [70, 700])
def test_a_run_goes_on_from_its_checkpoint_as_if_it_had_not_been_stopped(at: int, tmp_path: Path) -> None:
    """70 is within the trial of the prior, 700 after it."""

    def report(step: int, row: Row) -> None:
        if step >= at:
            raise Stop

    settings = config(**SHORT | {"rollout_steps": 8, "eval_every": 64}, trial_episodes=50, initial_std=0.2)
    recipe = {"same": True}
    made = identity("continuous", Told("continuous"))
    whole = train(made, settings, 5, folder=tmp_path / "whole")
    with pytest.raises(Stop):
        train(made, settings, 5, folder=tmp_path / "cut", recipe=recipe, report=report)
    kept = Checkpoint.load(tmp_path / "cut" / "checkpoint", recipe)
    assert kept is not None
    assert kept.values["trial"][0] == (at == 70)  # still trying
    rest = train(made, settings, 5, folder=tmp_path / "cut", recipe=recipe)
    assert numbers(rest.curve) == numbers(whole.curve)
    for one, other in zip(weights_of(whole), weights_of(rest), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(rest.harvested) == len(whole.harvested) > 0
    for one, other in zip(whole.harvested, rest.harvested, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.observations, other.observations)


KILLED = """
import sys
from pathlib import Path
from lago_skills.rl import train
from tests.ppo_envs import SHORT, Told, config, identity
def report(step, row):
    print(step, flush=True)
    if step >= 700:
        sys.stdin.read()
train(identity("discrete", Told("discrete")), config(**SHORT), 5, folder=Path(sys.argv[1]), report=report)
"""


def test_a_run_goes_on_after_sigkill(tmp_path: Path) -> None:
    whole = train(identity("discrete", Told("discrete")), config(**SHORT), 5)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "cut")]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 700:
            pass
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "cut" / "checkpoint").is_dir()
    rest = train(identity("discrete", Told("discrete")), config(**SHORT), 5, folder=tmp_path / "cut")
    assert numbers(rest.curve) == numbers(whole.curve)


def test_a_full_disk_keeps_the_former_checkpoint_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = Checkpoint.save, list[Path]()

    def save(self: Checkpoint, folder: Path, recipe: dict[str, Any]) -> None:
        calls.append(folder)
        if len(calls) == 2:
            raise DiskFull("the disk is full; expected room; free some")
        real(self, folder, recipe)

    monkeypatch.setattr(Checkpoint, "save", save)
    result = train(identity("discrete"), config(**SHORT), 0, folder=tmp_path)
    assert len(result.curve) == len(calls) == 4
    assert "training goes on" in capsys.readouterr().err
    assert (tmp_path / "checkpoint").is_dir()


# Bad input ----------------------------------------------------------------------------------------------------------------


def broken(how: Literal["nan", "huge", "crash"], at: int) -> Problem:
    counter = [0]
    return Problem("broken", ("broken",), lambda task: lambda: Broken(how, at, counter), (0, 0))


def test_a_reward_that_is_not_a_number_stops_the_run_with_its_step() -> None:
    with pytest.raises(TrainingStopped, match=r"environment 1 \(broken\), reward at step 25: found nan"):
        train(broken("nan", 50), config(**SHORT), 0)


def test_losses_that_are_not_finite_stop_the_run() -> None:
    with pytest.raises(
        TrainingStopped, match=r"update after step 128: found loss/value = inf; expected finite numbers; lower"
    ):
        train(broken("huge", 50), config(**SHORT), 0)


def test_an_environment_that_crashes_is_restarted_and_counted() -> None:
    result = train(broken("crash", 50), config(**SHORT), 0)
    assert [row["train/crashes"] for row in result.curve] == [1, 1, 1, 1]
    assert [row["eval/crashes"] for row in result.curve] == [0, 0, 0, 0]


def test_nothing_is_learned_from_a_step_that_crashed() -> None:
    """The step before the crash bootstraps from the state it led to; the crash itself is no row of the update."""
    rollout = Rollout.empty(4, np.zeros((1, 1)), np.zeros((1, 1), np.float32), 0, (), np.int64)
    rollout.rewards[:, 0] = 1.0
    rollout.crashed[2] = rollout.truncated[2] = True
    values = np.array([[0.1], [0.2], [0.4], [0.8]], np.float32)
    found, _ = advantages_and_targets(rollout, values, np.array([1.6], np.float32), 0.5, 0.5)
    last = 1.0 + 0.5 * 0.4 - 0.2
    np.testing.assert_allclose(found[:2, 0], [1.0 + 0.5 * 0.2 - 0.1 + 0.25 * last, last], rtol=1e-6)
    np.testing.assert_allclose(found[3, 0], 1.0 + 0.5 * 1.6 - 0.8, rtol=1e-6)
    loop = Loop(broken("crash", 50), config(**SHORT), 0)
    loop.begin()
    loop.advance(lambda step: None)
    loop.close()
    assert isinstance(loop.algorithm.agent, PPO)
    assert float(loop.algorithm.agent.normalizer.count) == 2 * 64 - 1


def test_a_guide_for_discrete_actions_may_advise_on_several_tasks() -> None:
    class Named:
        """The prior of `Told`, as a guide has it; of other certainty on other tasks if wanted."""

        def __init__(self, floors: tuple[float, float]) -> None:
            self.floors = floors

        def prior(self, observations: NDArray[Any], task: str) -> ActionPrior | DiscretePrior:
            number = int(task[-1])
            told = Told("discrete", (True, False), self.floors[number])
            return told.prior(observations, np.full(len(observations), number), [None] * len(observations))

    tasks, observations = ("discrete-0", "discrete-1"), np.random.default_rng(0).choice([-1.0, 1.0], (6, N_BITS))
    numbers_of_tasks = np.array([0, 1, 1, 0, 1, 0])
    found = GuideAdviser(Named((0.02, 0.02)), tasks).prior(observations, numbers_of_tasks, [None] * 6)
    wanted = Told("discrete", (True, False)).prior(observations, numbers_of_tasks, [None] * 6)
    assert isinstance(found, DiscretePrior)
    assert isinstance(wanted, DiscretePrior)
    np.testing.assert_array_equal(found.probabilities(), wanted.probabilities())
    with pytest.raises(ShapeError, match=r"floor 0.02 and .* floor 1.0 from one guide; expected the same"):
        GuideAdviser(Named((0.02, 1.0)), tasks).prior(observations, numbers_of_tasks, [None] * 6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_over_other_actions_is_refused(kind: Kind) -> None:
    other: Kind = "continuous" if kind == "discrete" else "discrete"
    with pytest.raises(ShapeError, match="take a bundle that was made for this environment"):
        train(identity(kind, Told(other)), config(**SHORT), 0)


# Log, methods, Meta-World -----------------------------------------------------------------------------------------------------


def test_every_log_key_is_written(tmp_path: Path) -> None:
    result = train(identity("discrete"), config(**SHORT), 0, folder=tmp_path, final_episodes=3)
    assert all(tuple(row) == ("step", *LOG_KEYS) for row in result.curve)
    assert [row["step"] for row in result.curve] == [256, 512, 768, 1024]
    assert (tmp_path / "curve.csv").read_text(encoding="utf-8").splitlines()[0] == ",".join(("step", *LOG_KEYS))
    assert list(tmp_path.glob("events.*"))
    assert len(result.final) == 3
    assert result.leader == "policy"


def test_successes_are_harvested_as_they_were_acted() -> None:
    result = train(identity("continuous", Told("continuous")), config(**SHORT, initial_std=0.2), 0)
    assert result.harvested
    for episode in result.harvested:
        assert episode.success
        assert episode.rewards.sum() > 0.9 * HORIZON
        np.testing.assert_allclose(
            episode.rewards, 1.0 - np.abs(episode.actions - episode.observations[:-1]).mean(axis=1), atol=1e-5
        )
    assert result.curve[-1]["train/harvested"] == len(result.harvested)
    none = train(identity("continuous", Told("continuous")), config(**SHORT, initial_std=0.2, harvest=False), 0)
    assert not none.harvested


def test_epochs_end_early_where_the_policy_has_moved_far() -> None:
    free = train(identity("continuous"), config(**SHORT | {"n_epochs": 20}), 0)
    held = train(identity("continuous"), config(**SHORT | {"n_epochs": 20}, target_kl=0.005, anneal=True), 0)
    assert held.curve[-1]["policy/approx_kl"] < free.curve[-1]["policy/approx_kl"]


def test_the_settings_of_every_method_are_known_to_its_algorithm() -> None:
    for each in METHODS.values():
        kind = {"sac": SACConfig, "ppo": PPOConfig}[each.algorithm]
        settings = kind(**each.settings).model_dump()
        assert {name: settings.get(name) for name in each.settings} == each.settings


def test_a_run_on_several_metaworld_tasks_with_a_library(
    grounding: MetaWorldGrounding, playbooks: dict[str, Playbook]
) -> None:
    guide = random_guide(playbooks)
    tasks = expand(list(guide.playbooks))[:2]
    problem = world_problem(MetaWorld(), tasks, grounding, guide, 0)
    settings = config(n_steps=200, rollout_steps=50, eval_every=200, eval_episodes=1, n_epochs=1)
    result = train(problem, settings, 0)
    assert result.curve[-1]["time/guide_share"] > 0.0
    assert problem.adviser is not None
    observations = np.stack([problem.judged(n % 2)().reset(seed=n)[0] for n in range(5)])
    numbers_of_tasks = np.arange(5) % 2
    found = problem.adviser.prior(observations, numbers_of_tasks, [None] * 5)
    apart = by_task(numbers_of_tasks, lambda rows, task: guide.prior(observations[rows], tasks[task].id))
    assert isinstance(apart, ActionPrior)
    assert isinstance(found, ActionPrior)
    np.testing.assert_allclose(found.means, apart.means, atol=1e-6)
    np.testing.assert_allclose(found.weights, apart.weights, atol=1e-6)


def test_networks_go_to_disk_and_back() -> None:
    made = [PPO.create(3, 2, config(), None, seed) for seed in (0, 1)]
    kept = Checkpoint()
    states = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    none = np.zeros((4, 0), np.float32)
    made[0].put(kept)
    assert not np.array_equal(made[0].greedy(states, none, "policy"), made[1].greedy(states, none, "policy"))
    made[1].get(kept)
    np.testing.assert_array_equal(made[0].greedy(states, none, "policy"), made[1].greedy(states, none, "policy"))
    np.testing.assert_array_equal(made[0].act(states, none), made[1].act(states, none))


STUDY = """
name = "small"
[tasks]
seen = ["ten"]
unseen = ["push-wall"]
[train]
tasks = ["push-wall"]
algorithms = ["guided-ppo", "ppo"]
seeds = [0]
final_episodes = 1
[train.ppo]
n_steps = 400
rollout_steps = 100
eval_every = 200
eval_episodes = 1
n_epochs = 1
hidden_size = 16
warm_start_updates = 5
"""


def test_the_stage_trains_and_what_it_learned_acts_again(tmp_path: Path, bundle: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(STUDY, encoding="utf-8")
    space = Workspace(tmp_path, path, load_study(path))
    shutil.copytree(bundle, space.artifact("bundle"))
    observations = np.random.default_rng(0).normal(0.0, 0.3, (5, 39))
    for training_run, job in zip(stage.training_runs(space.study), stage.jobs(space), strict=True):
        assert not job.done
        summary = job.run(lambda done, note: None).summary
        assert job.done
        assert (summary["method"], summary["leader"], summary["steps"]) == (training_run.algorithm, "policy", 400)
        assert (summary["guide_share"] > 0.0) == (training_run.algorithm == "guided-ppo")
        problem = stage.problem_of(space, training_run)
        folder = space.artifact("runs", training_run.name)
        act, leader = stage.load_policy(folder, training_run, problem, space.study.train, space.study.grounding)
        assert leader == "policy"
        actions = act(observations)
        assert actions.shape == (5, 4)
        assert float(np.abs(actions).max()) <= 1.0
        assert not np.array_equal(actions[0], actions[1])
        assert not space.artifact("unfinished", training_run.name).exists()


# Beside the public implementation ---------------------------------------------------------------------------------------------


def test_without_the_peer_the_benchmark_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def find_spec(name: str) -> None:
        """Nothing is installed."""

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(StudyError, match="pip install stable-baselines3"):
        training_speed.bench(tmp_path)


def peer_curve(model: Any, kind: Kind, n_rows: int, n_steps: int) -> list[float]:
    """Mean reward of greedy episodes on the evaluation seeds, after each `n_steps`."""
    found: list[float] = []
    for _ in range(n_rows):
        model.learn(n_steps, reset_num_timesteps=False)

        def act(observations: NDArray[Any], tasks: NDArray[np.int64]) -> NDArray[Any]:
            return model.predict(observations, deterministic=True)[0]

        outcomes = evaluate(identity(kind), act, 10)
        found.append(float(np.mean([each.episode_return for each in outcomes])) / HORIZON)
    return found


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(240)
@needs_peer
@pytest.mark.filterwarnings("ignore:Converting a tensor:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_the_curve_is_that_of_stable_baselines(kind: Kind) -> None:
    """Same settings, three seeds each: both learn as fast (the mean over the curve) and as well (its second half)."""
    settings = config(n_steps=4_096, eval_every=512, n_epochs=10, normalize_states=False, std_by_state=False)
    ours = np.mean([curve_of(train(identity(kind), settings, seed)) for seed in range(3)], axis=0)
    models = [training_speed.peer_ppo(identity(kind), settings, seed) for seed in range(3)]
    theirs = np.mean([peer_curve(model, kind, len(ours), 512) for model in models], axis=0)
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.06)
    assert np.abs(ours - theirs)[-4:].mean() < 0.04
    assert ours[-1] > 0.9


@pytest.mark.slow
@pytest.mark.timeout(240)
@needs_peer
@pytest.mark.filterwarnings("ignore:Converting a tensor:UserWarning")
def test_speeds_are_measured_in_turns(bundle: Path) -> None:
    settings = PPOConfig(rollout_steps=50, n_steps=4_000, trial_episodes=1, warm_start_updates=10, fade="constant")
    quick = SACConfig(random_steps=100, batch_size=32, hidden_size=32)
    rows, summary = training_speed.bench(bundle, settings, rounds=1, sac=quick)
    assert [row["algorithm"] for row in rows] == ["ppo", "sac", "sac, the peer's updates"]
    assert list(rows[0]) == ["algorithm", "ours_steps_per_s", "peer_steps_per_s", "ratio", "guide_share"]
    assert rows[0]["ratio"] == pytest.approx(rows[0]["ours_steps_per_s"] / rows[0]["peer_steps_per_s"], rel=0.01)
    assert 0.0 < rows[0]["guide_share"] < 1.0
    assert summary["peer"].startswith("stable-baselines3 ")
    assert summary["processor"]
