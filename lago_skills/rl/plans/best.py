"""The plan that was found worth following, and the file of it: a run that is cut goes on without trying and searching again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lago_skills.artifacts.folder import fingerprint, is_current, sweep, writing
from lago_skills.core import Episode
from lago_skills.data.episodes import load_episodes, save_episodes
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.portfolio import PlanOfTask
from lago_skills.playbook import read_playbook, write_playbook
from lago_skills.rl.guidance.advisers import AnyGuide
from lago_skills.rl.plans.search import SearchedPlan
from lago_skills.rl.plans.trial import PlanTrial, TriedPlan

VALUES_FILE, TRIAL_FILE, SEARCH_FILE = "best.json", "trial.npz", "search.npz"


@dataclass(frozen=True)
class BestPlan:
    """A plan to follow, and what is known of the task by then."""

    name: str
    guide: AnyGuide | None
    """None where there is no plan."""
    trial: PlanTrial | None = None
    """None where there was nothing to choose from."""
    search: SearchedPlan | None = None
    """None where its numbers were not searched, or it has none."""

    @property
    def steps(self) -> int:
        """Environment steps that it took."""
        return (self.trial.steps if self.trial else 0) + (self.search.steps if self.search else 0)

    @property
    def n_starts(self) -> int:
        """Start states that were used, from the first of the problem on."""
        return (self.trial.n_episodes if self.trial else 0) + (self.search.n_starts if self.search else 0)

    @property
    def harvested(self) -> list[Episode]:
        """Successful episodes."""
        return [*(self.trial.harvested if self.trial else ()), *(self.search.harvested if self.search else ())]

    def summary(self) -> dict[str, Any]:
        """As plain values: `plan`, and where they were made `trial` and `search`."""
        searched = self.search
        return {
            "plan": self.name,
            **({"trial": self.trial.summary()} if self.trial else {}),
            **({"search": searched.summary()} if searched else {}),
        }


def save_best(best: BestPlan, task: str, folder: Path, recipe: dict[str, Any]) -> None:
    """Write what was found of a task as a folder of its own.

    Raises:
        DiskFull: there is no room.
    """
    trial, search = best.trial, best.search
    values: dict[str, Any] = {"plan": best.name}
    with writing(folder, "best plan", recipe) as writer:
        if trial is not None:
            values["trial"] = {
                "plans": [asdict(each) for each in trial.plans],
                "best": trial.best,
                "steps": trial.steps,
                "first_success": trial.first_success,
            }
        if search is not None:
            values["search"] = {
                "improved": search.improved,
                "steps": search.steps,
                "episodes": search.episodes,
                "n_starts": search.n_starts,
                "worth": list(search.worth),
                "first_success": search.first_success,
            }
            if search.improved:
                values["playbook"] = write_playbook(search.plan.guide.books[task])
        for name, part in ((TRIAL_FILE, trial), (SEARCH_FILE, search)):
            if part is not None and part.harvested:
                save_episodes(writer.path / name, [*part.harvested])
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
    episodes = {
        name: tuple(load_episodes(folder / name)) if (folder / name).exists() else ()
        for name in (TRIAL_FILE, SEARCH_FILE)
    }
    trial = search = None
    if "trial" in values:
        plans = tuple(TriedPlan(**each) for each in values["trial"].pop("plans"))
        trial = PlanTrial(plans=plans, harvested=episodes[TRIAL_FILE], **values["trial"])
    if "search" in values:
        assert isinstance(guide, LibraryGuide)  # nobody else's numbers are searched
        if "playbook" in values:
            book = read_playbook(values["playbook"], guide.grounding.vocabulary)
            guide = guide.with_steps(book, guide.step_latents[task])
        worth = tuple(values["search"].pop("worth"))
        followed = PlanOfTask(values["plan"], guide)
        search = SearchedPlan(followed, worth=worth, harvested=episodes[SEARCH_FILE], **values["search"])
    return BestPlan(values["plan"], guide, trial, search)
