"""Online reinforcement learning: guided and plain, the same code with guidance switched off.

from lago_skills.rl import Problem, SACConfig, train

`train` is the one door: the algorithm is that of the settings, `SACConfig` or `PPOConfig`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lago_skills.rl.config import PPOConfig, SACConfig
    from lago_skills.rl.loop import TrainResult, train
    from lago_skills.rl.policy import greedy_policy
    from lago_skills.rl.problem import Problem

__all__ = ["Problem", "SACConfig", "PPOConfig", "train", "TrainResult", "greedy_policy"]
_MODULES = {"Problem": "problem", "SACConfig": "config", "PPOConfig": "config", "greedy_policy": "policy"}


def __getattr__(name: str) -> Any:
    """Import on first use: who only reads settings waits for no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'loop')}"), name)
