"""The plan that was found worth following, and the file of it: a run that is cut goes on without trying and searching again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lago_skills.artifacts.folder import fingerprint, is_current, sweep, writing
from lago_skills.core import Episode
from lago_skills.data.episodes import load_episodes, save_episodes
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.portfolio import PlanOfTask
from lago_skills.playbook import read_playbook, write_playbook
from lago_skills.rl.guidance.advisers import AnyGuide
from lago_skills.rl.plans.exploration import ExploredPlan
from lago_skills.rl.plans.search import SearchedPlan
from lago_skills.rl.plans.trial import PlanTrial, TriedPlan

VALUES_FILE = "best.json"


@dataclass(frozen=True)
class BestPlan:
    """A plan to follow, and what is known of the task by then."""

    name: str
    guide: AnyGuide | None
    """None where there is no plan."""
    trial: PlanTrial | None = None
    """None where there was nothing to choose from."""
    exploration: ExploredPlan | None = None
    """None where something had succeeded, or there was nothing to vary."""
    search: SearchedPlan | None = None
    """None where its numbers were not searched, or it has none."""

    @property
    def parts(self) -> dict[str, PlanTrial | ExploredPlan | SearchedPlan]:
        """What was done, in its order, by name."""
        known = {"trial": self.trial, "exploration": self.exploration, "search": self.search}
        return {name: part for name, part in known.items() if part is not None}

    @property
    def steps(self) -> int:
        """Environment steps that it took."""
        return sum(part.steps for part in self.parts.values())

    @property
    def n_starts(self) -> int:
        """Start states that were used, from the first of the problem on."""
        return sum(part.n_starts for part in self.parts.values())

    @property
    def harvested(self) -> list[Episode]:
        """Successful episodes."""
        return [episode for part in self.parts.values() for episode in part.harvested]

    @property
    def first_success(self) -> int | None:
        """Number of the first successful episode, from 1; None where there was none."""
        before = 0
        for part in self.parts.values():
            if part.first_success is not None:
                return before + part.first_success
            before += part.episodes
        return None

    @property
    def episodes(self) -> int:
        """How many were played."""
        return sum(part.episodes for part in self.parts.values())

    @property
    def changed(self) -> LibraryGuide | None:
        """Who follows the plan, where it is none of those that the task had."""
        if self.search is not None and self.search.improved:
            return self.search.plan.guide
        explored = self.exploration
        return explored.plan.guide if explored is not None and explored.plan and explored.changes else None

    def summary(self) -> dict[str, Any]:
        """As plain values: `plan`, and where they were made `trial`, `exploration` and `search`."""
        return {"plan": self.name, **{name: part.summary() for name, part in self.parts.items()}}


def save_best(best: BestPlan, task: str, folder: Path, recipe: dict[str, Any]) -> None:
    """Write what was found of a task as a folder of its own.

    Raises:
        DiskFull: there is no room.
    """
    values: dict[str, Any] = {"plan": best.name}
    with writing(folder, "best plan", recipe) as writer:
        for name, part in best.parts.items():
            values[name] = part.record()
            if part.harvested:
                save_episodes(writer.path / f"{name}.npz", [*part.harvested])
        if best.changed is not None:
            values["playbook"] = write_playbook(best.changed.books[task])
        text = json.dumps(values, indent=1, ensure_ascii=False)
        (writer.path / VALUES_FILE).write_text(text + "\n", encoding="utf-8")


def load_best(guides: Mapping[str, AnyGuide], task: str, folder: Path, recipe: dict[str, Any]) -> BestPlan | None:
    """What `save_best` wrote for this very recipe; None where there is nothing, or something else.

    Args:
        guides: who follows each plan, by the plan's name.
        task: whose plans they are.
        folder: that it was written to.
        recipe: what the run is made from.

    Raises:
        ArtifactCorrupt: a file is damaged.
    """
    sweep(folder)
    if not is_current(folder, fingerprint(recipe)):
        return None
    values: dict[str, Any] = json.loads((folder / VALUES_FILE).read_text(encoding="utf-8"))
    guide = guides[values["plan"]]
    if "playbook" in values:
        assert isinstance(guide, LibraryGuide)  # nobody else's plan is varied
        guide = guide.with_steps(read_playbook(values["playbook"], guide.grounding.vocabulary))
    parts: dict[str, dict[str, Any]] = {
        name: values[name] | {"harvested": _episodes(folder / f"{name}.npz")}
        for name in ("trial", "exploration", "search")
        if name in values
    }
    trial = exploration = search = None
    if "trial" in parts:
        plans = tuple(TriedPlan(**each) for each in parts["trial"].pop("plans"))
        trial = PlanTrial(plans=plans, **parts["trial"])
    followed = PlanOfTask(values["plan"], guide) if isinstance(guide, LibraryGuide) else None
    if "exploration" in parts:
        improved = parts["exploration"].pop("improved")
        changes = tuple(parts["exploration"].pop("changes"))
        exploration = ExploredPlan(plan=followed if improved else None, changes=changes, **parts["exploration"])
    if "search" in parts:
        assert followed is not None
        search = SearchedPlan(followed, worth=tuple(parts["search"].pop("worth")), **parts["search"])
    return BestPlan(values["plan"], guide, trial, exploration, search)


def _episodes(path: Path) -> tuple[Episode, ...]:
    return tuple(load_episodes(path)) if path.exists() else ()
