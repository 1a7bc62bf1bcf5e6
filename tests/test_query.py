"""The learned query: its training, its file, and a guide that looks skills up with it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lago_skills.artifacts.folder import verify, writing
from lago_skills.core import ActionSpace, Condition, Episode, Feature, Playbook, Step, Vocabulary
from lago_skills.decoder.dataset import label_episodes
from lago_skills.decoder.runtime import Linear
from lago_skills.errors import ArtifactCorrupt, ShapeError, StudyError
from lago_skills.guide.bundle import QUERY_FILE, RETRIEVAL_FILE, load_bundle, write_bundle
from lago_skills.guide.guides import LibraryGuide, RetrievalConfig, between
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.playbook import CompiledPlaybook
from lago_skills.query.config import QueryConfig
from lago_skills.query.dataset import query_steps
from lago_skills.query.runtime import LearnedQuery, QueryNetwork
from lago_skills.query.steps import QuerySteps
from lago_skills.query.training import figures, train
from lago_skills.stages import build, collect, plan, pretrain, query, segment
from lago_skills.stages.job import Job
from lago_skills.stages.workspace import Workspace
from lago_skills.study import load_study
from lago_skills.worlds.grounding import goals
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import GROUPS
from lago_skills.worlds.own import NamedEntries
from tests.conftest import ROOT, random_decoder

INPUTS, EMBEDDING, Z = 28, 384, 8
TINY = QueryConfig(n_updates=250, hidden_sizes=(32,), batch_size=128, learning_rate=1e-2)


def unit(rng: np.random.Generator, n: int, size: int = Z) -> np.ndarray:
    rows = rng.normal(size=(n, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def quiet(update: int, loss: float) -> None:
    """No progress."""


def steps(n: int = 900, **changes: Any) -> QuerySteps:
    """Two tasks; in each, one of two skills by the sign of the first number: neither alone tells which."""
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-1, 1, (n, 5)).astype(np.float32)
    tasks = rng.integers(0, 2, n)
    fields: dict[str, Any] = {
        "inputs": inputs,
        "variants": inputs[:, None],
        "tasks": tasks,
        "skills": 2 * tasks + (inputs[:, 0] > 0),
        "held_out": np.arange(n) % 5 == 4,
        "weights": np.ones(n),
        "words": unit(rng, 6, 12).reshape(2, 3, 12),
        "latents": unit(rng, 4),
    }
    return QuerySteps(**{**fields, **changes})


def network(seed: int = 0, n_inputs: int = INPUTS, latent: int = Z) -> QueryNetwork:
    rng = np.random.default_rng(seed)

    def linear(n_out: int, n_in: int) -> Linear:
        weight = rng.normal(size=(n_out, n_in)) / np.sqrt(n_in)
        return Linear(weight.astype(np.float32), rng.normal(size=n_out).astype(np.float32))

    mean, std = np.zeros(n_inputs, np.float32), np.ones(n_inputs, np.float32)
    task = Linear(linear(6, EMBEDDING).weight, np.zeros(6, np.float32))
    return QueryNetwork(mean, std, task, (linear(16, n_inputs + 6), linear(latent, 16)))


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


def parts(playbooks: dict[str, Playbook]) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    supports = [{}, {"steps": 0.0}, *({"steps": float(10 * n)} for n in range(1, 19))]
    skills = [
        NewSkill(f"skill {i}", latent, support=support)
        for i, (latent, support) in enumerate(zip(unit(np.random.default_rng(0), 20), supports, strict=True))
    ]
    return {
        "grounding": MetaWorldGrounding(),
        "decoder": random_decoder(),
        "library": SkillLibrary.in_memory(Z, skills),
        "playbooks": playbooks,
        "step_latents": {name: unit(rng, len(book.steps)) for name, book in playbooks.items()},
    }


def learned(playbooks: dict[str, Playbook]) -> LearnedQuery:
    rng = np.random.default_rng(5)
    return LearnedQuery(network(), {name: unit(rng, 1, EMBEDDING)[0] for name in playbooks})


OBSERVATIONS = np.random.default_rng(3).normal(0.0, 0.3, (40, 39))
OBSERVATIONS[::2, 4:7] = OBSERVATIONS[::2, :3] + [0.0, 0.0, -0.045]  # every other gripper is at its object
OBSERVATIONS[::4, 3] = 0.4


def test_a_guide_by_the_playbook_is_what_it_was_with_or_without_a_network(playbooks: dict[str, Playbook]) -> None:
    made = parts(playbooks)
    config = RetrievalConfig(k=3, temperature=0.1)
    guide = LibraryGuide(**made, config=config)
    beside = LibraryGuide(**made, config=config, learned=learned(playbooks))
    book, latents = guide.playbooks["push"], made["step_latents"]["push"]
    steps = book.active(guide.grounding.read(OBSERVATIONS).values)
    assert len(set(steps.tolist())) > 1
    found = made["library"].search(latents, 3)
    logits = found.scores / 0.1
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    inputs = guide.grounding.read(OBSERVATIONS).inputs(book.targets(steps, guide.grounding.read(OBSERVATIONS).anchors))
    expected = made["decoder"].decode(inputs, made["library"].latents(found.ids[steps])).flat(weights[steps], 0.02)
    for one in (guide, beside):
        prior = one.prior(OBSERVATIONS, "push")
        for name, array in asdict(expected).items():
            np.testing.assert_array_equal(getattr(prior, name), array)
    np.testing.assert_array_equal(guide.retrieve(OBSERVATIONS, "push").queries, latents[steps])


def test_a_learned_query_looks_up_each_state_and_the_plan_says_where_to_head(playbooks: dict[str, Playbook]) -> None:
    made, asked = parts(playbooks), learned(playbooks)
    guide = LibraryGuide(**made, config=RetrievalConfig(k=3, query="learned"), learned=asked)
    found = guide.retrieve(OBSERVATIONS, "push-wall")
    inputs = guide.grounding.read(OBSERVATIONS).inputs(OBSERVATIONS[:, 36:39])
    np.testing.assert_array_equal(found.queries, asked(inputs, "push-wall"))
    nearest = made["library"].search(found.queries, 3)
    np.testing.assert_array_equal(found.neighbors.ids, nearest.ids)
    assert len(np.unique(found.neighbors.ids[:, 0])) > 1
    assert (np.diff(found.weights, axis=1) <= 0).all()
    steps = np.argmax(found.queries @ made["step_latents"]["push-wall"].T, axis=1)
    np.testing.assert_array_equal(found.steps, steps)
    anchors = guide.grounding.read(OBSERVATIONS).anchors
    np.testing.assert_array_equal(found.targets, guide.playbooks["push-wall"].targets(steps, anchors))
    one = guide.prior(OBSERVATIONS[7:8], "push-wall").greedy()[0]
    np.testing.assert_allclose(one, guide.prior(OBSERVATIONS, "push-wall").greedy()[7], rtol=1e-4, atol=1e-6)
    other = guide.retrieve(OBSERVATIONS, "push")
    assert np.abs(other.queries - found.queries).max() > 0.01  # the task matters
    top = int(found.neighbors.ids[0, 0])
    made["library"].disable(top)
    assert top not in guide.retrieve(OBSERVATIONS, "push-wall").neighbors.ids


def test_a_blend_lies_between(playbooks: dict[str, Playbook]) -> None:
    made, asked = parts(playbooks), learned(playbooks)

    def retrieve(share: float) -> Any:
        config = RetrievalConfig(k=3, query="blend", blend=share)
        return LibraryGuide(**made, config=config, learned=asked).retrieve(OBSERVATIONS, "push")

    plan = LibraryGuide(**made, config=RetrievalConfig(k=3)).retrieve(OBSERVATIONS, "push")
    none, half, whole = (retrieve(share) for share in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(none.neighbors.ids, plan.neighbors.ids)
    np.testing.assert_allclose(none.weights, plan.weights, rtol=1e-4)
    np.testing.assert_allclose(
        whole.queries, asked(MetaWorldGrounding().read(OBSERVATIONS).inputs(OBSERVATIONS[:, 36:]), "push"), atol=1e-6
    )
    for found in (none, half, whole):
        np.testing.assert_array_equal(found.steps, plan.steps)
        np.testing.assert_array_equal(found.targets, plan.targets)
        np.testing.assert_allclose(np.linalg.norm(found.queries, axis=1), 1.0, rtol=1e-5)
    between = np.sum(half.queries * plan.queries, axis=1)
    np.testing.assert_allclose(
        between, np.sum(half.queries * whole.queries, axis=1), atol=1e-5
    )  # as near to one as the other
    assert (between > np.sum(whole.queries * plan.queries, axis=1)).all()


def test_queries_that_cancel_out_leave_the_plans() -> None:
    plans = unit(np.random.default_rng(0), 3)
    np.testing.assert_array_equal(between(plans, -plans, 0.5), plans)


def test_support_shifts_weights_as_stated_and_follows_the_library(playbooks: dict[str, Playbook]) -> None:
    made = parts(playbooks)
    off = LibraryGuide(**made, config=RetrievalConfig(k=20)).retrieve(OBSERVATIONS[:1], "push")
    guide = LibraryGuide(**made, config=RetrievalConfig(k=20, support_weight=0.5))

    def expected() -> np.ndarray:
        counts = np.array([made["library"].get(int(i)).support.get("steps", 0.0) for i in off.neighbors.ids[0]])
        weights = off.weights[0] * np.maximum(counts, 1.0) ** 0.5
        return weights / weights.sum()

    found = guide.retrieve(OBSERVATIONS[:1], "push")
    np.testing.assert_array_equal(found.neighbors.ids, off.neighbors.ids)  # the order is of similarity
    np.testing.assert_allclose(found.weights[0], expected(), rtol=1e-4)
    assert np.abs(found.weights - off.weights).max() > 0.05
    made["library"].edit(int(off.neighbors.ids[0, -1]), support={"steps": 1e6})
    np.testing.assert_allclose(guide.retrieve(OBSERVATIONS[:1], "push").weights[0], expected(), rtol=1e-4)


def test_fewer_skills_than_neighbours(playbooks: dict[str, Playbook]) -> None:
    made = parts(playbooks)
    for skill in made["library"].list()[2:]:
        made["library"].disable(skill.id)
    config = RetrievalConfig(k=8, query="learned", support_weight=0.25)
    found = LibraryGuide(**made, config=config, learned=learned(playbooks)).retrieve(OBSERVATIONS, "push")
    assert set(found.neighbors.ids[found.weights > 0].tolist()) == {1, 2}
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0, rtol=1e-5)


def test_a_learned_query_without_a_network_is_refused(playbooks: dict[str, Playbook]) -> None:
    with pytest.raises(StudyError, match=r"guide.query = 'learned' and no query network"):
        LibraryGuide(**parts(playbooks), config=RetrievalConfig(query="learned"))


def test_bundles_with_and_without_a_query_network(tmp_path: Path, playbooks: dict[str, Playbook]) -> None:
    made, asked = parts(playbooks), learned(playbooks)
    books = made.pop("playbooks"), made["step_latents"]

    def write(name: str, config: RetrievalConfig, own: LearnedQuery | None, old: bool = False) -> Path:
        with writing(tmp_path / name, "build", {}) as writer:
            write_bundle(writer.path, made["decoder"], made["library"], *books, config, own)
            if old:
                (writer.path / RETRIEVAL_FILE).write_text(json.dumps({"k": 3, "temperature": 0.1, "floor": 0.02}))
        return tmp_path / name

    with_one = write("with", RetrievalConfig(k=3, query="blend"), asked)
    expected = LibraryGuide(**made, playbooks=books[0], config=RetrievalConfig(k=3, query="blend"), learned=asked)
    prior = load_bundle(with_one).prior(OBSERVATIONS, "push")
    np.testing.assert_array_equal(prior.greedy(), expected.prior(OBSERVATIONS, "push").greedy())
    without = load_bundle(write("without", RetrievalConfig(k=3), None, old=True))
    assert without.learned is None
    assert without.config == RetrievalConfig(k=3, temperature=0.1)
    np.testing.assert_array_equal(
        without.prior(OBSERVATIONS, "push").greedy(),
        LibraryGuide(**made, playbooks=books[0], config=without.config).prior(OBSERVATIONS, "push").greedy(),
    )
    with pytest.raises(StudyError, match="no query network"):
        load_bundle(write("asks", RetrievalConfig(query="learned"), None))
    (with_one / QUERY_FILE).write_bytes(b"")
    with pytest.raises(ArtifactCorrupt, match=r"query\.safetensors"):
        load_bundle(with_one)


def make(space: Workspace, *stages: Any) -> None:
    jobs: list[Job]
    for stage in stages:
        jobs = stage.jobs(space)
        for job in jobs:
            job.run(lambda done, note: None)


STUDY = """
name = "demo"
[tasks]
seen = ["ten"]
unseen = ["reach-wall"]
[collect]
episodes_per_task = 2
[decoder]
n_updates = 60
hidden_sizes = [32]
phrase_share = 0.0
contrast_every = 0
text_dropout = 0.0
[query]
n_updates = 150
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_study_builds_a_bundle_with_a_learned_query(tmp_path: Path) -> None:
    for name in ("transcripts", "scenes", "lint"):
        shutil.copytree(ROOT / "data" / name, tmp_path / "data" / name)
    file = tmp_path / "data/studies/demo.toml"
    file.parent.mkdir()
    file.write_text(STUDY)
    made = Workspace(tmp_path, file, load_study(file))
    make(made, collect, plan, segment, pretrain)
    file.write_text(STUDY.replace('name = "demo"', 'name = "demo"\n[guide]\nquery = "blend"'))
    space = Workspace(tmp_path, file, load_study(file))
    (job,) = build.jobs(space)
    assert job.recipe["learned"]["stage"] == "query"
    job.run(lambda done, note: None)
    assert build.jobs(space)[0].done
    guide = build.guide(space)
    assert guide.config.query == "blend"
    assert guide.learned is not None
    assert set(guide.learned.embeddings) == {*GROUPS["ten"], "reach-wall"}
    by_hand = build.assemble(
        space, pretrain.load(space.artifact("decoder")), query.wanted(space, space.artifact("decoder"), 0)
    )
    np.testing.assert_array_equal(
        by_hand.prior(OBSERVATIONS, "reach-wall").greedy(), guide.prior(OBSERVATIONS, "reach-wall").greedy()
    )
    trained = query.job(space, space.artifact("decoder"), 0)
    assert trained.done
    assert verify(trained.folder).summary["top_1"] > 0.5
    assert query.wanted(made, made.artifact("decoder"), 0) is None
