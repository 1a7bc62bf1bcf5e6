"""Thirty demonstrations of a delivery without a wall: `python record.py` writes demonstrations.npz."""

from typing import Any

import numpy as np
from courier import MOTORS, Courier, Numbers

N_EPISODES, HORIZON = 30, 150


def shown(seen: Numbers) -> Numbers:
    """To the parcel, and take it; with it to the goal, and let go."""
    hand, parcel, goal, holds = seen[0:2], seen[2:4], seen[4:6], seen[9] > 0.5
    way = (goal if holds else parcel) - hand
    there = np.linalg.norm(way) < 0.04
    fingers = 1.0 if holds != there else -1.0
    return np.append(np.linalg.solve(MOTORS, 0.3 * way), fingers).clip(-1.0, 1.0)


def main() -> None:
    """Record, with noise on the motors, so that what to do a little off the way is shown too."""
    env, noise = Courier(), np.random.default_rng(0)
    steps: list[dict[str, Any]] = []
    for seed in range(N_EPISODES):
        seen, _ = env.reset(seed=seed)
        for number in range(HORIZON):
            action = shown(seen) + noise.normal(0.0, [0.1, 0.1, 0.0])
            action = action.clip(-1.0, 1.0).astype(np.float32)
            after, reward, solved, _, _ = env.step(action)
            step = {"observations": seen, "actions": action, "next_observations": after}
            cut = number == HORIZON - 1 and not solved
            steps.append(step | {"rewards": reward, "terminals": solved, "timeouts": cut})
            seen = after
            if solved:
                break
    arrays = {name: np.array([step[name] for step in steps]) for name in steps[0]}
    np.savez("demonstrations.npz", allow_pickle=False, is_success=arrays["terminals"], **arrays)
    print(f"{arrays['terminals'].sum()} of {N_EPISODES} episodes succeeded, in {len(steps)} steps")


if __name__ == "__main__":
    main()
