"""What a library's advice leads to online: a guided learner's successful episodes are what the library grows from next.

plans of a task tried -> guided learning by the best -> the quickest successes -> growth by them; where no way of training is good for the old tasks, without training
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from lago_skills.core import Playbook, Task
from lago_skills.errors import DataError, StudyError
from lago_skills.grow import material
from lago_skills.grow.comparing import Spots
from lago_skills.grow.growth import Growth
from lago_skills.grow.making import guide_of
from lago_skills.grow.settings import Settings
from lago_skills.grow.sources import Source, quickest
from lago_skills.grow.versions import Version, Versions
from lago_skills.guide.bundle import load_bundle
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.portfolio import PlanOfTask, portfolio
from lago_skills.stages import train
from lago_skills.stages.workspace import Workspace


@dataclass(frozen=True)
class Learned:
    """What came of learning a task online."""

    source: Source
    """The quickest of the episodes that succeeded."""
    lead: Playbook
    """The plan that was followed."""
    curve: tuple[tuple[int, float], ...]
    """Environment steps and success at each evaluation, whoever led."""


def learned(
    space: Workspace, task: Task, version: Version, n_steps: int, most_episodes: int, say: Callable[[str], None]
) -> Learned:
    """Train online on a task with the advice of a version, by the study's settings: its plans are tried first, where there are several.

    Args:
        space: the study.
        task: which the version has a plan of.
        version: that advises.
        n_steps: of the environment, those of trial, exploration and search among them.
        most_episodes: of those that succeeded, the quickest so many are the source.
        say: hears how it goes.

    Raises:
        DataError: nothing succeeded.
    """
    from lago_skills.rl.plans.training import train_by_best_plan
    from lago_skills.rl.world_problem import world_problem

    study, settings = space.study, space.study.train
    algorithm = "guided-ppo" if study.grounding.action_space.discrete else "guided-sac"
    config = train.learner_config(settings, algorithm)
    config = config.model_copy(update={"n_steps": n_steps, "eval_every": min(config.eval_every, n_steps)})
    guide = load_bundle(version.folder, grounding=study.grounding)
    with closing(guide.library):
        trained = train_by_best_plan(
            lambda chosen: world_problem(study.load_world(), [task], study.grounding, chosen, study.seed),
            {plan.name: plan.guide for plan in _plans(guide, task, version)},
            config,
            study.seed,
            trial_episodes=settings.trial_episodes,
            explore_steps=settings.explore_steps,
            search_steps=settings.search_steps,
        )
    result, best = trained.result, trained.best
    name = f"{algorithm}, {n_steps} steps with version {version.number}"
    last = result.curve[-1].get("eval/success", float("nan"))
    say(
        f"{name}: success {last:.2f}, led by the {result.leader} on plan {best.name}; {len(result.harvested)} episodes succeeded on the way"
    )
    if not result.harvested:
        raise DataError(
            f"task {task.id!r}: found no success in {n_steps} steps of guided learning; expected some to grow by; learn for longer, or explore first (train.explore_steps, "
            "lago train) and grow by its runs (--from-runs)"
        )
    assert isinstance(best.guide, LibraryGuide)
    curve = tuple((int(row["step"]), float(row["eval/success"])) for row in result.curve if "eval/success" in row)
    source = Source(name, quickest(result.harvested, most_episodes), online=True)
    return Learned(source, best.guide.books[task.id], curve)


def _plans(guide: LibraryGuide, task: Task, version: Version) -> tuple[PlanOfTask, ...]:
    """The plans that may be followed: all, until there are episodes that are labelled by one of them."""
    plans = portfolio(task.id, {version.folder.name: guide})
    return plans[:1] if material.has_episodes(version.folder, task.id) else plans


def better_plan(
    space: Workspace, task: Task, version: Version, other: Playbook, settings: Settings, say: Callable[[str], None]
) -> Playbook:
    """The plan that a task has, unless the other one does better in spot-check episodes: a trial of few episodes among many plans may have come to a worse one.

    Args:
        space: the study.
        task: which the version has a plan of.
        version: in use.
        other: a plan of the task.
        settings: how many episodes are played.
        say: hears how it goes.
    """
    shown = material.load(version.folder, space.study)
    own, n_episodes = shown.books[task.id], 2 * settings.episodes
    if own == other:
        return own
    guide = load_bundle(version.folder, grounding=space.study.grounding)
    with closing(guide.library):
        following = guide_of(space, guide.decoder, guide.library, material.led_by(shown, other))
        spots = Spots(space.world, guide, following, version.outcomes, say)
        (spot,) = spots.check([task], settings.margin, [n_episodes])
    if spot.after > spot.before:
        return other
    say(f"{task.id}: the plan that the trial came to does no better than the task's own, which stays")
    return own


def grown_by_learning(
    space: Workspace, task: Task, online: Learned, settings: Settings, say: Callable[[str], None]
) -> Version:
    """Grow by what was learned online. Where old tasks do worse with the only way of training that may be tried, one more version is made that leaves the decoder as it is.

    Where no episode does what its plan says, the plan that was followed still becomes the task's, if it does better than the task's own.

    Raises:
        DataError: so it is, and the plan is the task's already.
        StudyError: there is nothing new.
    """
    current = Versions(space.artifact("grown")).current
    assert current is not None  # it advised
    online = replace(online, lead=better_plan(space, task, current, online.lead, settings, say))
    try:
        version = Growth(space, task, settings, say).run([online.source], online.lead)
    except DataError as error:
        say(f"no episode is taken in: {error}")
        try:
            return Growth(space, task, settings, say).run([], online.lead)
        except StudyError:
            raise error from None
    tried = len(settings.ways) > 1  # the decoder as it was, among others
    if version.verdict != "held" or settings.refresh == "never" or tried:
        return version
    say(f"version {version.number} is held ({version.growth['reason']}); made again with the decoder as it was")
    return Growth(space, task, replace(settings, refresh="never"), say).run([online.source], online.lead)
