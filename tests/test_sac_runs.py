"""Whole runs of soft actor-critic: logs, callbacks, guidance, demonstrations."""

# torch leaves some argument types open, and numpy.interp some results.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lago_skills.core import ActionSpace
from lago_skills.errors import StudyError
from lago_skills.guide.guides import NullGuide
from lago_skills.rl import train
from lago_skills.rl.config import LEADERS, PPOConfig, SACConfig
from lago_skills.rl.loop import TrainOptions
from lago_skills.rl.methods import METHODS, method
from lago_skills.rl.networks import device_for, load_networks, save_networks
from lago_skills.rl.policy import greedy_policy
from lago_skills.rl.ppo import algorithm as ppo
from lago_skills.rl.problem import evaluate
from lago_skills.rl.sac import algorithm as sac
from lago_skills.rl.sac.agent import SAC
from lago_skills.rl.sac.algorithm import LOG_KEYS
from lago_skills.rl.sac.replay import Batch
from tests.conftest import ROOT
from tests.fading import steps_to_stay
from tests.small_envs import SMALL, Echo, Pointing, Walk, demonstrations, problem, same, timeless

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
    half = {"n_steps": 300, "random_steps": 150, "eval_every": 150}
    config = SMALL.model_copy(update=METHODS[method_name].settings | half)
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
