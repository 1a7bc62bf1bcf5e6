"""Bundles: made, inspected, verified, compared; loaded as a folder or a file; what is damaged or foreign is refused."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lago_skills
from lago_skills.artifacts.folder import writing
from lago_skills.core import Playbook
from lago_skills.errors import ArtifactCorrupt, ArtifactMissing, FormatTooNew, ShapeError, StudyError, UnfamiliarState
from lago_skills.guide.any_words import MATCHER_FILE
from lago_skills.guide.bundle import load_bundle, write_bundle
from lago_skills.guide.bundle_file import packed
from lago_skills.guide.description import DESCRIPTION_FILE, read_description
from lago_skills.guide.loaded import BundleGuide, load
from lago_skills.guide.retrieval import RetrievalConfig
from lago_skills.prior import ActionPrior
from lago_skills.worlds.kitchen.world import INTERFACE as KITCHEN
from lago_skills.worlds.metaworld.world import INTERFACE
from tests.conftest import ROOT, Lago, random_decoder
from tests.random_guides import library, unit


def states(n: int, seed: int = 0) -> np.ndarray:
    """Observations that Meta-World might give: a hand, a thing and a goal above a table, all at rest."""
    rng = np.random.default_rng(seed)
    now = np.zeros((n, 18))
    now[:, :3] = rng.uniform((-0.3, 0.5, 0.1), (0.3, 0.8, 0.3), (n, 3))
    now[:, 3] = rng.uniform(0.3, 1.0, n)
    now[:, 4:7] = rng.uniform((-0.3, 0.5, 0.02), (0.3, 0.8, 0.1), (n, 3))
    goals = rng.uniform((-0.3, 0.6, 0.02), (0.3, 0.9, 0.2), (n, 3))
    return np.concatenate([now, now, goals], axis=1)


@pytest.fixture(scope="module")
def guide(bundle: Path) -> BundleGuide:
    return load(bundle, unfamiliar="answer")


def test_a_bundle_says_what_goes_in_and_what_comes_out(guide: BundleGuide) -> None:
    said = guide.description
    assert [entry["start"] for entry in said["observation"]] == [0, 3, 4, 7, 11, 14, 18, 21, 22, 25, 29, 32, 36]
    assert said["observation"][1] | {"meaning": ""} == {
        "name": "opening",
        "start": 3,
        "size": 1,
        "unit": "0-1",
        "low": 0.0,
        "high": 1.0,
        "meaning": "",
    }
    assert said["action"]["kind"] == "continuous"
    assert said["action"]["size"] == 4
    assert said["control_hz"] == 80.0
    (push,) = (task for task in said["tasks"] if task["id"] == "push")
    assert push["horizon_steps"] == 200
    assert push["plans"][0]["answer"] == guide.guide.books["push"].transcript_key
    assert len(said["features"]) == len(guide.guide.grounding.vocabulary.features)
    for interface, observed, acted in ((INTERFACE, 39, 4), (KITCHEN, 59, 9)):
        assert sum(entry.size for entry in interface.observation) == observed
        assert sum(entry.size for entry in interface.action) == acted


def test_a_task_is_known_by_id_sentence_and_recorded_wording(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    said = read_description(bundle)
    assert said is not None
    for task in said["tasks"]:
        task["wordings"] = ["Shove it there!"] if task["id"] == "push" else ["do something"]
    rewrite(bundle, folder, said)
    guide = load(folder)
    assert guide.task("push").name == "push"
    assert guide.task("shove it THERE").name == "push"
    assert guide.task("Reach a goal position.").name == "reach"
    with pytest.raises(StudyError, match="'sing', which no task of the bundle is called; expected an id of"):
        guide.task("sing")
    with pytest.raises(StudyError, match=r"which \[.*\] are all called"):
        guide.task("Do something.")
    with pytest.raises(StudyError, match="found no task named; expected one of"):
        guide.act(states(2))


def test_a_task_is_known_by_any_words_where_the_bundle_has_a_matcher(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = read_description(bundle)
    assert said is not None
    rewrite(bundle, tmp_path / "bundle", said, matcher=ROOT / "data" / "matchers" / "metaworld" / MATCHER_FILE)
    guide = load(tmp_path / "bundle")
    assert guide.task("would you be so kind and shove the puck over to the mark").name == "push"
    with pytest.raises(StudyError, match=r"no task of the bundle is near to; the nearest is .*name the task by its id"):
        guide.task("what time is it in Lisbon")
    with pytest.raises(StudyError, match="no task of the bundle is called"):
        guide.task("would you be so kind and shove the puck over to the mark", any_words=False)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(StudyError, match=r"expected it for a task in words .*pip install 'lago-skills\[text\]'"):
        guide.task("shove the puck over to the mark, if you please")
    assert guide.task("push").name == "push"


def rewrite(bundle: Path, folder: Path, said: dict[str, Any], matcher: Path | None = None) -> None:
    """A copy of a bundle that says something else of itself."""
    with writing(folder, "build", {"test": 2}) as writer:
        shutil.copytree(bundle, writer.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        (writer.path / DESCRIPTION_FILE).write_text(json.dumps(said), encoding="utf-8")
        if matcher is not None:
            shutil.copyfile(matcher, writer.path / MATCHER_FILE)


def test_an_answer_is_what_the_guide_of_the_bundle_says(bundle: Path, guide: BundleGuide) -> None:
    rows, plain = states(64), load_bundle(bundle)
    for task in guide.tasks:
        expected = plain.prior(rows, task)
        assert isinstance(expected, ActionPrior)
        answer = guide.task(task).answer(rows)
        familiar = ~answer.unfamiliar
        assert isinstance(answer.prior, ActionPrior)
        np.testing.assert_allclose(answer.prior.means[familiar], expected.means[familiar], atol=1e-5)
        np.testing.assert_allclose(answer.prior.stds[familiar], expected.stds[familiar], atol=1e-5)
        np.testing.assert_allclose(answer.prior.weights, expected.weights, atol=1e-5)
        np.testing.assert_allclose(answer.actions, expected.mean(), atol=1e-5)
        np.testing.assert_array_equal(answer.steps, plain.retrieve(rows, task).steps)
    one = guide.task("push").act(rows[0])
    np.testing.assert_allclose(one, guide.act(rows, "push")[0], atol=1e-6)


def test_wrong_observations_are_refused_with_both_shapes(guide: BundleGuide) -> None:
    push = guide.task("push")
    with pytest.raises(ShapeError, match=r"found float64 of shape \(3, 38\); expected numbers of shape \(B, 39\)"):
        push.act(np.zeros((3, 38)))
    with pytest.raises(
        ShapeError, match=r"shape \(39,\); expected .* pass a batch of observations, observation\[None\] of"
    ):
        push.prior(np.zeros(39))
    with pytest.raises(ShapeError, match="found <U"):
        push.act(np.array([["a"] * 39]))
    with pytest.raises(ShapeError, match="finite"):
        push.act(np.full((1, 39), np.nan))
    with pytest.raises(ShapeError, match="found 0 of them; expected 1 to 100000"):
        push.act(np.zeros((0, 39)))
    with pytest.raises(ShapeError, match="found 1000000 of them"):
        push.act(np.broadcast_to(np.zeros(39), (1_000_000, 39)))


def test_strange_states_are_flagged_and_not_acted_on(bundle: Path) -> None:
    rows = np.concatenate([states(4), 100.0 * states(4)])
    holding = load(bundle)
    answer = holding.task("push").answer(rows)
    assert answer.unfamiliar.tolist() == [False] * 4 + [True] * 4
    assert np.abs(answer.actions[:4]).max() > 0.0
    assert not answer.actions[4:].any()
    assert isinstance(answer.prior, ActionPrior)
    assert (answer.prior.stds[4:] == 1.0).all()
    assert not answer.prior.means[4:].any()
    known = answer.prior.log_ratio(rng_actions(8))
    assert np.abs(known[4:]).max() < np.log(30.0)
    acted = load(bundle, unfamiliar="answer").task("push").answer(rows)
    assert acted.unfamiliar.sum() == 4
    assert acted.actions[4:].any()
    with pytest.raises(
        UnfamiliarState,
        match=r"observation \d: found a state .*gripper_x = .*declared .*; see that its entries have the units",
    ):
        load(bundle, unfamiliar="refuse").task("push").act(rows)
    with pytest.raises(StudyError, match="found unfamiliar = 'guess'; expected one of hold, answer, refuse"):
        load(bundle, unfamiliar="guess")  # pyright: ignore[reportArgumentType]


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_to_compute_with_are_unfamiliar_and_nothing_else(bundle: Path) -> None:
    rng = np.random.default_rng(7)
    rows = rng.choice([1e200, -1e308, 1e39, -1e20, 1e-300, 5e-324, 0.0, 1.0], (300, 39))
    for policy in ("hold", "answer"):
        guide = load(bundle, unfamiliar=policy)
        for part in (rows, rows[:1], rows[7:9]):
            answer = guide.task("push").answer(part)
            assert answer.unfamiliar.all()
            assert np.isfinite(answer.unfamiliarity).all()
            assert np.isfinite(answer.actions).all()
            assert np.abs(answer.actions).max() <= 1.0
            assert isinstance(answer.prior, ActionPrior)
            assert np.isfinite(answer.prior.log_ratio(answer.actions)).all()
            assert len(guide.task("push").explain(part)) == len(part)


def rng_actions(n: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1.0, 1.0, (n, 4))


def test_an_explanation_names_step_reason_and_skills(guide: BundleGuide) -> None:
    rows = states(40)
    push = guide.task("push")
    answer = push.answer(rows)
    for row, each in enumerate(push.explain(rows)):
        assert each.step == answer.steps[row] + 1
        assert each.sentence == guide.guide.books["push"].steps[each.step - 1].sentence
        assert sum(share.weight for share in each.skills) == pytest.approx(1.0, abs=1e-5)
        assert [share.weight for share in each.skills] == sorted((share.weight for share in each.skills), reverse=True)
        assert each.why
        assert len(each.switches) >= each.step - 1
        mixed = np.sum([np.multiply(share.weight, share.action) for share in each.skills], axis=0)
        np.testing.assert_allclose(mixed, answer.actions[row] if not answer.unfamiliar[row] else each.action, atol=1e-4)
        assert json.loads(json.dumps(each.as_json()))["task"] == "push"


def test_what_an_explanation_says_would_switch_the_step_does(guide: BundleGuide) -> None:
    """Each condition that it names as failing, met, puts that step to work; said of states drawn at random."""
    push = guide.task("push")
    book = guide.guide.books["push"]
    rows = states(200, seed=3)
    explained = push.explain(rows)
    assert len({each.step for each in explained}) > 1
    names = [feature.name for feature in guide.guide.grounding.vocabulary.features]
    values = guide.guide.grounding.read(rows).values
    for each, row in zip(explained, values, strict=True):
        for number, step in enumerate(book.steps[: each.step - 1], 1):
            (said,) = (text for text in each.switches if text.startswith(f"step {number} once"))
            for condition in step.when:
                value = row[names.index(condition.feature)]
                fails = not (value < condition.value if condition.op == "<" else value > condition.value)
                assert (f"{condition.feature} {condition.op} {condition.value:g}" in said) == fails


def test_one_file_and_a_folder_are_the_same_bundle(bundle: Path, tmp_path: Path, guide: BundleGuide) -> None:
    file = packed(bundle, tmp_path / "robot.zip")
    assert packed(bundle, tmp_path / "again.zip").read_bytes() == file.read_bytes()
    with closing(load(file, unfamiliar="answer")) as same:
        assert same.digest == guide.digest
        assert same.world_id == guide.world_id
        np.testing.assert_array_equal(same.act(states(3), "push"), guide.act(states(3), "push"))
        unpacked = same.folder
        assert unpacked.is_dir()
    assert not unpacked.exists()


def test_files_that_are_no_bundles_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match="found no bundle at"):
        load(tmp_path / "nowhere")
    file = packed(bundle, tmp_path / "robot.zip")
    (tmp_path / "cut.zip").write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(ArtifactCorrupt, match=r"cut\.zip' cannot be unpacked"):
        load(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "tricks.zip", "w") as archive:
        archive.writestr("../outside", "x")
        archive.writestr("manifest.json", "{}")
    with pytest.raises(ArtifactCorrupt, match=r"found the file name .\.\./outside"):
        load(tmp_path / "tricks.zip")
    assert not (tmp_path / "outside").exists()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("photo.txt", "x")
    with pytest.raises(ArtifactCorrupt, match=r"a zip file without manifest\.json"):
        load(tmp_path / "other.zip")


def test_a_bundle_of_a_later_version_is_refused(bundle: Path, tmp_path: Path) -> None:
    said = read_description(bundle)
    assert said is not None
    rewrite(bundle, tmp_path / "late", {**said, "format": 99})
    with pytest.raises(
        FormatTooNew, match="describes itself in format 99; this version reads formats up to 1; upgrade"
    ):
        load(tmp_path / "late").task("shove it")


def test_a_bundle_of_before_they_described_themselves_is_described_from_its_world(bundle: Path, tmp_path: Path) -> None:
    with writing(tmp_path / "old", "build", {"test": 3}) as writer:
        kept = shutil.ignore_patterns("manifest.json", DESCRIPTION_FILE)
        shutil.copytree(bundle, writer.path, dirs_exist_ok=True, ignore=kept)
    assert load(tmp_path / "old").description == load(bundle).description


def test_threads_share_a_guide_while_its_library_changes(tmp_path: Path, playbooks: dict[str, Playbook]) -> None:
    """Every answer is that of the library before a change or after it, never a mixture."""
    from lago_skills.library import NewSkill, SkillLibrary

    book = {"push": playbooks["push"]}
    rng = np.random.default_rng(2)
    latents = {"push": unit(rng, len(playbooks["push"].steps))}
    with writing(tmp_path / "bundle", "build", {}) as writer:
        write_bundle(writer.path, random_decoder(), library(), book, latents, RetrievalConfig(k=2))
    skills = unit(rng, 20)
    with SkillLibrary.create(tmp_path / "library", 8) as own:
        own.add_many([NewSkill(f"skill {i}", row) for i, row in enumerate(skills)])
        guide = load(tmp_path / "bundle", library=own, unfamiliar="answer")
        rows = states(5)
        before = guide.act(rows, "push")
        (nearest, *_) = guide.guide.neighbors("push")[0].ids[guide.task("push").answer(rows).steps[0]].tolist()
        seen: list[np.ndarray] = []
        problems: list[BaseException] = []
        stop = threading.Event()

        def ask() -> None:
            try:
                while not stop.is_set():
                    seen.append(guide.act(rows, "push"))
            except BaseException as problem:
                problems.append(problem)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        own.disable(nearest)
        after = guide.act(rows, "push")
        stop.set()
        for thread in threads:
            thread.join()
        assert not problems
        assert np.abs(after - before).max() > 1e-4
        assert {
            ("before" if np.array_equal(each, before) else "after" if np.array_equal(each, after) else "mixed")
            for each in seen
        } <= {"before", "after"}


def test_the_commands(lago: Lago, bundle: Path, tmp_path: Path) -> None:
    code, out, _ = lago("bundle", "inspect", str(bundle))
    assert code == 0
    assert "control rate: 80 Hz" in out
    assert "push: push the puck" in out
    assert "36 to 38  goal: m" in out
    code, out, _ = lago("bundle", "verify", str(bundle), "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown["summary"]["files"] > 4
    assert {row["finite"] for row in shown["rows"]} == {True}
    code, out, _ = lago("bundle", "diff", str(bundle), str(bundle))
    assert (code, out) == (0, "no difference\n")
    said = read_description(bundle)
    assert said is not None
    rewrite(bundle, tmp_path / "other", {**said, "control_hz": 20.0})
    code, out, _ = lago("bundle", "diff", str(bundle), str(tmp_path / "other"))
    assert (code, out) == (1, "world control_hz: 80.0 -> 20.0\n")
    (tmp_path / "other" / "retrieval.json").write_text("{}", encoding="utf-8")
    code, _, err = lago("bundle", "verify", str(tmp_path / "other"))
    assert code == 2
    assert "retrieval.json' has hash" in err
    code, _, err = lago("bundle", "diff", str(bundle))
    assert code == 2
    assert "found one bundle to compare; expected two" in err


def test_the_guide_command_explains_files_of_observations(lago: Lago, bundle: Path, tmp_path: Path) -> None:
    rows = states(2)
    np.save(tmp_path / "states.npy", rows)
    np.savetxt(tmp_path / "states.csv", rows, delimiter=",")
    (tmp_path / "state.json").write_text(json.dumps(rows[0].tolist()), encoding="utf-8")
    code, out, err = lago("guide", str(bundle), "--task", "push", "--obs", str(tmp_path / "states.npy"), "--json")
    assert code == 0, err
    shown = json.loads(out)["rows"]
    assert len(shown) == 2
    assert shown[0]["task"] == "push"
    code, out, _ = lago("guide", str(bundle), "--task", "push", "--obs", str(tmp_path / "states.csv"), "--json")
    assert json.loads(out)["rows"] == shown
    code, out, _ = lago("guide", str(bundle), "--task", "push", "--obs", str(tmp_path / "state.json"))
    assert code == 0
    assert out.startswith("push, step ")
    assert "heads for (" in out
    assert "familiar" in out
    (tmp_path / "state.json").write_text("[1, [2]]", encoding="utf-8")
    code, _, err = lago("guide", str(bundle), "--task", "push", "--obs", str(tmp_path / "state.json"))
    assert code == 2
    assert "found no observations in" in err


def test_the_door_of_the_package(bundle: Path) -> None:
    assert lago_skills.load(bundle).digest == load(bundle).digest
