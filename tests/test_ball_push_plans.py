"""Plans in words of ball push: relations told by states, pushes numbered by thing and place, hindsight, several steps at work at once, plans with names exchanged."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lago_skills.core import Episode, Playbook, Step
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.dataset import labelled_steps
from lago_skills.decoder.pretrain import pretrain
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.errors import StudyError
from lago_skills.experiments.tables.levels import Drawn, chances_of
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.retrieval import RetrievalConfig
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.planner.alike import exchange, exchanged, wording_of
from lago_skills.rl.guidance.advisers import LibraryAdviser
from lago_skills.words.hindsight import hindsight_segments, hindsight_step, planned_segments, relations_segments
from lago_skills.words.relations_plan import RelationsPlan
from lago_skills.worlds.ball_push.balls import COLOURS, N_ACTIONS, action_of
from lago_skills.worlds.ball_push.goals import HOWS, Goal, Part
from lago_skills.worlds.ball_push.relations import RELATIONS
from lago_skills.worlds.ball_push.tasks import GOALS
from lago_skills.worlds.ball_push.world import BallPushWorld
from lago_skills.worlds.grounding import related
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.rollouts import record, remembered_rollouts

BY_WORD = {relation.word: relation for relation in RELATIONS}
ANY_GOAL = Goal("pair", (Part(0, 0, 1),))
WORLD = BallPushWorld(demonstrator="rule")
GROUNDING = related(WORLD.grounding)


def at(layout: list[list[float]]) -> NDArray[np.float64]:
    return np.append(np.array(layout).reshape(-1), ANY_GOAL.vector)[None]


def said(word: str, *about: str) -> Step:
    relation = BY_WORD[word]
    return Step(hindsight_step(relation).skill, about=about, until=relation)


def plan_of(task: str) -> Playbook:
    """The plan that says of each part of a task's goal what its relation is called."""
    _, goal = GOALS[task]
    steps = [
        said(HOWS[part.how], COLOURS[part.moved], COLOURS[part.reference])
        if part.reference >= 0
        else said(f"gone {HOWS[part.how]}", COLOURS[part.moved])
        for part in goal.parts
    ]
    return Playbook(task, tuple(steps), "none", "none", "words")


SPREAD = [[0.0, 0.2], [-0.3, 0.2], [0.35, 0.2], [0.4, -0.15], [-0.4, 0.55]]
"""Blue is left of red."""


def test_steps_are_at_work_while_their_relations_do_not_hold_whatever_came_before() -> None:
    plan = RelationsPlan(
        Playbook("x", (said("left", "blue", "red"), said("right", "green", "red")), "", "", "words"), GROUNDING
    )
    undone = [SPREAD[0], [0.0, -0.15], *SPREAD[2:]]
    done = [*SPREAD[:2], [0.3, 0.2], *SPREAD[3:]]
    state = GROUNDING.read(np.concatenate([at(SPREAD), at(undone), at(done)]))
    holding = plan.holding(state)
    np.testing.assert_array_equal(holding, [[True, True], [False, True], [True, True]])
    np.testing.assert_array_equal(plan.at_work(holding), [[True, True], [True, False], [True, True]])
    np.testing.assert_array_equal(plan.read(state, np.zeros((2, 0))).steps, [0, 0, 0])
    far = [*SPREAD[:2], [0.45, 0.55], *SPREAD[3:]]
    np.testing.assert_array_equal(plan.at_work(plan.holding(GROUNDING.read(at(far)))), [[False, True]])
    with pytest.raises(StudyError, match=r"found a grounding .MetaWorldGrounding. with an acting anchor"):
        related(MetaWorldGrounding())


def test_pushes_are_numbered_as_thing_and_place_see_them() -> None:
    """The same pushes of the same layout with other colours are the same numbers, and the same is seen."""
    swapped = [SPREAD[k] for k in (2, 4, 0, 1, 3)]  # red is where green was, blue where cyan was, ...
    here, there = GROUNDING.read(at(SPREAD)), GROUNDING.read(at(swapped))
    own, other = here.own_actions(np.array([[1, 0]]))[0], there.own_actions(np.array([[3, 2]]))[0]
    assert own[3] == action_of(1, 3)
    assert own[8 + 5] == action_of(0, 5)
    assert sorted(own.tolist()) == list(range(N_ACTIONS))
    moved = {0: 2, 1: 3, 2: 0, 3: 4, 4: 1}
    assert [8 * moved[int(number) // 8] + int(number) % 8 for number in own] == other.tolist()
    np.testing.assert_array_equal(
        here.subject_inputs(np.zeros((1, 2)), np.array([[1, 0]])),
        there.subject_inputs(np.zeros((1, 2)), np.array([[3, 2]])),
    )
    alone = here.subject_inputs(np.zeros((1, 2)), np.array([[1, -1]]))
    assert np.isfinite(alone).all()
    assert alone[0, -1] == 0.0


def pushed_left() -> Episode:
    """Blue is pushed to the left of red, off behind it, and green is moved along."""
    layouts = [
        [[0.0, 0.2], [0.0, -0.1], [0.4, 0.5], [0.4, -0.15], [-0.4, 0.55]],
        [[0.0, 0.2], [-0.25, 0.0], [0.4, 0.5], [0.4, -0.15], [-0.4, 0.55]],
        [[0.0, 0.2], [-0.3, 0.2], [0.4, 0.5], [0.4, -0.15], [-0.4, 0.55]],
        [[0.0, 0.2], [-0.3, 0.2], [0.15, 0.5], [0.4, -0.15], [-0.4, 0.55]],
    ]
    actions = np.array([action_of(1, 2), action_of(1, 1), action_of(2, 2)])
    rows = np.concatenate([at(each) for each in layouts]).astype(np.float32)
    return Episode("blue-left-red", 0, rows, actions, np.zeros(3, np.float32), success=True, terminated=True)


def test_hindsight_names_what_came_about_lasted_and_was_undone() -> None:
    episodes = {"blue-left-red": [pushed_left()]}
    found = hindsight_segments(episodes, GROUNDING, 100)

    def of(manner: str, word: str, *about: str) -> list[tuple[int, int]]:
        sentence = hindsight_step(BY_WORD[word], manner).sentence  # pyright: ignore[reportArgumentType]  (one of its manners)
        return [(s.start, s.stop) for s in found if s.skill == sentence and s.about == about]

    assert of("bring about", "left", "blue", "red") == [(0, 1)]
    assert of("leave", "left", "blue", "red") == [(1, 2), (2, 3)]
    assert of("bring about", "front", "blue", "red") == []
    assert of("undo", "front", "blue", "red") == [(0, 1)]
    assert of("bring about", "gone left", "blue") == [(0, 1)]
    assert of("bring about", "gone left", "green") == [(2, 3)]
    assert of("bring about", "gone left", "red") == []
    assert of("bring about", "behind", "green", "red") == [(0, 3)]
    assert len(hindsight_segments(episodes, GROUNDING, 1)) == len({each.skill for each in found})
    planned = planned_segments(episodes, {"blue-left-red": plan_of("blue-left-red")}, GROUNDING)
    assert [(s.start, s.stop, s.about) for s in planned] == [(0, 3, ())]


@pytest.fixture(scope="module")
def decoder_and_skills() -> tuple[Decoder, dict[str, NDArray[np.float32]]]:
    """A decoder from the rule's pushes for four pairs, and what their hindsight has taught."""
    rng, episodes, books = np.random.default_rng(0), dict[str, list[Episode]](), dict[str, Playbook]()
    for task in WORLD.groups["four"]:
        env, show = WORLD.make(task), WORLD.demonstrator(task)
        runs = [record(env, show, task, seed, 0.1, WORLD) for seed in range(60)]
        episodes[task], books[task] = [run for run in runs if run.success], plan_of(task)
    segments = relations_segments(episodes, books, GROUNDING, 300)
    sentences = list(dict.fromkeys(segment.skill for segment in segments))
    embeddings = {text: rng.normal(size=64).astype(np.float32) / 8.0 for text in sentences}
    config = DecoderConfig(algorithm="discrete-bc", n_updates=1200, calibrate=False)
    steps = labelled_steps(episodes, books, segments, embeddings, GROUNDING, config)
    decoder, _ = pretrain(steps, config, 0, lambda update, metrics: None)
    return decoder, {text: decoder.latents(row[None])[0] for text, row in embeddings.items()}


def guide_of(known: tuple[Decoder, dict[str, NDArray[np.float32]]], *tasks: str, without: str = "none") -> LibraryGuide:
    decoder, latents = known
    skills = [
        NewSkill(sentence=text, latent=z, embedding=z, provenance={"label": text}, support={})
        for text, z in latents.items()
        if not text.startswith(without)
    ]
    books = {task: plan_of(task) for task in tasks}
    rows = {task: np.stack([latents[step.sentence] for step in book.steps]) for task, book in books.items()}
    library = SkillLibrary.in_memory(decoder.latent_size, skills)
    return LibraryGuide(GROUNDING, decoder, library, books, rows, RetrievalConfig(temperature=0.02, floor=0.0))


def solved(guide: LibraryGuide, task: str, n: int) -> float:
    policy = Drawn(lambda seen: chances_of(guide.prior(seen, task)), 0)
    results = remembered_rollouts(WORLD, WORLD.tasks[task], policy, list(range(500, 500 + n)), lambda _: None)
    return float(np.mean([each.success for each in results]))


@pytest.mark.slow
def test_plans_in_words_alone_move_balls_that_nobody_showed(
    decoder_and_skills: tuple[Decoder, dict[str, NDArray[np.float32]]],
) -> None:
    tasks = ("purple-left-cyan", "cyan-behind-purple", "purple-right", WORLD.groups["two"][0])
    guide = guide_of(decoder_and_skills, *tasks)
    assert np.mean([solved(guide, task, 10) for task in tasks[:2]]) >= 0.8
    assert solved(guide, tasks[2], 20) >= 0.8
    assert solved(guide, tasks[3], 10) >= 0.5
    opposite = dict(decoder_and_skills[1])
    swap = {"left": "right", "behind": "front", "right": "left", "front": "behind"}
    for word, other in swap.items():
        opposite[hindsight_step(BY_WORD[word]).sentence] = decoder_and_skills[1][
            hindsight_step(BY_WORD[other]).sentence
        ]
    wrong = guide_of((decoder_and_skills[0], opposite), *tasks)
    assert np.mean([solved(wrong, task, 10) for task in tasks[:2]]) <= 0.6


@pytest.mark.slow
def test_what_holds_is_left_alone_by_the_librarys_own_skills(
    decoder_and_skills: tuple[Decoder, dict[str, NDArray[np.float32]]],
) -> None:
    task = "red-left-blue.green-left-red"
    steps = (said("left", "blue", "red"), said("behind", "green", "purple"))
    books = {task: Playbook(task, steps, "", "", "words")}

    def guided(without: str) -> LibraryGuide:
        base, latents = guide_of(decoder_and_skills, without=without), decoder_and_skills[1]
        rows = {task: np.stack([latents[step.sentence] for step in steps])}
        return LibraryGuide(GROUNDING, base.decoder, base.library, books, rows, base.config)

    seen = at([*SPREAD[:2], [0.15, 0.4], *SPREAD[3:]])  # blue lies left of red, green not behind purple
    careful, careless = guided("none"), guided("undo")
    retrieval = careful.retrieve(seen, task)
    assert retrieval.together is not None
    assert retrieval.together.kept.tolist() == [[True, False]]
    touching = [action_of(ball, direction) for ball in (0, 1) for direction in range(8)]
    chances = [float(chances_of(guide.prior(seen, task))[0, touching].sum()) for guide in (careful, careless)]
    assert chances[0] < chances[1]
    np.testing.assert_allclose(chances_of(careful.prior(seen, task)).sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.slow
def test_states_of_several_plans_are_advised_together_as_by_themselves(
    decoder_and_skills: tuple[Decoder, dict[str, NDArray[np.float32]]],
) -> None:
    tasks = ("purple-left-cyan", WORLD.groups["three"][0], "gather")
    guide = guide_of(decoder_and_skills, *tasks)
    rng = np.random.default_rng(3)
    seen = np.concatenate([at(rng.uniform([-0.4, -0.1], [0.4, 0.5], (5, 2)).tolist()) for _ in range(6)])
    numbers = np.array([0, 1, 2, 2, 1, 0])
    together = chances_of(LibraryAdviser(guide, tasks).prior(seen, numbers, [None] * 6))
    alone = np.zeros_like(together)
    for row, number in enumerate(numbers.tolist()):
        alone[row] = chances_of(guide.prior(seen[row : row + 1], tasks[int(number)]))[0]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-7)


def test_a_plan_for_some_balls_is_one_for_others_with_the_names_exchanged() -> None:
    wording = wording_of(
        "push the red ball to the left of the blue ball and push the green ball behind the red ball", COLOURS
    )
    assert wording.form == "push the <0> ball to the left of the <1> ball and push the <2> ball behind the <0> ball"
    assert wording.names == ("red", "blue", "green")
    assert wording_of("the cyan ball", COLOURS).form == wording_of("the Red ball", COLOURS).form
    assert wording_of("the bored redhead", COLOURS).names == ()
    names = exchange(("red", "blue"), ("cyan", "red"), COLOURS)
    assert names == {"red": "cyan", "blue": "red", "green": "blue", "purple": "green", "cyan": "purple"}
    task = WORLD.tasks["cyan-left-red"]
    other = exchanged(plan_of("red-left-blue"), task, names)
    assert other.task_id == task.id
    assert other.steps == plan_of("cyan-left-red").steps


def test_a_sceptics_ten_lines_know_the_goal_or_follow_the_plan() -> None:
    rules = WORLD.rules("red-left-blue")
    assert list(rules) == ["aim", "rule"]
    far = at([[0.4, 0.2], [-0.05, 0.2], [0.3, 0.55], [-0.4, -0.15], [-0.4, 0.55]])[0]
    far[10:] = Goal("pair", (Part(2, 0, 1),)).vector
    follow = WORLD.follower(said("behind", "green", "blue"))
    assert follow is not None
    assert follow(far) == action_of(2, 2)
    gone = WORLD.follower(said("gone front", "cyan"))
    assert gone is not None
    assert gone(far) == action_of(4, 3)
    assert WORLD.follower(Step("push")) is None
