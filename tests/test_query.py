"""Networks that ask for skills: training, round trips and bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lago_skills.core import ActionSpace, Condition, Episode, Feature, Playbook, Step, Vocabulary
from lago_skills.decoder.dataset import label_episodes
from lago_skills.errors import ArtifactCorrupt, ShapeError, StudyError
from lago_skills.playbook import CompiledPlaybook
from lago_skills.query.query_dataset import query_steps
from lago_skills.query.query_network import LearnedQuery, QueryNetwork
from lago_skills.query.training import figures, train
from lago_skills.worlds.grounding import goals
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.own import NamedEntries
from tests.conftest import random_decoder
from tests.query_data import EMBEDDING, INPUTS, TINY, Z, network, quiet, steps, unit


def test_training_finds_what_only_state_and_task_together_tell() -> None:
    found, scores = train(steps(), TINY, 0, quiet)
    assert scores["top_1"] > 0.9
    assert scores["top_1_by_task"] < 0.65
    assert scores["top_3"] >= scores["top_1"]
    assert scores["n_held_out"] == 180
    told = found.queries(steps().inputs, found.contexts(steps().words[:, 0])[steps().tasks])
    assert told.shape == (900, Z)
    np.testing.assert_allclose(np.linalg.norm(told, axis=1), 1.0, rtol=1e-5)
    everything = replace(steps(), held_out=np.zeros(900, np.bool_))
    assert figures(found, everything)["n_held_out"] == 900


def test_one_seed_is_one_network_and_nobody_elses_randomness_is_touched(tmp_path: Path) -> None:
    config = TINY.model_copy(update={"n_updates": 30})
    before = torch.random.get_rng_state()
    for number, seed in enumerate((3, 3, 4)):
        train(steps(), config, seed, quiet)[0].save(tmp_path / str(number))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes() != (tmp_path / "2").read_bytes()


def test_progress_is_reported() -> None:
    seen: list[int] = []
    train(steps(), TINY, 0, lambda update, loss: seen.append(update))
    assert seen == [100, 200]


def test_a_network_round_trips_bit_for_bit_and_another_file_is_refused(tmp_path: Path) -> None:
    made = network()
    made.save(tmp_path / "q")
    again = QueryNetwork.load(tmp_path / "q")
    rng = np.random.default_rng(1)
    inputs, embeddings = rng.normal(size=(7, INPUTS)), rng.normal(size=(7, EMBEDDING))
    np.testing.assert_array_equal(again.contexts(embeddings), made.contexts(embeddings))
    np.testing.assert_array_equal(
        again.queries(inputs, again.contexts(embeddings)), made.queries(inputs, made.contexts(embeddings))
    )
    random_decoder().save(tmp_path / "decoder")
    with pytest.raises(ArtifactCorrupt, match="delete its folder and build again"):
        QueryNetwork.load(tmp_path / "decoder")
    with pytest.raises(ArtifactCorrupt):
        QueryNetwork.load(tmp_path / "nothing")


@pytest.mark.parametrize("where", ["input_std", "layers", "nan"])
def test_a_network_whose_layers_do_not_fit_is_refused(where: str) -> None:
    made = network()
    changes: dict[str, Any] = {
        "input_std": {"input_std": np.ones(3, np.float32)},
        "layers": {"layers": made.layers[::-1]},
        "nan": {"input_mean": np.full(INPUTS, np.nan, np.float32)},
    }[where]
    with pytest.raises(ShapeError, match="query network"):
        replace(made, **changes)


def test_wrong_shapes_numbers_and_tasks_are_refused() -> None:
    made = network()
    contexts = made.contexts(np.ones((2, EMBEDDING)))
    with pytest.raises(ShapeError, match="expected \\(B, 28\\)"):
        made.queries(np.zeros((2, 5)), contexts)
    with pytest.raises(ShapeError):
        made.queries(np.zeros((2, INPUTS)), contexts[:, :3])
    with pytest.raises(ShapeError, match="finite"):
        made.queries(np.full((2, INPUTS), np.nan), contexts)
    with pytest.raises(ShapeError, match=r"expected \(N, 384\)"):
        made.contexts(np.zeros((2, 9)))
    with pytest.raises(ShapeError, match="finite"):
        LearnedQuery(made, {"push": np.full(EMBEDDING, np.inf, np.float32)})
    learned = LearnedQuery(made, {"push": np.ones(EMBEDDING, np.float32)})
    with pytest.raises(StudyError, match="no sentence of task 'juggle'"):
        learned(np.zeros((1, INPUTS)), "juggle")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": np.zeros(3, np.int64)}, "900 rows of each"),
        ({"variants": np.zeros((900, 2, 4), np.float32)}, "numbers of their steps"),
        ({"held_out": np.ones(900, np.bool_)}, "all held out"),
        ({"weights": np.full(900, np.nan)}, "finite"),
        ({"skills": np.full(900, 4)}, "found skill 4"),
        ({"tasks": np.full(900, -1)}, "expected one of 2"),
    ],
)
def test_steps_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ShapeError, match=said):
        steps(**changes)


def demonstrations(names: list[str], n: int = 3) -> dict[str, list[Episode]]:
    from lago_skills.worlds.metaworld.env import MetaWorldEnv
    from lago_skills.worlds.metaworld.tasks import expand
    from lago_skills.worlds.metaworld.world import demonstrate
    from lago_skills.worlds.seeds import DEMO_SEED

    found: dict[str, list[Episode]] = {}
    for task in expand(names):
        env = MetaWorldEnv(task)
        found[task.id] = [demonstrate(env, DEMO_SEED + 500 + i, 0.1) for i in range(n)]
        env.close()
    return found


def test_demonstrated_skills_are_picked_in_episodes_never_trained_on(
    grounding: MetaWorldGrounding, playbooks: dict[str, Playbook]
) -> None:
    episodes = demonstrations(["push", "button-press", "window-open"])
    found = label_episodes(episodes, playbooks, grounding)
    rng = np.random.default_rng(0)
    latents = {text: unit(rng, 1)[0] for text in dict.fromkeys(item.skill for item in found)}
    words = {name: unit(rng, 2 + number, EMBEDDING) for number, name in enumerate(episodes)}
    made = query_steps(episodes, found, latents, words, grounding, TINY, 0.2)
    assert made.words.shape == (3, 4, EMBEDDING)
    np.testing.assert_array_equal(made.words[0, 2:], words["push"])  # repeated where there are fewer
    assert len(made.inputs) == sum(len(e.actions) for runs in episodes.values() for e in runs)
    totals = [made.weights[made.tasks == task].sum() for task in range(3)]
    np.testing.assert_allclose(totals, 1.0)
    assert sorted({int(n) for n in made.tasks[made.held_out]}) == [0, 1, 2]
    _, scores = train(made, TINY, 0, quiet)
    chance = np.bincount(made.skills[~made.held_out]).max() / (~made.held_out).sum()
    assert scores["top_1"] > scores["top_1_by_task"] + 0.15
    assert scores["top_1"] > chance + 0.3


def test_an_environment_without_a_goal_has_zeros_for_it(grounding: MetaWorldGrounding) -> None:
    observations = np.random.default_rng(0).normal(size=(3, 39))
    np.testing.assert_array_equal(goals(grounding, grounding.read(observations)), observations[:, 36:39])
    own = NamedEntries({"x": (0, Feature("x", "m", "a place", 0.0, 1.0))}, "", 4, ActionSpace(2))
    np.testing.assert_array_equal(goals(own, own.read(observations[:, :4])), np.zeros((3, 0)))


def test_the_step_with_the_wanted_words_answers_and_conditions_choose_among_the_same_words() -> None:
    def when(bound: float) -> tuple[Condition, ...]:
        return (Condition("x", ">", bound),)

    book = Playbook(
        "t",
        (Step("go", None, when(2)), Step("go", None, when(1)), Step("hold", None, when(0)), Step("go", None)),
        "",
        "",
    )
    compiled = CompiledPlaybook(book, Vocabulary((Feature("x", "", ""),), ()))
    values = np.array([[3.0], [1.5], [-1.0]])
    assert compiled.active(values).tolist() == [0, 1, 3]
    go = np.tile([[0.9, 0.9 + 1e-7, 0.2, 0.9]], (3, 1))
    assert compiled.answering(values, go).tolist() == [0, 1, 3]
    assert compiled.answering(values, 1 - go).tolist() == [2, 2, 2]  # even where its conditions do not hold
    assert compiled.answering(values, np.tile([[0.9, 0.9, 0.2, 0.1]], (3, 1))).tolist() == [0, 1, 1]
