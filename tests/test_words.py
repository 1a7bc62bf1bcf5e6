"""Plans in words: answers, geometry, alignment with demonstrations, what words mean, and the guide."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lago_skills.artifacts.folder import writing
from lago_skills.commands.cli import main
from lago_skills.core import ActionSpace, Feature, Playbook, Step
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.pretrain import pretrain
from lago_skills.decoder.trained_decoder import DecoderWeights
from lago_skills.errors import ArtifactCorrupt, DataError, PlanError, StudyError
from lago_skills.experiments.baselines.controllers import act
from lago_skills.guide.bundle import load_bundle, write_bundle
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.loaded import load
from lago_skills.guide.retrieval import RetrievalConfig
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.planner.ask import Planner
from lago_skills.planner.lint import lint_words_form
from lago_skills.planner.parse import parse_playbook, read_answer
from lago_skills.playbook import playbook_json, read_playbook, write_playbook
from lago_skills.rl.guidance.advisers import LibraryAdviser
from lago_skills.words.alignment import LEAST_STEPS, Alignment, align
from lago_skills.words.ends import ENDS_FILE, Ends
from lago_skills.words.geometry import from_frame, locate, to_frame
from lago_skills.words.learning import learn
from lago_skills.words.words_plan import WordsPlan
from lago_skills.worlds.grounding import anchored
from lago_skills.worlds.metaworld.env import MetaWorldEnv
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import GROUPS, expand, find_task
from lago_skills.worlds.metaworld.world import MetaWorld, demonstrate
from lago_skills.worlds.own import NamedEntries
from lago_skills.worlds.rollouts import full_rollouts
from lago_skills.worlds.seeds import DEMO_SEED, EVAL_SEED
from tests.conftest import ROOT, random_decoder
from tests.decoder_data import followers

GROUNDING = anchored(MetaWorldGrounding())
VOCABULARY = GROUNDING.vocabulary
RELATION = {relation.name: relation for relation in GROUNDING.vocabulary.relations}
MOVE, LOWER, GRIP, SLIDE = (
    "move the open gripper there",
    "lower it",
    "close the fingers until they grip it",
    "slide the gripped thing",
)
PUSH = Playbook(
    "push",
    (
        Step(MOVE, about=("object",), until=RELATION["above thing"]),
        Step(LOWER, about=("object",), until=RELATION["around thing"]),
        Step(GRIP, about=("object",), until=RELATION["holding thing"]),
        Step(SLIDE, about=("object", "goal"), until=RELATION["thing at place"]),
    ),
    "key",
    "model",
    "words",
)


@pytest.fixture(scope="module")
def episodes() -> list[Any]:
    env = MetaWorldEnv(find_task("push"))
    return [demonstrate(env, DEMO_SEED + i, 0.1) for i in range(3)]


@pytest.fixture(scope="module")
def aligned(episodes: list[Any]) -> Alignment:
    return align(episodes, PUSH, GROUNDING)


@pytest.fixture(scope="module")
def ends(episodes: list[Any], aligned: Alignment) -> Ends:
    return learn({"push": episodes}, {"push": PUSH}, {"push": aligned}, GROUNDING)[1]


def read(steps: list[dict[str, Any]]) -> Playbook:
    return parse_playbook(json.dumps({"steps": steps}), "push", VOCABULARY, "key", "model", "words")


# Answers --------------------------------------------------------------------------------------------------------------


def test_recorded_plans_of_thirty_tasks_are_in_words_and_say_no_number(playbooks_in_words: dict[str, Playbook]) -> None:
    assert set(playbooks_in_words) == {name for group in ("ten", "eight", "twelve") for name in GROUPS[group]}
    for book in playbooks_in_words.values():
        assert book.form == "words"
        assert lint_words_form(book, VOCABULARY) == ()
        assert all(step.target is None and not step.when and step.until in VOCABULARY.relations for step in book.steps)
        assert read_playbook(json.loads(json.dumps(write_playbook(book))), VOCABULARY) == book
        assert (
            parse_playbook(playbook_json(book), book.task_id, VOCABULARY, book.transcript_key, book.model, "words")
            == book
        )


def test_requests_in_words_show_how_the_demonstrations_went(committed_planner: Planner) -> None:
    planner = replace(committed_planner, form="words")
    requests = {task.id: request for task, request in planner.requests(expand(["ten"]), expand(["eight"]))}
    assert "How the demonstrations of this task went" in requests["push"].prompt
    assert "gripper from object, towards goal" in requests["push"].prompt
    assert "How the demonstrations" not in requests["push-wall"].prompt
    assert all(f'"{each.name}": {each.sentence}' in requests["push"].prompt for each in VOCABULARY.relations)
    assert "object2" not in requests["push"].prompt


def test_groups_of_the_exam_are_apart() -> None:
    assert len(GROUPS["twelve"]) == 12
    assert len(GROUPS["twenty"]) == 20
    assert len({name for group in ("ten", "eight", "twelve", "twenty") for name in GROUPS[group]}) == 50


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"skill": "push it", "about": ["lamp"], "until": "at thing"}, "expected one or two anchors"),
        ({"skill": "push it", "about": [], "until": "at thing"}, "expected one or two anchors"),
        ({"skill": "push it", "about": ["object"], "until": "near"}, "expected one of at thing"),
        ({"skill": "push it", "about": ["object"], "until": "thing at place"}, "expected two anchors"),
        ({"skill": "push it", "about": ["object"], "until": "at thing", "when": []}, "expected a plan in words"),
        ({"skill": "", "about": ["object"], "until": "at thing"}, "expected a sentence"),
    ],
)
def test_what_is_no_plan_in_words_is_refused_with_a_reason(step: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        read([step])
    assert read_answer(json.dumps({"steps": [step]}), "push", VOCABULARY, "k", "m", "words").findings[0].step == 1


def test_numbers_in_sentences_and_one_anchor_twice_are_findings() -> None:
    book = read([{"skill": "move 5 cm up", "about": ["object", "object"], "until": "above thing"}])
    assert [finding.kind for finding in lint_words_form(book, VOCABULARY)] == ["number", "one-anchor-twice"]
    other = read([{"skill": "den Griff nach oben ziehen", "about": "object", "until": "thing lifted"}])
    assert lint_words_form(other, VOCABULARY) == ()
    assert (
        other.steps[0].sentence
        == "den Griff nach oben ziehen, until the thing is held high up, straight above where it was"
    )


# Geometry -------------------------------------------------------------------------------------------------------------


@given(st.floats(-3.1, 3.1), st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_offsets_turn_with_the_way_to_the_place(angle: float, vector: list[float]) -> None:
    along, offset = np.array([[np.cos(angle), np.sin(angle)]]), np.array([vector])
    np.testing.assert_allclose(to_frame(from_frame(offset, along), along), offset, atol=1e-12)
    rng = np.random.default_rng(0)
    anchors = rng.normal(size=(1, 4, 3))
    step = Step("push it", about=("object", "goal"), until=RELATION["behind thing"])
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    target = locate(step, anchors, VOCABULARY.anchors).effector_target(offset)
    turned = locate(step, anchors @ turn.T, VOCABULARY.anchors).effector_target(offset)
    np.testing.assert_allclose(turned, target @ turn.T, atol=1e-9)


# Alignment ------------------------------------------------------------------------------------------------------------


def test_steps_are_laid_over_demonstrations(episodes: list[Any], aligned: Alignment, ends: Ends) -> None:
    fingers = [episode.actions[:, 3] for episode in episodes]
    for command, stops in zip(fingers, aligned.ends, strict=True):
        assert stops[-1] == len(command)
        assert min(np.diff(stops)) >= LEAST_STEPS
        closing = int(np.argmax(command > 0.3))  # the scripted policy begins to close its fingers
        assert abs(stops[2] - closing) <= 3
    above = ends.ended[ends.word == ends.number("above")]
    assert above[:, 2].min() > 0.1
    assert above.std(axis=0).max() < 0.01  # it ends at the same place in all of them
    assert np.abs(ends.heads[ends.word == ends.number("around"), :2]).max() < 0.02
    assert ends.raised == pytest.approx(0.17, abs=0.05)


def test_too_short_an_episode_is_named(episodes: list[Any]) -> None:
    short = replace(
        episodes[0],
        observations=episodes[0].observations[:9],
        actions=episodes[0].actions[:8],
        rewards=episodes[0].rewards[:8],
    )
    with pytest.raises(DataError, match=r"episode 2 .* 8 control steps; expected at least 12"):
        align([episodes[0], short], PUSH, GROUNDING)


def test_one_demonstration_and_one_step_are_enough(episodes: list[Any]) -> None:
    one = replace(PUSH, steps=PUSH.steps[-1:])
    assert align(episodes[:1], one, GROUNDING).ends == ((0, len(episodes[0].actions)),)


# What words mean ------------------------------------------------------------------------------------------------------


def test_ends_survive_the_disk(ends: Ends, tmp_path: Path) -> None:
    ends.save(tmp_path)
    again = Ends.load(tmp_path, VOCABULARY)
    assert (again.skills, again.words) == (ends.skills, ends.words)
    np.testing.assert_allclose(again.heads, ends.heads, atol=1e-6)
    np.testing.assert_array_equal(again.skill, ends.skill)
    (tmp_path / ENDS_FILE).write_bytes(b"nothing")
    with pytest.raises(ArtifactCorrupt):
        Ends.load(tmp_path, VOCABULARY)


def test_a_word_means_what_the_retrieved_skills_did(ends: Ends) -> None:
    two = replace(ends, skill=ends.skill.copy(), heads=ends.heads.copy(), skills=(*ends.skills, "hover high"))
    rows = np.flatnonzero(ends.word == ends.number("above"))
    two.skill[rows[0]] = len(ends.skills)
    two.heads[rows[0], 2] += 0.2
    lie = ends.lie[rows[:1]]
    every = np.eye(len(two.skills))
    low, high = every[int(ends.skill[rows[1]])], every[-1]
    one = two.offsets("heads", "above", lie, low, by_thing=False)[0, 2]
    other = two.offsets("heads", "above", lie, high, by_thing=False)[0, 2]
    assert other - one == pytest.approx(0.2, abs=0.02)
    assert not two.offsets("heads", "below", lie, low, by_thing=False).any()  # nobody showed it


def _play(plan: WordsPlan, weights: Any, seeds: list[int]) -> float:
    """With learned targets and handing over, but a controller in the place of the decoder."""

    def policy(observations: Any, episodes: Any) -> Any:
        state = GROUNDING.read(observations)
        found = plan.read(state, weights)
        closed = np.array([step.skill in (GRIP, SLIDE) for step in plan.playbook.steps])[found.steps]
        return act(10.0 * (found.targets - state.anchors[:, 0]), closed)

    results = full_rollouts(MetaWorld(), find_task("push"), policy, seeds, lambda n: None, n_envs=5)
    return float(np.mean([result.success for result in results]))


def test_learned_ends_push_a_puck_where_nobody_has(ends: Ends) -> None:
    seeds = [EVAL_SEED + i for i in range(5)]
    weights = np.eye(len(ends.skills))[[ends.skills.index(step.sentence) for step in PUSH.steps]]
    assert _play(WordsPlan(PUSH, GROUNDING, ends), weights, seeds) == 1.0
    # With the words in another order the same skills do not: what is done is the plan's to say.
    swapped = replace(PUSH, steps=(PUSH.steps[3], PUSH.steps[1], PUSH.steps[2], PUSH.steps[0]))
    other = np.eye(len(ends.skills))[[ends.skills.index(step.sentence) for step in swapped.steps]]
    assert _play(WordsPlan(swapped, GROUNDING, ends), other, seeds) == 0.0


def test_a_thing_that_slips_away_hands_over_to_an_earlier_step(
    episodes: list[Any], aligned: Alignment, ends: Ends
) -> None:
    plan = WordsPlan(PUSH, GROUNDING, ends)
    weights = np.eye(len(ends.skills))[[ends.skills.index(step.sentence) for step in PUSH.steps]]
    middle = (aligned.ends[0][3] + aligned.ends[0][4]) // 2
    held = episodes[0].observations[middle : middle + 1].astype(np.float64)
    assert plan.read(GROUNDING.read(held), weights).steps.tolist() == [3]
    lost = held.copy()
    lost[:, [4, 22]] += 0.2  # the puck is elsewhere, and lies still
    assert plan.read(GROUNDING.read(lost), weights).steps[0] < 3


def test_labels_agree_with_the_plan_in_numbers(
    episodes: list[Any], aligned: Alignment, playbooks: dict[str, Playbook]
) -> None:
    from lago_skills.data.labels import label
    from lago_skills.playbook import CompiledPlaybook

    numbers = CompiledPlaybook(playbooks["push"], VOCABULARY)
    same, total = 0, 0
    for episode, stops in zip(episodes, aligned.ends, strict=True):
        by_words = np.repeat(np.arange(4), np.diff(stops))
        by_numbers = 3 - label(episode, numbers, GROUNDING)
        same, total = same + int((by_words == by_numbers).sum()), total + len(by_words)
    assert same / total > 0.75


# The guide ------------------------------------------------------------------------------------------------------------


def in_words(ends: Ends) -> tuple[dict[str, Any], SkillLibrary]:
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(len(ends.skills), 8)).astype(np.float32)
    latents /= np.linalg.norm(latents, axis=1, keepdims=True)
    library = SkillLibrary.in_memory(8, [NewSkill(text, row) for text, row in zip(ends.skills, latents, strict=True)])
    rows = [ends.skills.index(step.sentence) for step in PUSH.steps]
    return {"push": latents[rows]}, library


def test_a_bundle_keeps_what_words_mean(ends: Ends, episodes: list[Any], tmp_path: Path) -> None:
    latents, library = in_words(ends)
    decoder = random_decoder(
        inputs=GROUNDING.read(np.zeros((1, 39))).subject_inputs(np.zeros((1, 3)), np.array([[1, -1]])).shape[1]
    )
    config = RetrievalConfig(k=2, temperature=0.05)
    with writing(tmp_path / "bundle", "build", {"test": 1}) as writer:
        write_bundle(writer.path, decoder, library, {"push": PUSH}, latents, config, ends=ends)
    guide = load_bundle(tmp_path / "bundle")
    observations = episodes[0].observations[::10].astype(np.float64)
    found = guide.retrieve(observations, "push")
    assert found.subjects is not None
    assert found.steps[0] == 0
    assert found.steps[-1] == 3
    direct = LibraryGuide(GROUNDING, decoder, library, {"push": PUSH}, latents, config, ends=ends)
    np.testing.assert_allclose(
        guide.prior(observations, "push").greedy(), direct.prior(observations, "push").greedy(), atol=1e-5
    )
    # A skill that is switched off takes its meaning with it.
    target = found.targets[0]
    guide = LibraryGuide(GROUNDING, decoder, library, {"push": PUSH}, latents, replace(config, k=1), ends=ends)
    library.disable(int(guide.neighbors("push")[0].ids[0, 0]))
    assert np.linalg.norm(guide.retrieve(observations, "push").targets[0] - target) < 0.2
    with pytest.raises(StudyError, match="nothing that says what its words mean"):
        LibraryGuide(GROUNDING, decoder, library, {"push": PUSH}, latents, config)
    with pytest.raises(StudyError, match="a learned query does not know"):
        LibraryGuide(
            GROUNDING, decoder, library, {"push": PUSH}, latents, replace(config, query="learned"), _NOT_NONE, ends
        )


def test_a_loaded_bundle_explains_a_plan_in_words(ends: Ends, episodes: list[Any], tmp_path: Path) -> None:
    """The step at work may begin, no later one may, and how far those are is said, the nearest first."""
    latents, library = in_words(ends)
    n_inputs = GROUNDING.read(np.zeros((1, 39))).subject_inputs(np.zeros((1, 3)), np.array([[1, -1]])).shape[1]
    with writing(tmp_path / "bundle", "build", {"test": 1}) as writer:
        write_bundle(
            writer.path,
            random_decoder(inputs=n_inputs),
            library,
            {"push": PUSH},
            latents,
            RetrievalConfig(k=2),
            ends=ends,
        )
    loaded = load(tmp_path / "bundle", unfamiliar="answer")
    task, observations = loaded.task("push"), episodes[0].observations[::5].astype(np.float64)
    answer, expected = task.answer(observations), loaded.guide.prior(observations, "push")
    np.testing.assert_allclose(answer.actions, expected.greedy(), atol=1e-5)
    apart = loaded.guide.apart(anchored(loaded.guide.grounding).read(observations), "push")
    for row, each in enumerate(task.explain(observations)):
        step = each.step - 1
        assert step == answer.steps[row]
        assert each.sentence == PUSH.steps[step].sentence
        assert step == 0 or apart[row, step] <= 1.0
        assert (apart[row, step + 1 :] > 1.0).all()
        assert len(each.why) == 1
        later = [text for text in each.switches if "within 1 tolerance" in text]
        assert len(later) == len(PUSH.steps) - 1 - step
        if later:
            nearest = int(np.argmin(apart[row, step + 1 :])) + step + 2
            assert later[0].startswith(f"step {nearest} once")
        assert (step > 0) == any("more than 1 tolerance away" in text for text in each.switches)


_NOT_NONE: Any = object()


def test_a_learner_is_advised_by_plans_in_words(ends: Ends, episodes: list[Any]) -> None:
    latents, library = in_words(ends)
    n_inputs = GROUNDING.read(np.zeros((1, 39))).subject_inputs(np.zeros((1, 3)), np.array([[1, -1]])).shape[1]
    books = {"push": PUSH, "again": replace(PUSH, task_id="again")}
    steps = {"push": latents["push"], "again": latents["push"]}
    guide = LibraryGuide(GROUNDING, random_decoder(inputs=n_inputs), library, books, steps, ends=ends)
    assert set(guide.books) == {"push", "again"}
    adviser = LibraryAdviser(guide, ["push", "again"])
    assert adviser.plan_shape == (4, 3)
    observations = episodes[0].observations[[0, 20, 40]].astype(np.float64)
    mixed = adviser.prior(observations, np.array([0, 1, 0]), [None, None, None]).greedy()
    np.testing.assert_allclose(mixed, guide.prior(observations, "push").greedy(), atol=1e-6)
    shift = np.zeros((4, 3))
    shift[0, 2] = 0.1
    moved = adviser.prior(observations, np.array([0, 1, 0]), [shift, None, None]).greedy()
    assert np.abs(moved[0] - mixed[0]).max() > 1e-4
    np.testing.assert_allclose(moved[1:], mixed[1:], atol=1e-6)


def test_a_plan_in_words_is_shown_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "plan", "show", "push-wall", "--study", "words"], _NOT_NONE) == 0
    text = capsys.readouterr().out
    assert "about object and goal, until thing above place" in text


def test_plans_in_words_need_anchors() -> None:
    with pytest.raises(StudyError, match="with 0 anchors, 0 relations and no subject_heading_size"):
        anchored(
            NamedEntries(
                {"height": (0, Feature("height", "m", "how high it is", 0.0, 1.0))}, "a world", 4, ActionSpace(2)
            )
        )


def test_the_heading_leads_straight_to_the_means(tmp_path: Path) -> None:
    steps = replace(followers(), heading_size=2)
    config = DecoderConfig(
        heading_skip=True, n_updates=300, hidden_sizes=(16,), calibrate=False, context_swap_share=0.0
    )
    decoder, _ = pretrain(steps, config, 0, lambda update, metrics: None)
    assert isinstance(decoder, DecoderWeights)
    assert decoder.skip is not None
    assert decoder.skip.shape == (2, 2)
    decoder.save(tmp_path / "decoder.safetensors")
    again = DecoderWeights.load(tmp_path / "decoder.safetensors")
    latents = decoder.latents(steps.embeddings)[steps.skills[:50]][:, None]
    np.testing.assert_array_equal(
        decoder.decode(steps.inputs[:50], latents).means, again.decode(steps.inputs[:50], latents).means
    )
    silent = replace(decoder, skip=np.zeros_like(decoder.skip))
    assert (
        np.abs(decoder.decode(steps.inputs[:50], latents).means - silent.decode(steps.inputs[:50], latents).means).max()
        > 0.01
    )
