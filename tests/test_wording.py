"""Any wording finds its playbook: requests, variants, and a matcher trained small; the whole of Meta-World in the slow test."""

# torch's types are partial.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lago_skills.artifacts.tensors import save_arrays
from lago_skills.errors import ArtifactCorrupt, PlanError, ShapeError
from lago_skills.llm.transcripts import Request, TranscriptFile, answered
from lago_skills.planner.wordings import NONE, Wordings, check_wordings, read_wordings, wordings_requests
from lago_skills.text.matcher import WordingMatcher
from lago_skills.text.matcher_training import train_matcher, variants
from lago_skills.text.sentence_model import SentenceModel
from lago_skills.worlds.metaworld.tasks import expand
from tests.conftest import ROOT

EVERY = expand(["ten", "eight", "twelve", "twenty"])
REPHRASINGS: dict[str, list[str]] = json.loads((ROOT / "tests/data/rephrasings.json").read_text(encoding="utf-8"))


def committed() -> Wordings:
    return read_wordings(TranscriptFile(ROOT / "data/transcripts/metaworld.jsonl"), EVERY)


# Requests and answers -----------------------------------------------------------------------------------------------


def test_requests_are_asked_once_and_in_fixed_groups() -> None:
    asked = wordings_requests(EVERY, EVERY[:18], Wordings())
    assert [request.name for request in asked][:2] == ["wordings/reach", "wordings/reach-wall"]
    assert [request.name for request in asked][-2:] == ["wordings/terms", "wordings/none"]
    assert len(asked) == 5 + 3 + 4
    half = Wordings({task.id: ["a"] * 14 for task in EVERY[:10]}, (("a", "b"),), frozenset({"contrast"}))
    keys = [request.key for request in wordings_requests(EVERY, EVERY[:18], half)]
    assert keys == [request.key for request in asked[1:8] + asked[9:10] + asked[11:]]
    assert wordings_requests(EVERY, EVERY[:18], committed()) == []


def test_recorded_wordings_cover_every_task_and_are_not_the_test_sentences() -> None:
    known = committed()
    check_wordings(known, EVERY, "metaworld")
    assert all(len(known.texts[task.id]) >= 14 for task in EVERY)
    assert all(len(known.texts[task.id]) >= 45 for task in EVERY[:18])
    assert len(known.terms) == 40
    assert sum(len(texts) for task, texts in REPHRASINGS.items() if task != NONE) >= 180
    assert all(len(REPHRASINGS[task.id]) >= 10 for task in EVERY[:18])
    assert len(REPHRASINGS[NONE]) == 50

    def bare(text: str) -> str:
        return "".join(c for c in text.lower() if c.isalnum())

    seen = {bare(text) for texts in known.texts.values() for text in texts}
    repeated = [text for texts in REPHRASINGS.values() for text in texts if bare(text) in seen]
    assert len(repeated) <= 0.06 * sum(map(len, REPHRASINGS.values())), repeated


def test_answers_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    file = TranscriptFile(tmp_path / "t.jsonl")
    for text in (
        "",
        "no",
        '{"wordings": 3}',
        '{"wordings": [{"task": "push"}]}',
        '{"terms": [["one"], [1, 2], ["a", "b"]]}',
        'Sure: {"wordings": [{"task": "push", "texts": ["shove  it", 3, "", "x\\u0007", "shove it"]}, {"task": "push", "texts": ["nudge it"]}, {"task": "fly", "texts": ["up"]}]}',
    ):
        file.append(answered(Request(f"wordings/{len(file)}", f"{len(file)}"), text, "m", "test"))
    known = read_wordings(file, EVERY)
    assert known.texts == {"push": ["shove it", "nudge it"]}
    assert known.terms == (("a", "b"),)
    with pytest.raises(PlanError, match="found no recorded wordings for reach, pick-place"):
        check_wordings(known, EVERY, "metaworld")


# Variants -----------------------------------------------------------------------------------------------------------


def test_variants_replace_words_by_words_of_the_same_meaning() -> None:
    terms = (("puck", "disc"), ("push", "shove", "give a push to"), ("wall", "barrier"))
    made = variants(["Push the puck past the wall.", "Hello"], terms, 200)
    assert made[:2] == ["Push the puck past the wall.", "Hello"]
    assert "Shove the disc past the barrier." in made
    assert len(made) == 3 * 2 * 2 + 1
    assert all("pucks" not in text for text in variants(["two pucks"], (("puck", "disc"),), 5)[1:])
    assert variants(["a"], (), 5) == ["a"]
    assert variants(["Push it"], terms, 5, seed=1) == variants(["Push it"], terms, 5, seed=1)


# A small matcher ------------------------------------------------------------------------------------------------------

SMALL = {
    "drawer-open": ["Open the drawer.", "Pull out the drawer", "I need a fork from the drawer", "Slide the drawer out"],
    "drawer-close": ["Close the drawer.", "Push the drawer in", "The drawer is sticking out", "Shut the drawer"],
}
OTHER = ["Water the plants", "What time is it?", "Fold the towels", "Paint the drawer red"]


@pytest.fixture(scope="module")
def small() -> WordingMatcher:
    return train_matcher(SMALL, OTHER, (("drawer", "tray"),), lambda done, note: None, n_updates=40)


def test_opposites_are_told_apart_where_cosine_cannot(small: WordingMatcher) -> None:
    from lago_skills.text.embed import embed

    asked = ["open that drawer please", "close that drawer please"]
    rows = embed(asked)
    assert float(rows[0] @ rows[1]) > 0.8
    first, second = small.match(asked)
    assert (first.nearest, first.runner_up) == ("drawer-open", "drawer-close")
    assert (second.nearest, second.runner_up) == ("drawer-close", "drawer-open")
    assert first.score > first.runner_up_score
    assert small.match([]) == []


def test_probabilities_add_up_and_leave_room_for_none(small: WordingMatcher) -> None:
    found = small.probabilities(["open the drawer", "water the roses", "", "x " * 10_000, "ouvre le tiroir"])
    assert found.shape == (5, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert found[1, -1] > 0.5


def test_a_saved_matcher_answers_alike(small: WordingMatcher, tmp_path: Path) -> None:
    small.save(tmp_path / "m")
    again = WordingMatcher.load(tmp_path / "m")
    asked = ["open that drawer please", "close it", "sing a song"]
    np.testing.assert_allclose(again.probabilities(asked), small.probabilities(asked), atol=5e-3)
    assert again.tasks == small.tasks
    assert (tmp_path / "m").stat().st_size < 1_000_000  # in bundles, and in the package
    save_arrays({"prototypes": np.zeros((3, 384), np.float32)}, tmp_path / "n")
    with pytest.raises(ArtifactCorrupt, match="is no matcher"):
        WordingMatcher.load(tmp_path / "n")


def test_among_some_tasks_those_alone_are_named(small: WordingMatcher) -> None:
    (both,) = small.match(["please open that drawer"])
    (one,) = small.match(["please open that drawer"], ["drawer-close"])
    assert both.nearest == "drawer-open"
    assert (one.nearest, one.runner_up) == ("drawer-close", "drawer-close")
    assert one.task is None
    assert one.score == pytest.approx(both.runner_up_score)


def test_the_sentence_model_in_numpy_is_the_one_in_torch() -> None:
    import torch

    from lago_skills.text.embed import TextEncoder, embed

    asked = ["open that drawer please", "", "öffne die Schublade", "push the puck " * 40, "Close it."]
    np.testing.assert_allclose(SentenceModel()(asked[:3]), embed(asked[:3]), atol=2e-6)
    encoder = TextEncoder()
    np.testing.assert_allclose(SentenceModel()(asked), encoder(asked).detach().numpy(), atol=2e-6)
    rng = np.random.default_rng(0)
    matrices = encoder.adapt(3, n_frozen=4)
    assert len(matrices) == 2 * 2 * 6  # two layers of six dense ones
    with torch.no_grad():
        for matrix in matrices:
            matrix.copy_(torch.from_numpy(rng.normal(0.0, 0.05, tuple(matrix.shape))))
        expected = encoder(asked).numpy()
    changed = SentenceModel(encoder.changes())(asked)
    np.testing.assert_allclose(changed, expected, atol=2e-6)
    assert np.abs(changed - SentenceModel()(asked)).max() > 0.01
    assert SentenceModel()([]).shape == (0, 384)


def test_too_few_wordings_are_refused() -> None:
    with pytest.raises(ShapeError, match="fewer than two wordings of push"):
        train_matcher({"push": ["go"]}, OTHER, (), lambda done, note: None)
    with pytest.raises(ShapeError, match="no sentence that fits none"):
        train_matcher(SMALL, [], (), lambda done, note: None)


# All of Meta-World ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(2700)
def test_rephrasings_find_their_playbook_among_fifty_and_the_unrelated_find_none() -> None:
    """Sentences written apart from all wordings, by somebody who saw only the task list. A third of the usual updates: minutes, not a quarter of an hour."""
    known = committed()
    texts = {task.id: [task.sentence, *known.texts[task.id]] for task in EVERY}
    matcher = train_matcher(texts, known.texts[NONE], known.terms, lambda done, note: None, n_updates=400)
    right = wrong = total = 0
    for task, sentences in REPHRASINGS.items():
        if task != NONE:
            found = matcher.match(sentences)
            right += sum(match.nearest == task for match in found)
            wrong += sum(match.task not in (None, task) for match in found)
            total += len(found)
    rejected = [match.task is None for match in matcher.match(REPHRASINGS[NONE])]
    assert right / total >= 0.93
    assert wrong / total <= 0.06
    assert np.mean(rejected) >= 0.8
