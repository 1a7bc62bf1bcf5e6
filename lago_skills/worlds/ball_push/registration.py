"""Ball push, where Gymnasium finds it."""

# Gymnasium leaves a type of `register` open.
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from gymnasium.envs.registration import register, registry

from lago_skills.worlds.ball_push.balls import ENV_ID


def register_environments() -> None:
    """Make `gymnasium.make("lago/BallPush-v0")` work; a second time does nothing."""
    if ENV_ID not in registry:
        register(ENV_ID, entry_point="lago_skills.worlds.ball_push.env:BallPush")
