"""All stages in the order of the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import Manifest
from lago_skills.errors import ArtifactMissing, StudyError
from lago_skills.report import study_page as report
from lago_skills.stages import build, collect, evaluate, plan, pretrain, segment, train
from lago_skills.stages.job import Job
from lago_skills.stages.workspace import Workspace, open_workspace

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


JUDGED = ("collect", "evaluate", "train")
"""Stages in which somebody has to say when a task is solved."""
INDEPENDENT = ("collect", "plan")
"""Stages that need no other; each of the rest needs all before it."""


AT_HOME = ("plan", "segment", "build", "report")
"""Stages that are made where the project is, whoever the workers are: they take seconds, and `build` is the one writer of the skill library."""


def stays_home(space: Workspace, stage: str) -> bool:
    """Whether a stage is made where the project is: so is a collection from files, which lie there."""
    return stage in AT_HOME or (stage == "collect" and bool(space.study.data))


def inputs_of(space: Workspace, stage: str) -> list[Path]:
    """The artifacts that a stage may read: those of all stages before it."""
    names = list(STAGES)
    return [job.folder for name in names[: names.index(stage)] for job in STAGES[name](space)]


def require_earlier(space: Workspace, stage: str) -> None:
    """Refuse to build a stage on artifacts that are missing or were made from another form of the study.

    Raises:
        ArtifactMissing: naming the first earlier stage that has work to do.
        ArtifactCorrupt: a finished artifact is damaged.
    """
    if stage in INDEPENDENT:
        return
    unfinished = first_unfinished(space)
    names = list(STAGES)
    if unfinished is not None and names.index(unfinished) < names.index(stage):
        name = space.argument
        raise ArtifactMissing(
            f"stage {stage!r} needs the stages before it, and {unfinished!r} is not done for the study as it stands; "
            f"run: lago {unfinished} {name}, or all of them: lago run {name}"
        )


def require_success(space: Workspace, stages: Sequence[str]) -> None:
    """Refuse at once what demonstrating, evaluating or training would refuse after hours of work: a study without a rule of success.

    Raises:
        StudyError: nobody says when a task is solved; says what the environment shows.
    """
    study = space.study
    judged = {
        "collect": any(study.n_scripted(task) for task in study.seen),
        "evaluate": bool(study.tasks.unseen),
        "train": bool(study.train.tasks),
    }
    if any(judged.get(stage, False) for stage in stages):
        study.load_world().check_success()


def first_unfinished(space: Workspace) -> str | None:
    """The first stage with work to do, or None when the study is finished.

    Raises:
        ArtifactCorrupt: a finished artifact is damaged.
    """
    for stage, jobs in STAGES.items():
        if not all(job.done for job in jobs(space)):
            return stage
    return None


@dataclass(frozen=True)
class JobAddress:
    """Names a job so that another process can find and run it."""

    root: str
    study_file: str
    stage: str
    name: str

    def __str__(self) -> str:
        """For error messages."""
        return f"job {self.name!r} (stage {self.stage!r})"

    def at(self, root: Path) -> JobAddress:
        """The same job in a copy of the project."""
        file = Path(self.study_file).relative_to(self.root)
        return replace(self, root=str(root), study_file=str(root / file))

    def __call__(self, progress: Progress) -> Manifest:
        """Run the job.

        Raises:
            LagoError: what the job raised.
        """
        job = find_job(self)
        manifest = job.run(progress)
        progress(job.total, "")
        return manifest


def find_job(address: JobAddress) -> Job:
    """The job of that name.

    Raises:
        StudyError: the study has no such job.
    """
    space = open_workspace(Path(address.root), Path(address.study_file))
    for job in STAGES[address.stage](space):
        if job.name == address.name:
            return job
    raise StudyError(
        f"stage {address.stage!r} has no job {address.name!r}; expected one of the study's; check the study"
    )
