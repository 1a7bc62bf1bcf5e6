"""Whether a new version may be used: what it changed, how the old tasks do that this may touch, and what follows from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lago_skills.core import Task
from lago_skills.grow.comparing import CHANGED_ACTIONS, Outcomes, Spots, touched
from lago_skills.grow.settings import Settings
from lago_skills.grow.versions import Verdict
from lago_skills.guide.guides import LibraryGuide
from lago_skills.worlds.world import World


@dataclass(frozen=True)
class Judgement:
    """Of a new version."""

    growth: dict[str, Any]
    """What `growth.json` says of it: what changed, how the old tasks do that it may touch, the verdict and its reason."""
    before: Outcomes
    """What is known by now of the version in use."""


def to_play(amounts: Mapping[str, float], before: Outcomes, settings: Settings) -> list[str]:
    """Which of the tasks that may be touched are played.

    Args:
        amounts: by how much each has changed, falling.
        before: outcomes of the version in use that are known.
        settings: how many, and which tasks are old.
    """
    old = [each for each in amounts if settings.old_tasks is None or each in settings.old_tasks]
    return sorted(old, key=lambda each: "0" not in before.get(each, ""))[: settings.spot_tasks]


def judged(
    world: World,
    before: Outcomes,
    guides: tuple[LibraryGuide, LibraryGuide],
    by_skill: Mapping[str, float],
    task: Task | None,
    settings: Settings,
    say: Callable[[str], None],
) -> Judgement:
    """What changed, how the old tasks do that it may touch, and the verdict.

    Args:
        world: of the tasks.
        before: outcomes of the version in use that are known.
        guides: of that version, and of the new one.
        by_skill: how much what each old skill does has changed, by sentence.
        task: that the library grows by, if it does by one.
        settings: how it is decided.
        say: hears what is done.
    """
    amounts = touched(*guides, by_skill)
    own = "" if task is None else task.id
    amounts.pop(own, None)
    played = to_play(amounts, before, settings)
    changed = {sentence: round(value, 4) for sentence, value in by_skill.items() if value > CHANGED_ACTIONS}
    say(
        f"{len(changed)} of {len(by_skill)} skills changed; {len(amounts)} old tasks may be touched by that, {len(played)} of them are played"
    )
    spots = Spots(world, *guides, before, say)
    rows = spots.check(world.find(played), settings.margin, settings.spot_rounds)
    known: dict[str, Any] = {}
    if task is not None:
        known = {"success": spots.success(task, 2 * settings.episodes), "episodes": 2 * settings.episodes}
        say(f"{task.id}: {known['success']:.2f} of {known['episodes']} episodes, the library alone")
    fallen = [spot for spot in rows if spot.fall > settings.margin + 1e-9]
    verdict: Verdict = "held" if fallen else "accepted"
    unchanged = {each: outcomes for each, outcomes in spots.outcomes[0].items() if each not in amounts and each != own}
    growth = {
        "changed": dict(sorted(changed.items())),
        "touched": {each: round(amount, 4) for each, amount in amounts.items()},
        "spots": [asdict(spot) | {"fall": round(spot.fall, 4)} for spot in rows],
        "outcomes": unchanged | spots.outcomes[1],
        **known,
        "verdict": verdict,
        "reason": "; ".join(f"{spot.task} falls from {spot.before:.2f} to {spot.after:.2f}" for spot in fallen),
    }
    return Judgement(growth, spots.outcomes[0])
