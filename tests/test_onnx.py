"""A task as an ONNX graph: checked in ONNX Runtime against the guide; what cannot be one is refused; the same graph as an engine for batches."""

# onnx and its runtime have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from lago_skills.core import Playbook
from lago_skills.errors import StudyError
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.loaded import BundleGuide, load
from lago_skills.guide.onnx_export import export, model_of
from lago_skills.guide.prepared_plan import PreparedPlan
from lago_skills.guide.retrieval import RetrievalConfig
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.prior import ActionPrior
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from tests.conftest import Lago
from tests.random_guides import library, random_guide, unit
from tests.test_bundles import states
from tests.test_prepared import named_features, random_book, random_network


@pytest.fixture(scope="module")
def guide(bundle: Path) -> BundleGuide:
    return load(bundle, unfamiliar="answer")


def run(path: Path, rows: np.ndarray) -> dict[str, Any]:
    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, {"observation": rows.astype(np.float32)}), strict=True))


def test_a_graph_says_what_the_guide_says(guide: BundleGuide, tmp_path: Path) -> None:
    rows = np.concatenate([states(300), 100.0 * states(5)]).astype(np.float32)
    for task in guide.tasks:
        export(guide, task, tmp_path / "task.onnx")
        said, answer = run(tmp_path / "task.onnx", rows), guide.task(task).answer(rows)
        familiar = ~answer.unfamiliar
        assert isinstance(answer.prior, ActionPrior)
        np.testing.assert_array_equal(said["step"], answer.steps)
        np.testing.assert_allclose(said["action"], answer.actions, atol=1e-5)
        np.testing.assert_allclose(
            said["weights"], answer.prior.weights if familiar.all() else said["weights"], atol=1e-5
        )
        for name in ("means", "stds"):
            np.testing.assert_allclose(said[name][familiar], getattr(answer.prior, name)[familiar], atol=1e-5)
        np.testing.assert_allclose(said["unfamiliarity"], answer.unfamiliarity, rtol=1e-4, atol=1e-5)
        one = run(tmp_path / "task.onnx", rows[:1])
        np.testing.assert_allclose(one["action"], said["action"][:1], atol=1e-6)


def test_its_metadata_names_what_goes_in_and_out(guide: BundleGuide, tmp_path: Path) -> None:
    export(guide, "push", tmp_path / "push.onnx")
    session: Any = onnxruntime.InferenceSession(str(tmp_path / "push.onnx"), providers=["CPUExecutionProvider"])
    facts: dict[str, str] = session.get_modelmeta().custom_metadata_map
    assert facts["task"] == "push"
    assert facts["bundle"] == guide.digest
    assert json.loads(facts["observation"]) == guide.description["observation"]
    assert json.loads(facts["action"])["entries"][0]["unit"] == "cm/step"
    assert json.loads(facts["control_hz"]) == 80.0
    assert session.get_inputs()[0].shape == ["B", 39]


@pytest.mark.parametrize("form", [{"film": True, "skip": True, "depth": 2}, {"film": False, "skip": False, "depth": 3}])
def test_all_forms_of_decoders_and_any_named_environment(form: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    grounding = replaced_actions()
    book = replace(random_book(grounding, rng), task_id="task", pace=1.4)
    size = grounding.read(np.zeros((1, 8))).inputs(np.zeros((1, 2))).shape[1]
    decoder = random_network(rng, size, **form)
    skills = SkillLibrary.in_memory(6, [NewSkill(f"skill {i}", row) for i, row in enumerate(unit(rng, 9, 6))])
    latents = {"task": unit(rng, len(book.steps), 6)}
    built = LibraryGuide(grounding, decoder, skills, {"task": book}, latents, RetrievalConfig(k=3))
    (tmp_path / "task.onnx").write_bytes(model_of(built, "task").SerializeToString())
    rows = rng.normal(0.0, 0.5, (200, 8)).astype(np.float32)
    said, expected = run(tmp_path / "task.onnx", rows), built.prior(rows, "task")
    assert isinstance(expected, ActionPrior)
    np.testing.assert_array_equal(said["step"], built.retrieve(rows, "task").steps)
    for name in ("weights", "means", "stds"):
        np.testing.assert_allclose(said[name], getattr(expected, name), atol=1e-5)


def replaced_actions() -> Any:
    grounding = named_features()
    grounding.action_space = type(grounding.action_space)(4)
    return grounding


class Branching(MetaWorldGrounding):
    """Asks a number whether it is positive, which a symbol cannot say."""

    def read(self, observations: Any) -> Any:
        return super().read(observations if observations[0, 0] > 0.0 else -observations)


def test_what_cannot_be_a_graph_is_refused_with_what_to_do(playbooks: dict[str, Playbook]) -> None:
    guide = random_guide(playbooks)
    guide.grounding = Branching()
    with pytest.raises(StudyError, match=r"found a grounding that cannot be followed .* or serve the bundle instead"):
        model_of(guide, "push")
    guide.playbooks.clear()
    with pytest.raises(KeyError):
        model_of(guide, "push")


def test_onnx_as_an_engine_says_the_same_and_follows_the_library(playbooks: dict[str, Playbook]) -> None:
    books = {"push": playbooks["push"]}
    rng = np.random.default_rng(1)
    own = library()
    from tests.conftest import random_decoder

    latents = {"push": unit(rng, len(books["push"].steps))}
    guide = LibraryGuide(MetaWorldGrounding(), random_decoder(), own, books, latents, RetrievalConfig(k=3))
    plain, graph, rows = PreparedPlan(guide, "push"), PreparedPlan(guide, "push", "onnx"), states(40)
    for _ in range(2):
        one, two = plain.decode(rows), graph.decode(rows)
        assert isinstance(one.prior, ActionPrior)
        assert isinstance(two.prior, ActionPrior)
        np.testing.assert_array_equal(one.steps, two.steps)
        np.testing.assert_allclose(one.prior.means, two.prior.means, atol=1e-5)
        np.testing.assert_allclose(one.prior.weights, two.prior.weights, atol=1e-5)
        np.testing.assert_allclose(one.unfamiliarity, two.unfamiliarity, rtol=1e-4)
        own.disable(int(guide.neighbors("push")[0].ids[0, 0]))


def test_the_command_writes_a_file(lago: Lago, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "robot.onnx"
    code, out, err = lago("bundle", "onnx", str(bundle), "--task", "push the puck to a goal", "--to", str(path))
    assert code == 0, err
    assert "task push of bundle" in out
    assert run(path, states(3))["action"].shape == (3, 4)
