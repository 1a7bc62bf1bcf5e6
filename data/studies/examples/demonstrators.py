"""Who shows the tasks of these studies: what an environment returns as observation -> an action of that environment."""

from __future__ import annotations

from collections import deque

import numpy as np

# CartPole, Pendulum, LunarLander -------------------------------------------------------------------------------------


def cartpole(observation):
    """Push towards where the pole falls, leaning it a little against the way to the middle."""
    position, speed, angle, turning = observation
    return int(angle + 0.25 * turning + 0.02 * position + 0.06 * speed > 0.0)


def pendulum(observation):
    """Pump energy until the rod comes up, then hold it."""
    cosine, sine, speed = observation
    angle = np.arctan2(sine, cosine)
    if cosine > 0.8:
        return np.clip([-12.0 * angle - 3.0 * speed], -2.0, 2.0).astype(np.float32)
    energy = speed**2 / 6.0 + 5.0 * (cosine - 1.0)  # of a rod of 1 kg and 1 m, 0 where it stands
    return np.clip([-2.0 * np.sign(speed * energy) if speed else 2.0], -2.0, 2.0).astype(np.float32)


def lander(observation):
    """Gymnasium's own heuristic."""
    from gymnasium.envs.box2d.lunar_lander import heuristic

    return heuristic(_Lander(), observation)


class _Lander:
    """All that the heuristic asks of an environment."""

    class unwrapped:
        continuous = False

    continuous = False


# Fetch -----------------------------------------------------------------------------------------------------------------


def fetch(observation):
    """Reach, push, or pick and place, whichever the observation is of."""
    numbers, thing, goal = observation["observation"], observation["achieved_goal"], observation["desired_goal"]
    hand = numbers[:3]
    if len(numbers) == 10:
        return _towards(hand, goal, 0.0)
    fingers = numbers[9] + numbers[10]
    return _picks(hand, thing, goal, fingers) if fingers > 0.005 else _pushes(hand, thing, goal)


def _towards(hand, place, grip):
    return np.append(np.clip(10.0 * (place - hand), -1.0, 1.0), grip).astype(np.float32)


def _pushes(hand, thing, goal):
    """From behind the block, as seen from the goal, straight on; over the block where it is in the way."""
    way = goal[:2] - thing[:2]
    distance = np.linalg.norm(way)
    way = way / max(distance, 1e-6)
    behind = np.append(thing[:2] - 0.08 * way, thing[2])
    off = hand[:2] - thing[:2]
    along, beside = off @ way, abs(off @ np.array([-way[1], way[0]]))
    low = hand[2] < thing[2] + 0.03
    if low and along < -0.02 and beside < 0.02:  # behind the block and down: push
        return _towards(hand, np.append(thing[:2] + min(0.02, distance) * way, thing[2]), 0.0)
    if np.linalg.norm(hand[:2] - behind[:2]) < 0.02:
        return _towards(hand, behind, 0.0)
    return _towards(hand, np.append(behind[:2], thing[2] + 0.1), 0.0)


def _picks(hand, thing, goal, fingers):
    """Above the block with open fingers, down, close, and to the goal."""
    if np.linalg.norm(hand - thing) < 0.02:
        if fingers > 0.06:
            return _towards(hand, thing, -1.0)
        return _towards(hand, hand + (goal - thing), -1.0)
    if np.linalg.norm(hand[:2] - thing[:2]) < 0.015:
        return _towards(hand, thing, 1.0)
    return _towards(hand, thing + np.array([0.0, 0.0, 0.08]), 1.0)


# DoorKey ---------------------------------------------------------------------------------------------------------------

EMPTY, WALL, DOOR, KEY, GOAL, AGENT = 1, 2, 4, 5, 8, 10
LEFT, RIGHT, FORWARD, PICK_UP, TOGGLE = 0, 1, 2, 3, 5
WAYS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def doorkey(observation):
    """The shortest way to the key, to the door, to the square: turn, go on, take it or open it."""
    grid, facing = observation["image"], int(observation["direction"])
    kinds, states = grid[:, :, 0], grid[:, :, 2]
    here = tuple(np.argwhere(kinds == AGENT)[0])
    has_key = not (kinds == KEY).any()
    doors = np.argwhere(kinds == DOOR)
    opened = not len(doors) or states[tuple(doors[0])] == 0
    wanted = KEY if not has_key else GOAL if opened else DOOR
    target = tuple(np.argwhere(kinds == wanted)[0])
    step = _first_step(kinds, states, here, target)
    way = WAYS.index((step[0] - here[0], step[1] - here[1]))
    if way != facing:
        return LEFT if (facing - way) % 4 == 1 else RIGHT
    if step == target and wanted in (KEY, DOOR):
        return PICK_UP if wanted == KEY else TOGGLE
    return FORWARD


def _first_step(kinds, states, here, target):
    queue, before = deque([here]), {here: here}
    while queue:
        cell = queue.popleft()
        if cell == target:
            while before[cell] != here:
                cell = before[cell]
            return cell
        for way in WAYS:
            near = (cell[0] + way[0], cell[1] + way[1])
            free = kinds[near] in (EMPTY, GOAL) or (kinds[near] == DOOR and states[near] == 0) or near == target
            if near not in before and free:
                before[near] = cell
                queue.append(near)
    raise ValueError("no way to the target")
