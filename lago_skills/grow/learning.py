"""What a library's advice leads to online: a guided learner's successful episodes are what the library grows from next."""

from __future__ import annotations

from contextlib import closing

from lago_skills.core import Task
from lago_skills.errors import DataError
from lago_skills.grow.growth import Say
from lago_skills.grow.sources import Source
from lago_skills.grow.versions import Version
from lago_skills.guide.bundle import load_bundle
from lago_skills.stages import train
from lago_skills.stages.workspace import Workspace


def learned(space: Workspace, task: Task, version: Version, n_steps: int, say: Say) -> Source:
    """Train online on a task with the advice of a version, by the study's settings; returns the episodes that succeeded.

    Args:
        space: the study.
        task: which the version has a plan of.
        version: that advises.
        n_steps: of the environment.
        say: hears how it goes.

    Raises:
        DataError: nothing succeeded.
    """
    from lago_skills.rl.loop import train as train_online
    from lago_skills.rl.world_problem import world_problem

    study = space.study
    algorithm = "guided-ppo" if study.grounding.action_space.discrete else "guided-sac"
    config = train.learner_config(study.train, algorithm)
    config = config.model_copy(update={"n_steps": n_steps, "eval_every": min(config.eval_every, n_steps)})
    guide = load_bundle(version.folder, grounding=study.grounding)
    with closing(guide.library):
        problem = world_problem(study.load_world(), [task], study.grounding, guide, study.seed)
        result = train_online(problem, config, study.seed)
    name = f"{algorithm}, {n_steps} steps with version {version.number}"
    last = result.curve[-1].get("eval/success", float("nan"))
    say(
        f"{name}: success {last:.2f}, led by the {result.leader}; {len(result.harvested)} episodes succeeded on the way"
    )
    if not result.harvested:
        raise DataError(
            f"task {task.id!r}: found no success in {n_steps} steps of guided learning; expected some to grow by; learn for longer, or explore first (train.explore_steps, "
            "lago train) and grow by its runs (--from-runs)"
        )
    return Source(name, list(result.harvested), online=True)
