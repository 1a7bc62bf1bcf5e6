"""One environment of a problem as learners and evaluation meet it: canonical spaces, episodes judged by the declared rule, nothing else in its infos."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

import gymnasium

from lago_skills.worlds.gym.env import adapted, as_number
from lago_skills.worlds.success import EpisodeSoFar, Judge


class Judged(gymnasium.Wrapper[Any, Any, Any, Any]):
    """`info["success"]` says whether the episode has been solved so far; the environment's own infos, which may be anything, stay inside.

    Args:
        env: any environment whose spaces leave nothing to guess.
        success: whether the task is solved at the last step of an episode so far.
        horizon_steps: episodes are truncated after so many steps; None leaves that to the environment.
        ends_at_success: whether the first success terminates an episode.
        success_at_end: whether `info["success"]` says if the task is solved at this very step, which is then the reward too, and success ends no episode.

    Raises:
        StudyError: observations that are a dictionary or an image, or actions that are neither a bounded Box nor Discrete.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        success: Judge,
        horizon_steps: int | None = None,
        *,
        ends_at_success: bool = False,
        success_at_end: bool = False,
    ) -> None:
        super().__init__(adapted(env))
        self._success, self._horizon_steps, self._ends = success, horizon_steps, ends_at_success
        self._at_end = success_at_end
        self._so_far, self._solved = EpisodeSoFar(), False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._so_far, self._solved = EpisodeSoFar(), False
        return self.env.reset(seed=seed, options=options)[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One control step, judged.

        Raises:
            StudyError: the rule looks at what the environment does not show.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        late = self._horizon_steps is not None and len(self._so_far.rewards) + 1 >= self._horizon_steps
        truncated = bool(truncated) or (late and not terminated)
        number = as_number(reward)
        self._so_far.add(number, info, terminated=bool(terminated), truncated=truncated)
        solved = self._success(self._so_far)
        if self._at_end:
            return observation, float(solved), bool(terminated) and not solved, truncated or late, {"success": solved}
        self._solved = self._solved or solved
        terminated = bool(terminated) or (self._solved and self._ends)
        return observation, number, terminated, truncated, {"success": self._solved}


class Borrowed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The one instance there is: it stays open when a borrower is done with it."""

    def close(self) -> None:
        """Give it back."""
