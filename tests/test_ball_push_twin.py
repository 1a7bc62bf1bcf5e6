"""Ball push: the planar twin beside MuJoCo, the potential, and who shows goals."""

# Gymnasium and MuJoCo leave types partially unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lago_skills.worlds.ball_push import twin
from lago_skills.worlds.ball_push.balls import N_ACTIONS, REACH, action_of
from lago_skills.worlds.ball_push.demonstrators import plan, rule
from lago_skills.worlds.ball_push.env import BallPush
from lago_skills.worlds.ball_push.goals import GATHER, LINE_UP
from lago_skills.worlds.ball_push.layouts import draw_layout
from lago_skills.worlds.ball_push.potential import potential
from lago_skills.worlds.ball_push.scene import Scene
from tests.ball_scenes import (
    BLUE,
    RED,
    RED_LEFT_BLUE,
    RING,
    ROW,
    SPREAD,
)


def made(level: str = "pair", **settings: Any) -> BallPush:
    return BallPush(level, **settings)


# The twin, and who plans with it -------------------------------------------------------------------------------------

Transitions = tuple[NDArray[Any], ...]


@pytest.fixture(scope="module")
def transitions() -> Transitions:
    """Positions, velocities, actions, numbers of steps, and positions and velocities after them, of random pushes in MuJoCo."""
    rng, scene = np.random.default_rng(9), Scene()
    rows: list[tuple[Any, ...]] = []
    for _ in range(60):
        scene.place(draw_layout(rng))
        for step in range(8):
            action, before = int(rng.integers(N_ACTIONS)), (scene.positions, scene.velocities)
            scene.push(action)
            rows.append((*before, action, step, scene.positions, scene.velocities))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def test_the_twin_moves_balls_as_mujoco_does(transitions: Transitions) -> None:
    """Within a centimetre for each ball from an episode's second step on; an order of magnitude nearer than if nothing moved."""
    positions, velocities, actions, steps, after, moving = transitions
    found, speeds = twin.push(positions, actions, velocities)
    error = np.linalg.norm(found - after, axis=2)
    nothing = np.linalg.norm(positions - after, axis=2)
    later = steps >= 1
    assert error[later].mean() < 0.006
    assert error[later].mean() < 0.15 * nothing[later].mean()
    assert np.median(error[later].max(axis=1)) < 0.013
    assert error[~later].mean() < 0.02
    assert np.linalg.norm(speeds - moving, axis=2)[later].mean() < 0.05
    at_rest, _ = twin.push(positions, actions)
    assert np.linalg.norm(at_rest - after, axis=2)[later].mean() < 0.012


def test_the_twin_knows_free_pushes_and_walls() -> None:
    found, _ = twin.push(np.repeat(SPREAD[None], 8, axis=0), np.arange(8))
    lengths = np.linalg.norm(found[:, RED] - SPREAD[RED], axis=1)
    np.testing.assert_allclose(lengths, [0.2467] * 4 + [0.2773] * 4, atol=0.004)
    np.testing.assert_allclose(found[:, 1:], np.repeat(SPREAD[None, 1:], 8, axis=0), atol=0.002)
    corner = SPREAD.copy()
    corner[RED] = [0.47, 0.2]
    stays, _ = twin.push(corner[None], np.array([action_of(RED, 0)]))
    np.testing.assert_allclose(stays[0, RED], corner[RED], atol=0.02)


def test_tables_of_a_batch_do_not_know_each_other(transitions: Transitions) -> None:
    positions, velocities, actions, *_ = transitions
    together, _ = twin.push(positions[:40], actions[:40], velocities[:40])
    alone = np.concatenate(
        [twin.push(positions[i : i + 1], actions[i : i + 1], velocities[i : i + 1])[0] for i in range(40)]
    )
    np.testing.assert_allclose(together, alone, atol=1e-9)


@pytest.mark.clock
def test_the_twin_makes_five_thousand_pushes_a_second(transitions: Transitions) -> None:
    """At 1,024 tables, in seconds of one core; and more than three times as many as MuJoCo in the same rounds."""
    rows = np.arange(1024) % len(transitions[0])
    positions, velocities, actions = (column[rows] for column in transitions[:3])
    scene, rates, peers = Scene(), [0.0], [0.0]
    for _ in range(3):
        started = time.process_time()
        twin.push(positions, actions, velocities)
        rates.append(1024 / (time.process_time() - started))
        scene.place(positions[0])
        started = time.process_time()
        for action in actions[:200]:
            scene.push(int(action))
        peers.append(200 / (time.process_time() - started))
    assert max(rates) > 5000
    assert max(rates) > 3 * max(peers)


def test_the_potential_is_zero_where_a_goal_holds_and_leads_off_walls() -> None:
    holds = np.array([[0.0, 0.1], [0.33, 0.1], [-0.4, 0.5], [0.4, 0.5], [-0.4, -0.1]])
    assert potential(holds[None], RED_LEFT_BLUE)[0] == 0.0
    at_wall, off_wall = SPREAD.copy(), SPREAD.copy()
    at_wall[BLUE], off_wall[BLUE] = [-0.47, 0.2], [-0.1, 0.5]
    goal = RED_LEFT_BLUE  # there is no room for red to the left of a blue ball at the left wall
    assert potential(at_wall[None], goal)[0] > potential(off_wall[None], goal)[0] > 0.0
    assert potential(np.stack([RING, SPREAD]), GATHER).tolist()[0] == 0.0
    assert potential(np.stack([ROW, SPREAD]), LINE_UP).tolist()[0] == 0.0
    assert ((REACH[0] <= ROW) & (REACH[1] >= ROW)).all()


def solved(level: str, n: int, chooses: Any) -> int:
    env = made(level)
    good = 0
    for seed in range(500, 500 + n):
        observation, _ = env.reset(seed=seed)
        while True:
            observation, _, terminated, truncated, _ = env.step(chooses(observation.reshape(5, 2), env.goal))
            if terminated or truncated:
                break
        good += terminated
    return good


def test_pairs_are_shown() -> None:
    assert solved("pair", 20, plan) >= 19
    assert solved("pair", 40, rule) >= 37
    assert solved("easy", 20, plan) == 20
    assert solved("gather", 6, rule) >= 4


@pytest.mark.slow
def test_goals_of_several_parts_are_shown() -> None:
    assert solved("two", 5, plan) >= 4
    assert solved("gather", 5, plan) >= 4
    assert solved("two", 20, rule) >= 15
