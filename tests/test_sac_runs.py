"""Whole runs of soft actor-critic: logs, checkpoints, guidance, and learning where it takes seconds."""

# torch leaves some argument types open, and numpy.interp some results.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import csv
import errno
import importlib.util
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Episode, Playbook
from lago_skills.errors import ArtifactCorrupt, DiskFull, FormatTooNew, StudyError
from lago_skills.experiments.benches import train as bench_train
from lago_skills.guide.guides import NullGuide
from lago_skills.rl import checkpoint, runlog, train
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import LEADERS, PPOConfig, SACConfig
from lago_skills.rl.loop import TrainOptions
from lago_skills.rl.methods import METHODS, method
from lago_skills.rl.networks import device_for, load_networks, save_networks
from lago_skills.rl.policy import greedy_policy
from lago_skills.rl.ppo import algorithm as ppo
from lago_skills.rl.problem import Problem, evaluate
from lago_skills.rl.runlog import RunLog
from lago_skills.rl.sac import algorithm as sac
from lago_skills.rl.sac.agent import SAC
from lago_skills.rl.sac.algorithm import LOG_KEYS
from lago_skills.rl.sac.replay import Batch
from lago_skills.rl.world_problem import world_problem
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import MetaWorld
from tests.conftest import ROOT
from tests.fading import Nearby, steps_to_stay
from tests.small_envs import SMALL, Echo, Pointing, Walk, problem, same, timeless
from tests.test_guide import guide as random_guide

# Runs -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guided", [False, True])
def test_a_run_logs_every_key_and_repeats_itself(guided: bool, tmp_path: Path) -> None:
    made = problem(Walk, Pointing(1.0) if guided else None, n_envs=2)
    first, again = train(made, SMALL, 0, folder=tmp_path, final_episodes=2), train(made, SMALL, 0)
    for row in first.curve:
        assert tuple(row) == ("step", *LOG_KEYS)
    assert [row["step"] for row in first.curve] == [300, 600]
    assert same(first, again)
    assert first.leader in (LEADERS if guided else ("policy",))
    assert [outcome.seed for outcome in first.final] == [1_000_000, 1_000_001]
    with (tmp_path / "curve.csv").open() as stream:
        kept = list(csv.DictReader(stream))
    assert [float(row["eval/success"]) for row in kept] == [row["eval/success"] for row in first.curve]
    assert list(tmp_path.glob("events.*"))
    other = train(problem(Walk, Pointing(1.0) if guided else None, n_envs=2, seed=1), SMALL, 1)
    assert not np.array_equal(timeless(first), timeless(other), equal_nan=True)
    if guided:
        assert first.harvested
        assert {episode.task_id for episode in first.harvested} == {"small"}
        assert all(episode.success and episode.rewards[-1] == 1.0 for episode in first.harvested)


def test_a_run_calls_back_and_stops_when_it_is_told_to(tmp_path: Path) -> None:
    made, rows = problem(Walk, Pointing(1.0), n_envs=2), list[tuple[int, float]]()
    longer = SMALL.model_copy(update={"n_steps": 1_200, "eval_every": 100})
    options: TrainOptions = {
        "folder": tmp_path,
        "on_row": lambda step, row: rows.append((step, row["step"])),
        "stop": lambda step, row: step >= 200,
    }
    stopped = train(made, longer, 0, **options)
    assert rows == [(100, 100), (200, 200)]
    assert [row["step"] for row in stopped.curve] == [100, 200]
    again = train(made, longer, 0, **options)
    assert len(again.curve) == len(rows) == 2  # it had stopped before
    succeeded = train(made, longer.model_copy(update={"stop_at_success": 1.0}), 0).curve
    assert succeeded[-1]["eval/success"] == 1.0
    assert succeeded[-1]["step"] < 1_200
    assert all(row["eval/success"] < 1.0 for row in succeeded[:-1])


def test_normalised_states_are_part_of_the_agent_and_of_the_checkpoint(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"n_steps": 400, "eval_every": 200, "random_steps": 150, "normalize_states": True})
    recipe, made = {"same": True}, problem(Walk)
    whole = train(made, config, 0)
    train(made, config.model_copy(update={"n_steps": 200}), 0, folder=tmp_path, recipe=recipe)
    assert same(train(made, config, 0, folder=tmp_path, recipe=recipe), whole)
    raw = train(made, config.model_copy(update={"normalize_states": False}), 0)
    assert timeless(raw)[-1] != timeless(whole)[-1]
    moments = whole.agent.normalizer
    assert float(moments.count) == 400
    assert moments.var[:2].sqrt().numpy() == pytest.approx([0.6, 0.6], abs=0.25)  # places in [-1, 1]
    path = tmp_path / "agent.safetensors"
    save_networks(path, **whole.agent.networks())
    loaded = SAC.create(4, 2, config, None, seed=1)
    states, none = np.random.default_rng(0).uniform(-1, 1, (7, 4)).astype(np.float32), np.zeros((7, 0), np.float32)
    load_networks(path, **loaded.networks())
    np.testing.assert_array_equal(loaded.act(states, none, greedy=True), whole.agent.act(states, none, greedy=True))
    loaded.normalizer.mean.zero_()
    assert not np.array_equal(loaded.act(states, none, greedy=True), whole.agent.act(states, none, greedy=True))


@pytest.mark.parametrize("kind", [SACConfig, PPOConfig])
def test_a_device_that_is_not_there_is_refused(
    kind: type[SACConfig | PPOConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StudyError, match=r'found "cuda", but torch .* sees no GPU.*set device to "cpu"'):
        train(problem(Walk), kind(device="cuda"), 0)
    assert device_for("auto") == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_on_a_gpu_learns_as_one_on_the_processor() -> None:
    there = train(problem(Walk, Pointing(1.0)), SMALL.model_copy(update={"device": "cuda"}), 0)
    here = train(problem(Walk, Pointing(1.0)), SMALL, 0)
    assert there.agent.actor.first.weight.is_cuda
    assert there.curve[-1]["loss/critic"] == pytest.approx(here.curve[-1]["loss/critic"], rel=0.05)


def test_settings_that_came_later_leave_recipes_as_they_were() -> None:
    assert not {"device", "stop_at_success", "normalize_states"} & set(SACConfig().recipe())
    assert SACConfig(normalize_states=True).recipe()["normalize_states"]
    assert PPOConfig().recipe()["normalize_states"]
    assert PPOConfig(device="auto").recipe()["device"] == "auto"


@pytest.mark.parametrize(("algorithm", "keys"), [("sac", sac.LOG_KEYS), ("ppo", ppo.LOG_KEYS)])
def test_every_log_key_and_setting_is_explained_once_on_the_algorithms_page(
    algorithm: str, keys: tuple[str, ...]
) -> None:
    page = (ROOT / "docs/algorithms" / f"{algorithm}.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `([a-z]+/[a-z_]+)` \|", page, re.MULTILINE)) == keys
    settings = (SACConfig if algorithm == "sac" else PPOConfig).model_fields
    table = page.split("## Settings")[1].split("\n## ")[0]
    explained = [
        name for row in re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(explained) == sorted(settings)


def test_further_evaluations_change_nothing_but_the_log() -> None:
    made = problem(Walk, Pointing(1.0), n_envs=2)
    early = train(made, SMALL.model_copy(update={"eval_early": (101, 300)}), 0)
    usual = train(made, SMALL, 0)
    assert [row["step"] for row in early.curve] == [102, 300, 600]
    assert early.curve[-1]["eval/return"] == usual.curve[-1]["eval/return"]
    for name, value in usual.agent.actor.state_dict().items():
        assert torch.equal(early.agent.actor.state_dict()[name], value)


@pytest.mark.parametrize("env", [Walk, Echo])  # Echo never succeeds, so no leader has anything in its favour
@pytest.mark.parametrize(
    "method_name",
    ["sac", "guided-sac", "guided-sac-kl", "only-proposals", "only-density", "only-warm-start", "only-residual"],
)
def test_a_guide_that_says_nothing_is_the_plain_algorithm_bit_for_bit(method_name: str, env: Any) -> None:
    config = SMALL.model_copy(update=METHODS[method_name].settings)
    silent, without = train(problem(env, NullGuide(ActionSpace(2))), config, 0), train(problem(env), config, 0)
    assert silent.leader == without.leader == "policy"
    np.testing.assert_array_equal(
        [[v for k, v in row.items() if k[:4] != "time" and k != "train/fade"] for row in silent.curve],
        [[v for k, v in row.items() if k[:4] != "time" and k != "train/fade"] for row in without.curve],
    )
    assert silent.curve[-1]["train/prior_share"] == 0.0
    for name, value in without.agent.actor.state_dict().items():
        assert torch.equal(silent.agent.actor.state_dict()[name], value)
    if config.observe_prior:
        assert torch.equal(silent.agent.actor.state_dict()["hint"], torch.zeros(4, 16))
    assert env is Walk or all(row["eval/return"] < 0.0 for row in without.curve)


def test_a_warm_start_is_made_where_the_prior_led() -> None:
    settings = METHODS["only-warm-start"].settings | {"warm_start_updates": 500, "n_steps": 302, "eval_early": (200,)}
    made = problem(Walk, Pointing(1.0), n_envs=2)
    config = SMALL.model_copy(update=settings | {"random_steps": 300, "eval_every": 302})
    run = train(made, config, 0, final_episodes=20)
    assert run.curve[0]["train/prior_share"] == 1.0
    assert run.curve[0]["train/success"] > 0.9
    assert run.leader == "policy"  # the prior's episodes were a beginning: it may not lead any other
    cold = train(made, config.model_copy(update={"warm_start_updates": 0}), 0, final_episodes=20)
    succeeded, before = (sum(outcome.success for outcome in each.final) for each in (run, cold))
    assert succeeded >= 15
    assert before <= 5


GO = """
import sys
from pathlib import Path
from lago_skills.rl.loop import Loop, train
from tests.small_envs import SMALL, Pointing, Walk, problem
train(problem(Walk, Pointing(1.0), n_envs=2), SMALL.model_copy(update={"n_steps": 900}), 0, folder=Path(sys.argv[1]),
      report=lambda step, row: print(step, flush=True))
"""


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", GO, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 700:  # after the second checkpoint, before the end
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert Checkpoint.load(tmp_path / "checkpoint", {"other": 1}) is None
    config, made = SMALL.model_copy(update={"n_steps": 900}), problem(Walk, Pointing(1.0), n_envs=2)
    steps: list[int] = []
    went_on = train(made, config, 0, folder=tmp_path, report=lambda step, row: steps.append(step))
    assert steps[0] > 600
    whole = train(made, config, 0)
    assert same(went_on, whole)
    assert len(went_on.harvested) == len(whole.harvested) > 0
    with (tmp_path / "curve.csv").open() as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == ["300", "600", "900"]


def test_a_run_on_the_simulator_goes_on_exactly(tmp_path: Path, playbooks: dict[str, Playbook]) -> None:
    config = SMALL.model_copy(update={"n_steps": 500, "eval_every": 250, "plan_noise_m": 0.05})
    made = world_problem(MetaWorld(), [find_task("door-lock")], MetaWorldGrounding(), random_guide(playbooks), 0)
    recipe = {"same": True}
    train(made, config.model_copy(update={"n_steps": 250}), 0, folder=tmp_path, recipe=recipe)
    went_on, whole = train(made, config, 0, folder=tmp_path, recipe=recipe), train(made, config, 0)
    # a shorter run has a smaller buffer, but neither is full
    assert same(went_on, whole)


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SMALL.model_copy(update={"n_steps": 300})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 1)
        train(problem(Walk), config, 0, folder=tmp_path)
    with pytest.raises(
        ArtifactCorrupt, match=r"found format 1 of an unfinished run; expected format 2.*delete the folder"
    ):
        train(problem(Walk), config, 0, folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 3)
        train(problem(Walk), config, 0, folder=tmp_path / "later")
    with pytest.raises(FormatTooNew, match="found format 3"):
        train(problem(Walk), config, 0, folder=tmp_path / "later")


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    train(problem(Walk), SMALL, 0, folder=tmp_path)
    path = tmp_path / "checkpoint" / checkpoint.ARRAYS_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtifactCorrupt, match="damaged"):
        train(problem(Walk), SMALL, 0, folder=tmp_path)


def test_a_full_disk_keeps_the_checkpoint_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SMALL.model_copy(update={"n_steps": 300})
    recipe = {"same": True}
    train(problem(Walk), config, 0, folder=tmp_path, recipe=recipe)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    result = train(problem(Walk), SMALL, 0, folder=tmp_path, recipe=recipe)
    assert [row["step"] for row in result.curve] == [300, 600]
    assert "full while writing checkpoint" in capsys.readouterr().err
    kept = Checkpoint.load(tmp_path / "checkpoint", recipe)
    assert kept is not None
    assert kept.values["step"] == 300
    with pytest.raises(DiskFull):
        kept.save(tmp_path / "checkpoint", recipe)


FULL = """
import os, sys
from pathlib import Path
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.loop import Loop, train
from tests.small_envs import SMALL, Walk, problem
folder, recipe = Path(sys.argv[1]), {"same": True}
config = SMALL.model_copy(update={"n_steps": 1200})
def report(step, row):
    filler = folder / "filler"
    if step == 400:
        with filler.open("wb", buffering=0) as stream:
            try:
                while stream.write(bytes(4096)): pass
            except OSError as error:
                print(error)
    if step == 1000:
        filler.unlink()
curve = train(problem(Walk), config, 0, folder=folder, recipe=recipe, report=report).curve
print([row["step"] for row in curve], (folder / "curve.csv").read_text().count("\\n"))
print(Checkpoint.load(folder / "checkpoint", recipe).values["step"])
"""


def test_a_disk_that_really_is_full_stops_nothing(tmp_path: Path) -> None:
    mounted = f"mount -t tmpfs -o size=2m tmpfs {tmp_path}"
    apart = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*apart, mounted], check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    script = f'{mounted} && exec "$0" -c "$1" "$2"'
    done = subprocess.run(
        [*apart, script, sys.executable, FULL, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[Errno 28] No space left on device", "[300, 600, 900, 1200] 5", "1200"]
    assert "is full; expected room for the log" in done.stderr
    assert "is full while writing" in done.stderr


def test_a_full_disk_only_delays_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RunLog(tmp_path, ["a/b"])
    log.add({"step": 1, "a/b": 0.5})

    def full(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(runlog, "write_text", full)
        log.add({"step": 2, "a/b": 0.25})
        assert (tmp_path / "curve.csv").read_text() == "step,a/b\n1,0.5\n"
        patch.setattr(runlog, "write_text", broken)
        with pytest.raises(OSError, match="broken"):
            log.add({"step": 3, "a/b": 0.1})
    log.add({"step": 4, "a/b": 1.0})
    log.close()
    assert (tmp_path / "curve.csv").read_text() == "step,a/b\n1,0.5\n2,0.25\n3,0.1\n4,1.0\n"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path)).Reload()
    shown = [(each.step, each.value) for each in board.Scalars("a/b")]
    np.testing.assert_allclose(shown, [(1, 0.5), (2, 0.25), (3, 0.1), (4, 1.0)], rtol=1e-6)


def test_a_kill_between_the_two_renames_of_a_checkpoint_loses_nothing(tmp_path: Path) -> None:
    train(problem(Walk), SMALL, 0, folder=tmp_path, recipe={"same": True})
    (tmp_path / "checkpoint").rename(tmp_path / ".checkpoint.1.old")
    kept = Checkpoint.load(tmp_path / "checkpoint", {"same": True})
    assert kept is not None
    assert kept.values["step"] == 600


def test_a_run_goes_on_only_with_the_guide_and_the_demonstrations_it_was_begun_with(tmp_path: Path) -> None:
    made = problem(Walk, Pointing(1.0))
    shown = demonstrations(3, made)

    def reported(other: Problem, demos: list[Episode]) -> list[int]:
        steps: list[int] = []
        train(other, SMALL, 0, demonstrations=demos, folder=tmp_path, report=lambda step, row: steps.append(step))
        return steps

    assert reported(made, shown)[0] == 100
    assert reported(made, shown) == []  # it has ended
    assert reported(problem(Walk, Pointing(-1.0)), shown)[0] == 100
    assert reported(problem(Walk, Pointing(-1.0)), shown[:2])[0] == 100


def test_an_environment_that_does_not_repeat_itself_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [0]

    class Restless(Walk):
        def __init__(self) -> None:
            super().__init__()
            made[0] += 1
            self.shift = 0.001 * made[0]

        def _seen(self) -> NDArray[np.float64]:
            return super()._seen() + self.shift

    recipe = {"same": True}
    config = SMALL.model_copy(update={"n_steps": 300})
    train(problem(Restless, Pointing(1.0)), config, 0, folder=tmp_path, recipe=recipe)
    assert "found another observation" not in capsys.readouterr().err
    result = train(problem(Restless, Pointing(1.0)), SMALL, 0, folder=tmp_path, recipe=recipe)
    assert "environment 0: found another observation than before" in capsys.readouterr().err
    assert [row["step"] for row in result.curve] == [300, 600]


def test_a_log_row_with_other_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="declare new keys"):
        RunLog(None, ["a/b"]).add({"step": 1, "a/c": 2.0})


def demonstrations(n: int, made: Problem) -> list[Episode]:
    """Straight walks to the goal."""
    found: list[Episode] = []
    for seed in range(n):
        env = Walk()
        observation, _ = env.reset(seed=5000 + seed)
        observations, actions, rewards, done = [observation], list[Any](), list[float](), False
        while not done:
            action = np.clip(8.0 * observation[2:], -1.0, 1.0).astype(np.float32)
            observation, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            observations.append(observation)
            actions.append(action)
            rewards.append(reward)
        arrays = [np.array(rows, np.float32) for rows in (observations, actions, rewards)]
        found.append(Episode(made.tasks[0], seed, *arrays, success=True))
    return found


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_demonstrations_fill_their_share_of_every_batch(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = demonstrations(3, problem(Walk))
    known = {row.tobytes() for episode in shown for row in episode.observations}
    shares: list[float] = []
    update = SAC.update_critics

    def count(self: SAC, batch: Batch, density_weight: float) -> float:
        demonstrated = [row.tobytes() in known for row in batch.state.numpy()]
        shares.append(float(np.mean(demonstrated)))
        return update(self, batch, density_weight)

    monkeypatch.setattr(SAC, "update_critics", count)
    config = SMALL.model_copy(update=METHODS["rlpd"].settings | {"success_share": share, "n_steps": 320})
    taught = train(problem(Walk), config, 0, demonstrations=shown)
    assert shares == [share] * 20
    assert not taught.harvested  # a baseline that does not harvest
    shares.clear()
    train(problem(Walk), config, 0)
    assert shares == [0.0] * 20


def test_learners_have_names() -> None:
    assert method("rlpd").demonstrations
    for each in METHODS.values():
        usual = PPOConfig() if each.algorithm == "ppo" else SACConfig()
        type(usual).model_validate(usual.model_dump() | each.settings)
    with pytest.raises(StudyError, match="found learner 'sca'"):
        method("sca")


def test_a_learned_policy_is_found_again(tmp_path: Path) -> None:
    made = problem(Walk, Pointing(1.0))
    result = train(made, SMALL, 0, final_episodes=5)
    act = greedy_policy(made, result.agent, result.leader)
    assert [o.steps for o in evaluate(made, act, 5)] == [o.steps for o in result.final]


def test_the_step_from_which_success_stays() -> None:
    assert steps_to_stay([(1, 0.9), (2, 0.5), (3, 0.95), (4, 1.0)]) == 3
    assert steps_to_stay([(1, 0.9), (2, 1.0)]) == 1
    assert steps_to_stay([(1, 1.0), (2, 0.8)]) is None


# Learning ---------------------------------------------------------------------------------------------------------------

LEARN = SACConfig(
    n_steps=3_000, random_steps=300, eval_every=500, eval_episodes=40, batch_size=64, hidden_size=64, learning_rate=1e-3
)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_plain_sac_learns_to_repeat_what_it_sees() -> None:
    config = LEARN.model_copy(update=METHODS["sac"].settings | {"n_step": 1, "gamma": 0.5, "actor_every": 1})
    curve = train(problem(Echo), config, 0).curve
    assert curve[-1]["eval/return"] > -0.5  # over 20 steps; uniform noise has about -21
    assert curve[0]["eval/return"] < 4 * curve[-1]["eval/return"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_good_guide_beats_none_and_a_wrong_one_is_overcome() -> None:
    plain = LEARN.model_copy(update=METHODS["sac"].settings)
    longer = {"n_steps": 5_000}
    alone = train(problem(Nearby), plain.model_copy(update=longer), 0).curve
    good = train(problem(Nearby, Pointing(1.0)), LEARN, 0).curve
    wrong = train(problem(Nearby, Pointing(-1.0)), LEARN.model_copy(update=longer), 0).curve
    assert alone[0]["eval/success"] < 0.5
    assert min(row["eval/success"] for row in good) > 0.9
    assert alone[-1]["eval/success"] > 0.9
    assert wrong[-1]["eval/success"] > 0.9
    assert wrong[-1]["train/prior_share"] < 0.1
    assert wrong[-1]["train/fade"] < 0.1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(importlib.util.find_spec("stable_baselines3") is None, reason="needs stable-baselines3")
@pytest.mark.filterwarnings("ignore:Converting a tensor:UserWarning")
def test_plain_sac_has_the_curve_of_stable_baselines() -> None:
    """Same settings, three seeds each: both learn as fast (the logarithm of what is missing, over the curve) and as well (at its end)."""
    alike = {"n_step": 1, "gamma": 0.5, "actor_every": 1, "layer_norm": False, "initial_alpha": 1.0}
    config = LEARN.model_copy(update=METHODS["sac"].settings | alike | {"eval_every": 250, "n_steps": 2_500})
    seeds = (0, 1, 2)
    ours = [[row["eval/return"] for row in train(problem(Echo, seed=seed), config, seed).curve] for seed in seeds]
    theirs = [
        peer_returns(bench_train.peer_sac(problem(Echo, seed=seed), config, seed), len(ours[0])) for seed in seeds
    ]
    mine, peers = np.log10(-np.mean(ours, axis=0)), np.log10(-np.mean(theirs, axis=0))
    assert mine[0] > 0.7  # nothing is learned before the first updates; uniform noise misses 21, which is 1.3
    assert abs(mine - peers).mean() < 0.2
    assert mine[-1] < peers[-1] + 0.15


def peer_returns(model: Any, n_rows: int) -> list[float]:
    """Mean return of greedy episodes on the evaluation seeds, after each 250 steps."""
    found: list[float] = []
    for _ in range(n_rows):
        model.learn(250, reset_num_timesteps=False)

        def act(observations: NDArray[Any], tasks: NDArray[np.int64]) -> NDArray[Any]:
            return model.predict(observations.astype(np.float32), deterministic=True)[0]

        found.append(float(np.mean([each.episode_return for each in evaluate(problem(Echo), act, 40)])))
    return found
