"""Success on the task that nobody showed: the library, and what one would do without it."""

# scikit-learn says nothing of its types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from courier import MOTORS, Courier, Numbers
from sklearn.neural_network import MLPRegressor

import lago_skills
from lago_skills.playbook import CompiledPlaybook

TASK, HORIZON, N_EPISODES = "deliver-through-gap", 150, 50
guide = lago_skills.load("checkpoints/courier/bundle")
book = CompiledPlaybook(guide.guide.books[TASK], guide.guide.grounding.vocabulary)
closing = [bool({"close", "closed", "closing"} & {*step.skill.split()}) for step in book.playbook.steps]


def plan_with_controller(motors: Any) -> Callable[[Numbers], Numbers]:
    """Straight to where the plan's active step heads, by motors as one believes them to be."""

    def act(seen: Numbers) -> Numbers:
        state = guide.guide.grounding.read(seen[None])
        step = book.active(state.values)
        way = (book.targets(step, state.anchors) - state.anchors[:, 0])[0]
        fingers = 1.0 if closing[step[0]] else -1.0
        return np.array([*np.linalg.solve(motors, 0.3 * way), fingers], np.float32)

    return act


def ways(seen: Numbers) -> Numbers:
    """Observations, and beside them the way from the hand to everything, as the library's decoder has it."""
    to = [seen[:, place : place + 2] - seen[:, 0:2] for place in (2, 4, 6)]
    return np.concatenate([*to, *(np.tanh(20.0 * way) for way in to), seen], axis=1)


def cloning() -> Callable[[Numbers], Numbers]:
    """A network that imitates the demonstrations, without plans and skills."""
    shown = np.load("demonstrations.npz")
    network: Any = MLPRegressor(
        hidden_layer_sizes=(256, 256), max_iter=300, tol=0.0, n_iter_no_change=300, random_state=0
    )
    with warnings.catch_warnings(action="ignore"):  # that it could go on
        network.fit(ways(shown["observations"]), shown["actions"])
    return lambda seen: np.array(network.predict(ways(seen[None]))[0], np.float32)


def success(act: Callable[[Numbers], Numbers], wall: bool) -> float:
    """Share of episodes that succeed."""
    env, solved = Courier(wall), 0
    for seed in range(10_000, 10_000 + N_EPISODES):
        seen, _ = env.reset(seed=seed)
        for _ in range(HORIZON):
            seen, _, done, _, _ = env.step(act(seen))
            if done:
                solved += 1
                break
    return solved / N_EPISODES


def uniform(seen: Numbers) -> Numbers:
    """Noise."""
    return rng.uniform(-1.0, 1.0, 3).astype(np.float32)


rng, clone = np.random.default_rng(0), cloning()
library = guide.task(TASK, library_alone=True)
print(f"the library alone                          {success(library.act, wall=True):.2f}")
blind, knowing = plan_with_controller(0.03 * np.eye(2)), plan_with_controller(MOTORS)
print(f"plan + controller, motors along x and y    {success(blind, wall=True):.2f}")
print(f"plan + controller that knows the motors    {success(knowing, wall=True):.2f}")
print(f"cloning of the demonstrations              {success(clone, wall=True):.2f}")
print(f"    the same on the task that was shown    {success(clone, wall=False):.2f}")
print(f"uniform noise                              {success(uniform, wall=True):.2f}")
