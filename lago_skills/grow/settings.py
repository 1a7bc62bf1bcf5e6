"""How growth decides."""

from __future__ import annotations

from dataclasses import dataclass

from lago_skills.grow.refresh import Refresh


@dataclass(frozen=True)
class Settings:
    """What is played, and what follows from it."""

    margin: float = 0.05
    """An old task may do worse by so much, in success shares, before the version is held for a person."""
    episodes: int = 10
    """Of each old task that is spot-checked, with each version; the new task has twice as many."""
    episodes_again: int = 100
    """Of a task that seems to fall by more than the margin, after a fifth of it: these count."""
    spot_tasks: int = 10
    """Of the old tasks that may be touched so many at most are played: first those that are known to fail in some episode, then those that changed most."""
    most_episodes: int = 200
    """Of a task that one step takes in, evenly from all that are given."""
    old_tasks: frozenset[str] | None = None
    """Ids of the tasks that count as old; all that have a plan, by default."""
    refresh: str = "auto"
    """Whether the decoder is trained: `auto` where it has something to learn (sentences that it has never seen done, or a task that it does not do well enough), `always`,
    `never`."""
    enough: float = 0.95
    """Success of the library as it is from which on known sentences have nothing to teach its decoder."""
    ways: tuple[Refresh, ...] = ("onward", "anew")
    """How the decoder is trained: the next way is tried where the version of the one before would be held, or does the task in less than `enough` of its episodes."""

    @property
    def spot_rounds(self) -> tuple[int, ...]:
        """Episodes of a spot check, and of those that follow where a task seems to fall."""
        return (self.episodes, *(n for n in (self.episodes_again // 5, self.episodes_again) if n > self.episodes))
