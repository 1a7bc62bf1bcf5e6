"""A courier in the plane fetches a parcel and brings it to a goal."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]
# Metres along x and y by which each of two motors moves it in a step: neither points along x or y.
MOTORS = np.array([[-0.03, 0.03], [-0.03, -0.03]])


class Courier(gymnasium.Env[Numbers, Numbers]):
    """Observed: where hand, parcel, goal and gap are, how far the fingers are closed, whether they hold."""

    def __init__(self, wall: bool = False) -> None:
        self.wall = wall  # along x = 0, open only for 0.15 m on either side of the gap
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (10,), np.float32)
        # Two motors; fingers: 1 closes them, -1 opens them.
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Numbers, dict[str, Any]]:
        """Draw where everything is."""
        super().reset(seed=seed)
        self.hand, self.parcel, self.goal = self.np_random.uniform(-0.9, 0.9, (3, 2))
        self.gap = np.array([0.0, self.np_random.uniform(-0.7, 0.7)])
        if self.wall:  # hand and parcel begin to the left of it, and the goal is to the right
            self.hand[0], self.parcel[0] = self.np_random.uniform(-0.9, -0.2, 2)
            self.goal[0] = self.np_random.uniform(0.2, 0.9)
        self.closed, self.holds = 0.0, False
        return self._seen(), {}

    def step(self, action: Numbers) -> tuple[Numbers, float, bool, bool, dict[str, Any]]:
        """Drive and move the fingers; the reward is 1 when the parcel is left at the goal, and 0 else."""
        action = np.clip(action, -1.0, 1.0)
        to = np.clip(self.hand + MOTORS @ action[:2], -1.0, 1.0)
        if self.wall and (to[0] > 0.0) != (self.hand[0] > 0.0) and abs(to[1] - self.gap[1]) > 0.15:
            to[0] = self.hand[0]
        before, self.hand = self.closed, to
        self.closed = float(np.clip(self.closed + 0.2 * action[2], 0.0, 1.0))
        taken = before < 0.5 <= self.closed and np.linalg.norm(self.hand - self.parcel) < 0.05
        self.holds = bool(self.closed >= 0.5 and (self.holds or taken))
        if self.holds:
            self.parcel = self.hand.copy()
        solved = bool(np.linalg.norm(self.parcel - self.goal) < 0.05 and not self.holds)
        return self._seen(), float(solved), solved, False, {"is_success": solved}

    def _seen(self) -> Numbers:
        fingers = [self.closed, self.holds]
        return np.concatenate([self.hand, self.parcel, self.goal, self.gap, fingers], dtype=np.float32)
