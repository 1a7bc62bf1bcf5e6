"""All stages in the order of the pipeline."""

from __future__ import annotations

from collections.abc import Callable

from lago_skills.stages import build, collect, evaluate, plan, pretrain, report, segment, train
from lago_skills.stages.job import Job, Workspace

STAGES: dict[str, Callable[[Workspace], list[Job]]] = {
    "collect": collect.jobs,
    "plan": plan.jobs,
    "segment": segment.jobs,
    "pretrain": pretrain.jobs,
    "build": build.jobs,
    "evaluate": evaluate.jobs,
    "train": train.jobs,
    "report": report.jobs,
}
"""A stage's jobs can be listed only when the stages before it are done: recipes name inputs by digest."""


def first_unfinished(space: Workspace) -> str | None:
    """The first stage with work to do, or None when the study is finished.

    Raises:
        ArtifactCorrupt: a finished artifact is damaged.
    """
    for stage, jobs in STAGES.items():
        if not all(job.done for job in jobs(space)):
            return stage
    return None
