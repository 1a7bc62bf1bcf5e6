"""Guides and bundles with learned queries."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.artifacts.folder import verify, writing
from lago_skills.core import Playbook
from lago_skills.errors import ArtifactCorrupt, StudyError
from lago_skills.guide.bundle import QUERY_FILE, RETRIEVAL_FILE, load_bundle, write_bundle
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.retrieval import RetrievalConfig, between
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.query.query_network import LearnedQuery
from lago_skills.stages import build, collect, plan, pretrain, query, segment
from lago_skills.stages.workspace import Workspace
from lago_skills.study import load_study
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import GROUPS
from tests.conftest import ROOT, random_decoder, run_stages
from tests.query_data import EMBEDDING, Z, network, unit


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
    run_stages(made, collect, plan, segment, pretrain)
    file.write_text(STUDY.replace('name = "demo"', 'name = "demo"\n[guide]\nquery = "blend"'))
    space = Workspace(tmp_path, file, load_study(file))
    (job,) = build.jobs(space)
    assert job.recipe["learned"]["stage"] == "query"
    job.run(lambda done, note: None)
    assert build.jobs(space)[0].done
    guide = build.guide(space.artifact("bundle"), space.study.grounding)
    assert guide.config.query == "blend"
    assert guide.learned is not None
    assert set(guide.learned.embeddings) == {*GROUPS["ten"], "reach-wall"}
    folder = space.artifact("decoder")
    parts = segment.labelled(space), pretrain.load(folder), build.retrieval(space.study.guide)
    by_hand = build.assemble(*parts, query.wanted(space, folder, 0))
    np.testing.assert_array_equal(
        by_hand.prior(OBSERVATIONS, "reach-wall").greedy(), guide.prior(OBSERVATIONS, "reach-wall").greedy()
    )
    trained = query.job(space, space.artifact("decoder"), 0)
    assert trained.done
    assert verify(trained.folder).summary["top_1"] > 0.5
    assert query.wanted(made, made.artifact("decoder"), 0) is None
