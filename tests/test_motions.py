"""Data without playbooks: change points and kinds of motion."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.data.change_points import cut, signals
from lago_skills.data.motion_clusters import find_motions, motion_segments
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.dataset import labelled_steps
from lago_skills.worlds.metaworld.env import MetaWorldEnv
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import demonstrate
from tests.line_world import found_in, line, there_and_back


def cost(signal: NDArray[np.float64], cuts: list[int], penalty: float) -> float:
    """The objective, written down naively."""
    price = penalty * (signal.shape[1] + 1) * np.log(len(signal))
    parts = [signal[a:b] for a, b in itertools.pairwise(cuts)]
    return sum(float(((part - part.mean(axis=0)) ** 2).sum()) for part in parts) + price * (len(parts) - 1)


@settings(max_examples=60, deadline=None)
@given(
    data=st.integers(0, 2**31),
    n_steps=st.integers(1, 14),
    n_parts=st.integers(1, 3),
    penalty=st.sampled_from([0.05, 0.3, 1.0]),
    min_steps=st.integers(1, 4),
)
def test_cuts_are_the_cheapest_of_all(data: int, n_steps: int, n_parts: int, penalty: float, min_steps: int) -> None:
    rng = np.random.default_rng(data)
    signal = rng.normal(size=(n_steps, n_parts)) + np.repeat(rng.normal(0, 3, (n_steps, n_parts)), 5, axis=0)[:n_steps]
    found = cut(signal, penalty, min_steps)
    assert found[0] == 0
    assert found[-1] == n_steps
    assert min(np.diff(found)) >= min(min_steps, n_steps)
    every = [
        [0, *inner, n_steps]
        for n in range(n_steps)
        for inner in itertools.combinations(range(1, n_steps), n)
        if min(np.diff([0, *inner, n_steps])) >= min(min_steps, n_steps)
    ]
    assert cost(signal, found, penalty) == pytest.approx(min(cost(signal, cuts, penalty) for cuts in every))


def test_a_long_signal_is_cut_where_it_was_made_to_change() -> None:
    rng = np.random.default_rng(0)
    levels = np.repeat(rng.normal(0, 4, (6, 3)), [40, 25, 90, 15, 70, 60], axis=0)
    found = cut(levels + rng.normal(size=levels.shape), 3.0, 5)
    assert found == pytest.approx([0, 40, 65, 155, 170, 240, 300], abs=1)


@pytest.mark.parametrize("discrete", [False, True])
def test_three_phases_are_three_kinds_of_motion(discrete: bool) -> None:
    episodes = [there_and_back(seed, discrete=discrete) for seed in range(5)]
    known = found_in(episodes)
    assert [motion.number for motion in known.motions] == [1, 2, 3]
    assert [(motion.n_segments, motion.n_episodes) for motion in known.motions] == [(5, 5)] * 3
    right, waits, back = known.motions
    assert set(right.start) == {"x"}, "a number that never changes is not shown"
    assert right.start["x"] == 0.0
    assert right.end["x"] > 0.8
    assert waits.end["x"] == pytest.approx(waits.start["x"], abs=0.1)
    assert back.end["x"] == pytest.approx(0.0, abs=0.3)
    if discrete:
        assert right.action == pytest.approx((0.0, 0.0, 1.0), abs=0.1)
    else:
        assert right.action == pytest.approx((1.0,), abs=0.1)
    names = {1: "go right", 2: "wait", 3: "go left"}
    found = motion_segments(known, episodes, line(), 3.0, 5, names)
    for index, run in enumerate(episodes):
        own = [s for s in found if s.episode == index]
        assert [s.skill for s in own] == ["go right", "wait", "go left"]
        assert [own[0].start, *(s.stop for s in own)] == [0, own[1].start, own[2].start, len(run.actions)]
        true = np.flatnonzero(np.diff(np.round(np.diff(run.observations[:, 0]) * 10))) + 1
        assert [s.start for s in own[1:]] == pytest.approx(true.tolist(), abs=1)
        assert {s.cut for s in own} == {"change points"}
    alike = motion_segments(known, episodes, line(), 3.0, 5, {1: "move", 2: "move", 3: "go left"})
    assert [s.skill for s in alike if s.episode == 0] == ["move", "go left"], "neighbours of one name are one segment"
    new = motion_segments(known, [there_and_back(9, discrete=discrete)], line(), 3.0, 5, names)
    assert [s.skill for s in new] == ["go right", "wait", "go left"], "new data is compared with what was measured"


def test_data_with_nothing_to_tell_apart_is_one_motion() -> None:
    still = Episode(
        "task-0", 0, np.ones((8, 2), np.float32), np.zeros((7, 1), np.float32), np.zeros(7, np.float32), True
    )
    short = Episode(
        "task-0", 1, np.ones((2, 2), np.float32), np.zeros((1, 1), np.float32), np.ones(1, np.float32), True
    )
    for episodes in ([still], [short], [still, short]):
        known = found_in(episodes)
        assert len(known.motions) == 1
        assert known.motions[0].start == {}
        found = motion_segments(known, episodes, line(), 3.0, 5, {1: "wait"})
        assert [(s.start, s.stop) for s in found] == [(0, len(e.actions)) for e in episodes]
        assert all(np.isfinite(row).all() for row in signals(episodes, line()))


def test_segments_head_for_where_the_gripper_went() -> None:
    env = MetaWorldEnv(find_task("push"))
    run = demonstrate(env, 1_000_000, 0.1)
    env.close()
    grounding = MetaWorldGrounding()
    known = find_motions("push", [run], grounding, 3.0, 5, 8)
    assert "object_x" in known.motions[0].start or "gripper_x" in known.motions[0].start
    assert not any("object2" in name for name in known.motions[0].start), "there is no second object"
    names = {motion.number: f"motion {motion.number}" for motion in known.motions}
    found = motion_segments(known, [run], grounding, 3.0, 5, names)
    assert len(found) >= 2
    embeddings = {name: np.ones(4, np.float32) for name in names.values()}
    config = DecoderConfig(hindsight_share=0.0)
    steps = labelled_steps({"push": [run]}, {}, found, embeddings, grounding, config)
    path = grounding.read(run.observations.astype(np.float64)).anchors[:, 0]
    first = found[0]
    heading = path[first.stop] - path[first.start : first.stop]
    np.testing.assert_allclose(steps.inputs[: first.stop, :3], heading * 5.0, atol=1e-5)
