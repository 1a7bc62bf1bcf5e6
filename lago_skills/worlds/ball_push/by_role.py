"""Observations in which the balls that a goal names come first, so that what is learned of some balls holds for all.

The five balls are alike but for their colours. An observation with its goal may therefore number them in any order, and an action numbers them likewise. By roles, number 0 is the ball
that the first part that does not hold is about, number 1 its reference, and the others follow in the order of their colours.
"""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import Any, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lago_skills.worlds.ball_push.balls import N_BALLS, N_DIRECTIONS
from lago_skills.worlds.ball_push.observed import N_OBSERVED, reordered, roles


class ByRole(gymnasium.Wrapper[NDArray[np.float64], np.int64, NDArray[np.float64], np.int64]):
    """An environment with its goal in the observation, whose balls are numbered by the role that they have there.

    Actions are numbered as the latest observation has it.
    """

    def __init__(self, env: gymnasium.Env[NDArray[np.float64], np.int64]) -> None:
        super().__init__(env)
        shape = env.observation_space.shape
        if shape != (N_OBSERVED,):
            raise ValueError(
                f"found observations of shape {shape}; expected ({N_OBSERVED},), with the goal; make the environment with observe_goal=True"
            )
        self.order = np.arange(N_BALLS)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._renumbered(observation), info

    def step(self, action: Any) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """One push of the ball that has this number in the latest observation."""
        ball, direction = divmod(int(action), N_DIRECTIONS)
        if not 0 <= ball < N_BALLS:  # the environment says what is wrong with it
            return cast("Any", self.env.step(action))
        known = np.int64(N_DIRECTIONS * self.order[ball] + direction)
        observation, reward, terminated, truncated, info = self.env.step(known)
        return self._renumbered(observation), float(reward), terminated, truncated, info

    def _renumbered(self, observation: NDArray[np.float64]) -> NDArray[np.float64]:
        (self.order,) = roles(observation[None])
        return reordered(observation[None], self.order[None])[0]
