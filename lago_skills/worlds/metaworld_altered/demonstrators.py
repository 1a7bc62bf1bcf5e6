"""Who shows that the altered tasks can be solved: rules of a few lines, by the observation alone. They remember nothing.

Each says where the hand shall go, how hard (a gain), and whether the fingers close. The hand is 4.5 cm above the finger tips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from lago_skills.worlds.metaworld.grounding import TIP_OFFSET_M

Point = NDArray[np.float64]
Aim = tuple[Point, float, float]
"""(3,) where to, the gain, and the fingers: 1 closes them, -1 opens them."""
OPEN, CLOSED = -1.0, 1.0
NEAR_M = 0.04
"""As near as the finger tips have to come to the object before `straight` heads for the goal."""


def _at(*numbers: float) -> Point:
    return np.array(numbers, dtype=np.float64)


def _level(one: Point, two: Point) -> float:
    """Distance in the plane."""
    return float(np.linalg.norm((one - two)[:2]))


def _drawer(hand: Point, thing: Point, goal: Point) -> Aim:
    """Fingers on both sides of the handle, then away from the robot."""
    over = thing + _at(0.0, -0.005, -0.02)
    if _level(hand, over) > 0.06:
        return over + _at(0.0, 0.0, 0.2), 10.0, OPEN
    if hand[2] - over[2] > 0.04:
        return over, 10.0, OPEN
    return over + _at(0.0, 0.08, 0.0), 20.0, OPEN


def _door(hand: Point, thing: Point, goal: Point) -> Aim:
    """Behind the grip from above, then along its arc."""
    behind = thing + _at(0.0, 0.045, 0.0)
    if _level(hand, behind) > 0.12:
        return behind + _at(0.0, 0.0, 0.2), 25.0, CLOSED
    if hand[2] - behind[2] > 0.04:
        return behind, 25.0, CLOSED
    return thing + _at(0.08, -0.03, 0.0), 25.0, CLOSED


def _button(hand: Point, thing: Point, goal: Point) -> Aim:
    """To the right of the button, then left."""
    before = thing + _at(0.09, 0.0, 0.045)
    aside = abs(hand[1] - thing[1])
    if hand[0] < thing[0] + 0.05 and aside > 0.05:
        return _at(before[0] + 0.04, hand[1], before[2]), 10.0, CLOSED
    if hand[0] > thing[0] + 0.05 and (aside > 0.02 or abs(hand[2] - before[2]) > 0.03):
        return before, 10.0, CLOSED
    return _at(thing[0] - 0.02, thing[1], before[2]), 10.0, CLOSED


def _handle(hand: Point, thing: Point, goal: Point) -> Aim:
    """Fingers on both sides of the grip from above, then towards the robot."""
    place = thing + _at(0.0, 0.0, 0.015)
    if _level(hand, place) > 0.05 and hand[2] - place[2] < 0.1:
        return _at(hand[0], hand[1], place[2] + 0.14), 10.0, OPEN
    if _level(hand, place) > 0.02 and hand[2] - place[2] > 0.06:
        return place + _at(0.0, 0.0, 0.14), 10.0, OPEN
    if hand[2] - place[2] > 0.025:
        return place, 10.0, OPEN
    return place + _at(0.0, -0.1, -0.01), 20.0, OPEN


def _plate(hand: Point, thing: Point, goal: Point) -> Aim:
    """Onto the far part of the plate from above, then away from the robot, pressing on it."""
    place = thing + _at(0.0, 0.03, 0.025)
    if _level(hand, place) > 0.03 and hand[2] - place[2] > 0.06:
        return place + _at(0.0, 0.0, 0.1), 10.0, CLOSED
    if hand[2] - place[2] > 0.045:
        return place - _at(0.0, 0.0, 0.1), 10.0, CLOSED
    return _at(thing[0], hand[1] + 0.05, 0.0), 10.0, CLOSED


def _lock(hand: Point, thing: Point, goal: Point) -> Aim:
    """To the right of the lever's end, then left."""
    beside = thing + _at(0.04, -0.02, -0.03)
    if _level(hand, beside) <= 0.02:
        return beside + _at(-0.1, 0.0, 0.01), 25.0, CLOSED
    return hand + _at(0.0, -0.1, -0.1) if hand[2] > 0.15 else beside, 25.0, CLOSED


def _faucet(hand: Point, thing: Point, goal: Point) -> Aim:
    """To the left of the lever's end, from above, then round with it."""
    beside = thing + _at(-0.06, -0.01, 0.03)
    if hand[2] > beside[2] + 0.04:
        high = _level(hand, beside) > 0.02
        return _at(beside[0], beside[1], 0.3 if high else beside[2]), 10.0, CLOSED
    if hand[0] < thing[0] - 0.08:
        return beside, 10.0, CLOSED
    return _at(thing[0] + 0.1, thing[1] + 0.5 * (goal[1] - thing[1]), beside[2]), 10.0, CLOSED


def _dial(hand: Point, thing: Point, goal: Point) -> Aim:
    """To the left of the head's front end, then right and round."""
    beside = thing + _at(-0.05, 0.02, 0.09)
    if hand[2] > 0.12:
        high = _level(hand, beside) > 0.02
        return _at(beside[0], beside[1], 0.2 if high else 0.08), 10.0, CLOSED
    return thing + _at(0.05, 0.03, 0.09), 10.0, CLOSED


def _window(hand: Point, thing: Point, goal: Point) -> Aim:
    """To the right of the grip, from above, then left."""
    beside = thing + _at(0.056, -0.03, -0.08)
    if _level(hand, beside) > 0.04:
        return beside + _at(0.02, 0.0, 0.25), 10.0, CLOSED
    if hand[2] - beside[2] > 0.03:
        return beside + _at(0.01, 0.0, 0.0), 10.0, CLOSED
    return _at(hand[0] - 0.1, beside[1], beside[2]), 20.0, CLOSED


def _coffee(hand: Point, thing: Point, goal: Point) -> Aim:
    """Round the right side of the machine, then towards the robot."""
    behind = thing + _at(0.0, 0.08, 0.045)
    if hand[1] < behind[1] - 0.02 and hand[0] > thing[0] + 0.05:
        return _at(max(thing[0] + 0.2, hand[0]), behind[1] + 0.03, behind[2]), 10.0, CLOSED
    if abs(hand[0] - thing[0]) > 0.02:
        return behind + _at(0.0, 0.02, 0.0), 10.0, CLOSED
    return _at(thing[0], hand[1] - 0.1, behind[2]), 10.0, CLOSED


AIMS: Mapping[str, Callable[[Point, Point, Point], Aim]] = {
    "drawer-open-away": _drawer,
    "door-open-right-hinge": _door,
    "button-press-sideways": _button,
    "handle-pull-out": _handle,
    "plate-slide-back-far": _plate,
    "door-unlock-clockwise": _lock,
    "faucet-close-far-lever": _faucet,
    "dial-turn-reversed": _dial,
    "window-open-leftwards": _window,
    "coffee-button-behind": _coffee,
}
"""Hand, object and goal, (3,) each, of an altered task by name -> where to."""


def demonstrator(task: str) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The rule of an altered task: (39,) observation -> (4,) action."""
    aim = AIMS[task]

    def act(observation: NDArray[np.float64]) -> NDArray[np.float64]:
        hand, thing, goal = observation[:3], observation[4:7], observation[36:39]
        where, gain, fingers = aim(hand, thing, goal)
        return np.clip(np.append(gain * (where - hand), fingers), -1.0, 1.0)

    return act


def straight(observation: NDArray[np.float64]) -> NDArray[np.float64]:
    """What needs no plan and no demonstration: straight to the object, with closed fingers, then on towards the goal."""
    tips, thing, goal = observation[:3] - _at(0.0, 0.0, TIP_OFFSET_M), observation[4:7], observation[36:39]
    where = goal if np.linalg.norm(tips - thing) < NEAR_M else thing
    return np.clip(np.append(10.0 * (where - tips), CLOSED), -1.0, 1.0)
