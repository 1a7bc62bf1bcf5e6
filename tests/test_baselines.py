"""The zero-shot table's baselines, and episodes that are played on after their first success."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Condition, Episode, Playbook, Segment, Step, Target
from lago_skills.errors import StudyError
from lago_skills.experiments.baselines import cloning
from lago_skills.experiments.baselines.cloning_policies import ClonedTask, Demonstrated, Forgetful, Replay, Uniform
from lago_skills.worlds.metaworld.env import MetaWorldEnv, scripted
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import MetaWorld
from lago_skills.worlds.rollouts import full_rollouts, rollouts
from lago_skills.worlds.seeds import EVAL_SEED
from tests.conftest import random_decoder
from tests.tables import study_in

# Success, twice ---------------------------------------------------------------------------------------------------------


def test_one_pass_to_the_horizon_gives_first_success_and_the_last_flag() -> None:
    task = replace(find_task("reach"), horizon_steps=90)
    expert, seeds = scripted(task), [EVAL_SEED, EVAL_SEED + 1, EVAL_SEED + 2]
    taken: list[int] = []
    counts: dict[int, int] = {}

    def towards(observations: NDArray[np.float64]) -> NDArray[np.float32]:
        return np.stack([expert(row) for row in observations]).astype(np.float32)

    def away_in_the_end(observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[np.float32]:
        actions = towards(observations)
        for number, episode in enumerate(episodes.tolist()):
            counts[episode] = counts.get(episode, 0) + 1
            if episode != 1 and counts[episode] > 70:
                actions[number] = (0.0, 0.0, 1.0, 0.0)
        return actions

    ended = rollouts(MetaWorld(), task, towards, seeds, lambda n: None)
    stayed = full_rollouts(MetaWorld(), task, Forgetful(towards), seeds, taken.append, n_envs=2)
    left = full_rollouts(MetaWorld(), task, away_in_the_end, seeds, lambda n: None, n_envs=2)
    assert [r.success for r in ended] == [True] * 3
    assert [(r.seed, r.success, r.steps) for r in stayed] == [(r.seed, r.success, r.steps) for r in ended]
    assert [(r.seed, r.success, r.steps) for r in left] == [(r.seed, r.success, r.steps) for r in ended]
    assert max(r.steps for r in ended) < 70
    assert [r.success_last for r in stayed] == [True] * 3
    assert [r.success_last for r in left] == [False, True, False]
    assert [r.success_last for r in ended] == [None] * 3  # what would have come later is not known
    assert sum(taken) == 3 * task.horizon_steps
    assert counts == {0: 90, 1: 90, 2: 90}
    envs = [MetaWorldEnv(task) for _ in range(5)]  # more than there are episodes
    for _ in range(2):  # whatever was played in them before
        assert rollouts(MetaWorld(), task, towards, seeds, lambda n: None, envs=envs) == ended
    still = full_rollouts(
        MetaWorld(), task, Forgetful(lambda o: np.zeros((len(o), 4), np.float32)), seeds[:1], lambda n: None
    )
    assert (still[0].success, still[0].steps, still[0].success_last) == (False, 90, False)


# Baselines --------------------------------------------------------------------------------------------------------------


def observation(gripper: tuple[float, float, float], thing: tuple[float, float, float]) -> NDArray[np.float64]:
    state = np.zeros(39)
    for start in (0, 18):
        state[start : start + 3] = np.array(gripper) + np.array([0.0, 0.0, 0.045])
        state[start + 4 : start + 7] = thing
    state[36:39] = (0.0, 0.9, 0.2)
    return state


FAR, NEAR = "go to the object", "lift the object"


def books(skills: tuple[str, str] = (FAR, NEAR)) -> dict[str, Playbook]:
    """The second step is active within 5 cm of the object."""
    steps = (
        Step(skills[0], Target("object", (0.0, 0.0, 0.0)), (Condition("gripper_to_object", ">", 0.05),)),
        Step(skills[1], Target("goal", (0.0, 0.0, 0.0))),
    )
    return {name: Playbook(name, steps, "", "") for name in ("push", "other")}


def demonstrated(playbooks: dict[str, Playbook] | None = None) -> Demonstrated:
    """Two episodes that come from the left and from the right, three steps each, then two steps upwards."""
    runs: list[Episode] = []
    for side in (-1.0, 1.0):
        start = observation((0.3 * side, 0.6, 0.1), (0.0, 0.6, 0.1))
        there = observation((0.01 * side, 0.6, 0.1), (0.0, 0.6, 0.1))
        actions = np.array([[-side, 0.1 * i, 0.0, 0.0] for i in range(3)] + [[0.0, 0.0, side, 0.9]] * 2, np.float32)
        observations = np.stack([start] * 3 + [there] * 3).astype(np.float32)
        runs.append(Episode("push", 0, observations, actions, np.zeros(5, np.float32), True))
    segments = [
        Segment("push", episode, *span, step, skill)
        for episode in (0, 1)
        for step, (span, skill) in enumerate((((0, 3), FAR), ((3, 5), NEAR)))
    ]
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
    sentences: list[str] = [FAR, NEAR, "raise it"]
    embeddings = dict(zip(sentences, vectors, strict=True))
    return Demonstrated(MetaWorldGrounding(), {"push": runs}, segments, playbooks or books(), embeddings)


def test_replay_takes_the_segment_that_starts_nearest_and_plays_it_until_the_step_changes() -> None:
    policy = Replay(demonstrated(), "push")
    left, right = observation((-0.25, 0.62, 0.1), (0, 0.6, 0.1)), observation((0.2, 0.6, 0.1), (0, 0.6, 0.1))
    both, numbers = np.stack([left, right]), np.array([7, 3])
    first = policy(both, numbers)
    assert first[:, 0].tolist() == [1.0, -1.0]
    assert (policy.segment(7), policy.segment(3)) == (policy.demonstrated.segments[0], policy.demonstrated.segments[2])
    assert policy(both, numbers)[:, 1] == pytest.approx([0.1, 0.1])
    assert policy(both[::-1], numbers[::-1])[:, 1] == pytest.approx([0.2, 0.2])  # rows change places, episodes do not
    # They have run out: both look again, from where they are now.
    assert policy(np.stack([right, right]), numbers)[:, :2].tolist() == [[-1.0, 0.0], [-1.0, 0.0]]
    # The step changes in the middle of a segment.
    there = observation((0.012, 0.6, 0.1), (0.0, 0.6, 0.1))
    assert policy(np.stack([there, right]), numbers) == pytest.approx(np.array([[0, 0, 1, 0.9], [-1, 0.1, 0, 0]]))


def test_replay_uses_the_nearest_demonstrated_sentence_for_one_that_never_was() -> None:
    known = demonstrated(books((FAR, "raise it")))
    assert known.sentence("raise it") == NEAR
    assert known.sentence(FAR) == FAR
    there = observation((-0.012, 0.6, 0.1), (0.0, 0.6, 0.1))
    assert Replay(known, "other")(there[None], np.array([0]))[0].tolist() == pytest.approx([0, 0, -1, 0.9])


def test_uniform_actions_are_an_episodes_own() -> None:
    nothing = np.zeros((3, 39))
    space = ActionSpace(4)
    one, two = Uniform(space, 0), Uniform(space, 0)
    together = np.stack([one(nothing, np.arange(3)) for _ in range(200)])  # (200, 3, 4)
    alone = np.stack([two(nothing[:1], np.array([2])) for _ in range(200)])
    assert (together[:, 2] == alone[:, 0]).all()
    assert np.abs(together).max() <= 1.0
    assert together.std() == pytest.approx(1 / np.sqrt(3), abs=0.02)
    assert not (Uniform(space, 1)(nothing, np.arange(3)) == together[0]).any()


def test_a_cloned_task_acts_by_its_text_towards_the_goal(grounding: MetaWorldGrounding) -> None:
    decoder = random_decoder()
    texts = np.random.default_rng(0).normal(size=(2, 384)).astype(np.float32)
    z = decoder.latents(texts)
    states = np.stack([observation((0.1, 0.6, 0.1), (0.0, 0.6, 0.1)), observation((0.0, 0.7, 0.2), (0.1, 0.6, 0.1))])
    one, two = (ClonedTask(grounding, decoder, latent, "goal") for latent in z)
    actions = one(states, np.arange(2))
    targets = states[:, 36:39]
    wanted = decoder.decode(grounding.read(states).inputs(targets), np.broadcast_to(z[0], (2, 1, 8)))
    assert actions == pytest.approx(np.einsum("bm,bma->ba", wanted.weights[:, 0], wanted.means[:, 0]), abs=1e-6)
    assert np.abs(actions - two(states, np.arange(2))).max() > 1e-3


def test_tasks_are_cloned_as_one_step_towards_the_goal_with_all_demonstrations(tmp_path: Path) -> None:
    space = study_in(tmp_path)
    episode = Episode(
        "push", 0, np.zeros((6, 39), np.float32), np.zeros((5, 4), np.float32), np.zeros(5, np.float32), True
    )
    one, segments = cloning.one_step((find_task("push"),), {"push": [episode, episode]}, MetaWorldGrounding())
    assert one["push"].steps == (Step("push the puck to a goal", Target("goal", (0.0, 0.0, 0.0))),)
    assert [(s.episode, s.start, s.stop) for s in segments] == [(0, 0, 5), (1, 0, 5)]
    kinds: list[cloning.Kind] = ["bc-text", "bc-onehot"]
    for kind in kinds:
        config = cloning.config(space.study, kind)
        assert (config.n_updates, config.hidden_sizes) == (30, (16,))  # the decoder's
        assert (config.held_out_share, config.context_swap_share, config.hindsight_share) == (0.0, 0.0, 0.0)
    assert cloning.config(space.study, "bc-text").uses_phrases
    assert not cloning.config(space.study, "bc-onehot").uses_phrases
    with pytest.raises(StudyError, match="discrete-cql' and actions of 4 numbers"):
        cloning.config(space.study, "cql-text")
