"""Thirty demonstrations of a delivery without a wall, as flat arrays: `python record.py` writes demonstrations.npz."""

import numpy as np
from courier import MOTORS, Courier, Numbers

N_EPISODES, HORIZON = 30, 150


def shown(seen: Numbers) -> Numbers:
    """To the parcel, and take it; with it to the goal, and let go."""
    hand, parcel, goal, holds = seen[0:2], seen[2:4], seen[4:6], seen[9] > 0.5
    way = (goal if holds else parcel) - hand
    there = np.linalg.norm(way) < 0.04
    return np.append(np.linalg.solve(MOTORS, 0.3 * way), 1.0 if holds != there else -1.0).clip(-1.0, 1.0)


def main() -> None:
    """Record, with some noise on the motors, so that it is also shown what to do a little off the way."""
    env, noise, steps = Courier(), np.random.default_rng(0), []
    for seed in range(N_EPISODES):
        seen, _ = env.reset(seed=seed)
        for number in range(HORIZON):
            action = (shown(seen) + noise.normal(0.0, [0.1, 0.1, 0.0])).clip(-1.0, 1.0).astype(np.float32)
            after, reward, solved, _, _ = env.step(action)
            steps.append((seen, action, after, reward, solved, number == HORIZON - 1 and not solved, solved))
            seen = after
            if solved:
                break
    names = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts", "is_success")
    arrays = {name: np.array(column) for name, column in zip(names, zip(*steps, strict=True), strict=True)}
    np.savez("demonstrations.npz", **arrays)
    print(f"{arrays['is_success'].sum()} of {N_EPISODES} episodes succeeded, in {len(steps)} steps")


if __name__ == "__main__":
    main()
