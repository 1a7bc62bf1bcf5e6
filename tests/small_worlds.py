"""Two small worlds that share nothing with the arm: a plane with discrete actions and targets of two numbers, and a dial without any anchor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Feature, Task, Vocabulary, check_observations
from lago_skills.worlds.grounding import Grounding, Nouns, relations
from lago_skills.worlds.own import NamedEntries
from lago_skills.worlds.world import Demonstrator, EpisodeSoFar, World

STEP = 0.1
MOVES = STEP * np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
HORIZON = 60


class PlaneEnv(gymnasium.Env[NDArray[np.float32], np.int64]):
    """A cart on a square of side 2 carries the first parcel that it comes to; it moves by a step in one of four directions, or stays.

    Observation: cart, parcel, depot and where cart and parcel were a step ago, two numbers each.
    """

    observation_space = gymnasium.spaces.Box(-2.0, 2.0, (10,), np.float32)
    action_space = gymnasium.spaces.Discrete(5)

    def __init__(self, task: str) -> None:
        self.task = task
        self.cart = self.parcel = self.depot = np.zeros(2)
        self.before = np.zeros(4)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        rng = self.np_random
        low, high = (-0.9, -0.3) if self.task == "fetch-south" else (0.3, 0.9)
        self.cart = rng.uniform(-0.3, 0.3, 2).round(1)
        self.parcel = np.array([rng.uniform(-0.9, 0.9), rng.uniform(low, high)]).round(1)
        self.depot = np.array([rng.uniform(-0.9, 0.9), -np.sign(low + high) * rng.uniform(0.5, 0.9)]).round(1)
        self.steps, self.before = 0, np.concatenate([self.cart, self.parcel])
        return self._observed(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.before = np.concatenate([self.cart, self.parcel])
        carrying = bool(np.abs(self.cart - self.parcel).max() < STEP / 2)
        self.cart = np.clip(self.cart + MOVES[int(action)], -1.0, 1.0)
        if carrying and self.task != "visit":
            self.parcel = self.cart.copy()
        self.steps += 1
        end = self.cart if self.task == "visit" else self.parcel
        solved = bool(np.abs(end - self.depot).max() < STEP / 2)
        return self._observed(), float(solved), solved, self.steps >= HORIZON, {"solved": solved}

    def _observed(self) -> NDArray[np.float32]:
        return np.concatenate([self.cart, self.parcel, self.depot, self.before]).astype(np.float32)


class PlaneState:
    """A batch of observations of the plane."""

    def __init__(self, observations: NDArray[Any]) -> None:
        self._cart, self._parcel, self._depot = (observations[:, i : i + 2] for i in (0, 2, 4))
        self._before = observations[:, 6:8], observations[:, 8:10]

    @property
    def values(self) -> NDArray[np.float64]:
        ways = self._parcel - self._cart, self._depot - self._parcel, self._depot - self._cart
        lengths = [np.abs(way).max(axis=1, keepdims=True) for way in ways]
        return np.concatenate([*ways, *lengths], axis=1).astype(np.float64)

    @property
    def anchors(self) -> NDArray[np.float64]:
        return np.stack([self._cart, self._parcel, self._depot], axis=1).astype(np.float64)

    def inputs(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        way = targets - self._cart
        return np.concatenate([way, np.clip(way / STEP, -1, 1), self._parcel - self._cart], axis=1).astype(np.float32)

    @property
    def moved(self) -> NDArray[np.float64]:
        pairs = zip((self._cart, self._parcel), self._before, strict=True)
        distances = [np.linalg.norm(now - before, axis=1) for now, before in pairs]
        return np.stack([*distances, np.zeros(len(self._cart))], axis=1).astype(np.float64)

    @property
    def hand(self) -> NDArray[np.float64]:
        return np.zeros((len(self._cart), 0))

    def subject_inputs(self, targets: NDArray[Any], subjects: NDArray[np.int64]) -> NDArray[np.float32]:
        way, thing = targets - self._cart, self.anchors[np.arange(len(subjects)), subjects[:, 0]]
        return np.concatenate([way, np.clip(way / STEP, -1, 1), thing - self._cart], axis=1).astype(np.float32)


class PlaneGrounding(Grounding):
    """Ways between cart, parcel and depot."""

    observation_size = 10
    action_space = ActionSpace(5, discrete=True)
    vocabulary = Vocabulary(
        tuple(
            Feature(f"{one}_to_{other}_{axis}", "yd", f"{other} minus {one}, along {axis}", -2.0, 2.0)
            for one, other in (("cart", "parcel"), ("parcel", "goal"), ("cart", "goal"))
            for axis in "xy"
        )
        + tuple(
            Feature(f"{one}_to_{other}", "yd", f"longest side of the way from {one} to {other}", 0.0, 2.0)
            for one, other in (("cart", "parcel"), ("parcel", "goal"), ("cart", "goal"))
        ),
        ("cart", "parcel", "goal"),
        2,
        "yd",
        relations("cart", vertical=False),
    )
    world = "A cart on a square carries parcels. It moves by 0.1 along one axis in a step."
    heading_size = subject_heading_size = 4
    nouns = Nouns(agent="cart", effector="cart")

    def read(self, observations: NDArray[Any]) -> PlaneState:
        check_observations(observations, self.observation_size)
        return PlaneState(observations)


def _towards(cart: NDArray[Any], target: NDArray[Any]) -> np.int64:
    way = target - cart
    axis = int(np.argmax(np.abs(way)))
    if np.abs(way[axis]) < STEP / 2:
        return np.int64(0)
    return np.int64(1 + 2 * axis + (way[axis] < 0))


class PlaneWorld(World):
    """Three tasks: two that are shown and one that is not."""

    name = "plane"
    tasks: Mapping[str, Task] = {
        name: Task(name, sentence, f"plane/{name}", HORIZON)
        for name, sentence in (
            ("visit", "drive the cart to the depot"),
            ("fetch", "bring the parcel to the depot"),
            ("fetch-south", "bring the parcel that lies in the south to the depot in the north"),
        )
    }
    groups: Mapping[str, tuple[str, ...]] = {"shown": ("visit", "fetch")}
    grounding: Grounding = PlaneGrounding()

    def make(self, task: str, *, reward: str = "sparse", rendered: bool = False) -> PlaneEnv:
        (known,) = self.find([task])
        return PlaneEnv(known.id)

    def success(self, so_far: EpisodeSoFar) -> bool:
        return bool(so_far.infos[-1]["solved"])

    def demonstrator(self, task: str) -> Demonstrator:
        def act(observation: NDArray[np.float64]) -> Any:
            cart, parcel, depot = observation[:2], observation[2:4], observation[4:6]
            carrying = np.abs(cart - parcel).max() < STEP / 2
            return _towards(cart, depot if task == "visit" or carrying else parcel)

        return act


class DialEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """A dial is to be turned to a mark. Observation: angle and mark; action: how far to turn, up to a tenth."""

    observation_space = gymnasium.spaces.Box(-2.0, 2.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, task: str) -> None:
        self.sign = -1.0 if task == "lower" else 1.0
        self.angle = self.mark = 0.0
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.angle = float(self.np_random.uniform(-0.2, 0.2))
        self.mark = self.sign * float(self.np_random.uniform(0.5, 1.0))
        self.steps = 0
        return np.array([self.angle, self.mark], np.float32), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.angle = float(np.clip(self.angle + 0.1 * float(action[0]), -1.5, 1.5))
        self.steps += 1
        solved = abs(self.angle - self.mark) < 0.05
        return np.array([self.angle, self.mark], np.float32), float(solved), solved, self.steps >= HORIZON, {}


class DialWorld(World):
    """A world without anchors: steps have no target."""

    name = "dial"
    tasks: Mapping[str, Task] = {
        name: Task(name, sentence, f"dial/{name}", HORIZON)
        for name, sentence in (
            ("raise", "turn the dial up to the mark"),
            ("lower", "turn the dial down to the mark"),
            ("set", "set the dial to the mark"),
        )
    }
    grounding: Grounding = NamedEntries(
        {
            "angle": (0, Feature("angle", "turns", "how far the dial is turned", -1.5, 1.5)),
            "mark": (1, Feature("mark", "turns", "where the mark is", -1.5, 1.5)),
        },
        "A dial on a panel.",
        2,
        ActionSpace(1),
    )

    def make(self, task: str, *, reward: str = "sparse", rendered: bool = False) -> DialEnv:
        (known,) = self.find([task])
        return DialEnv(known.id)

    def success(self, so_far: EpisodeSoFar) -> bool:
        return so_far.terminated

    def demonstrator(self, task: str) -> Demonstrator:
        return lambda observation: np.clip((observation[1:] - observation[:1]) * 10.0, -1.0, 1.0)
