"""A courier in the plane fetches a parcel and brings it to a goal, with two motors that point neither along x nor along y."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]
MOTORS = np.array([[-0.03, 0.03], [-0.03, -0.03]])  # metres along x and y that a step moves by, for each motor


class Courier(gymnasium.Env[Numbers, Numbers]):
    """Where the hand, the parcel, the goal and the gap are, how far the fingers are closed, and whether they hold the parcel."""

    def __init__(self, wall: bool = False) -> None:
        self.wall = wall  # along x = 0, open only for 0.15 m on either side of the gap
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (10,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)  # two motors; fingers: 1 closes, -1 opens

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Numbers, dict[str, Any]]:
        """Draw where everything is."""
        super().reset(seed=seed)
        self.hand, self.parcel, self.goal = self.np_random.uniform(-0.9, 0.9, (3, 2))
        self.gap = np.array([0.0, self.np_random.uniform(-0.7, 0.7)])
        if self.wall:  # hand and parcel begin to the left of it, and the goal is to the right
            self.hand[0], self.parcel[0], self.goal[0] = self.np_random.uniform([-0.9, -0.9, 0.2], [-0.2, -0.2, 0.9])
        self.closed, self.holds = 0.0, False
        return self._seen(), {}

    def step(self, action: Numbers) -> tuple[Numbers, float, bool, bool, dict[str, Any]]:
        """Drive, open or close the fingers; the reward is 1 at the step that leaves the parcel at the goal, and 0 else."""
        action = np.clip(action, -1.0, 1.0)
        to = np.clip(self.hand + MOTORS @ action[:2], -1.0, 1.0)
        if self.wall and (to[0] > 0.0) != (self.hand[0] > 0.0) and abs(to[1] - self.gap[1]) > 0.15:
            to[0] = self.hand[0]
        before, self.hand, self.closed = self.closed, to, float(np.clip(self.closed + 0.2 * action[2], 0.0, 1.0))
        taken = before < 0.5 <= self.closed and np.linalg.norm(self.hand - self.parcel) < 0.05
        self.holds = bool(self.closed >= 0.5 and (self.holds or taken))
        if self.holds:
            self.parcel = self.hand.copy()
        solved = bool(np.linalg.norm(self.parcel - self.goal) < 0.05 and not self.holds)
        return self._seen(), float(solved), solved, False, {"is_success": solved}

    def _seen(self) -> Numbers:
        return np.concatenate(
            [self.hand, self.parcel, self.goal, self.gap, [self.closed, self.holds]], dtype=np.float32
        )
