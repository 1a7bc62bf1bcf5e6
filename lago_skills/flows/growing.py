"""Growth as a Prefect flow: a task run for each task that the library grows by, tables of what came of it, and a form where a version waits for a person."""

# Prefect's decorators lose the types of what they wrap.
# pyright: reportUntypedFunctionDecorator=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

# Types are not postponed here: Prefect reads them where it loads a flow by the path of its file.
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow, tags, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.logging import get_run_logger
from pydantic import Field

from lago_skills.errors import ApprovalNeeded
from lago_skills.flows import shown
from lago_skills.flows.cancelling import interrupted_if_cancelled
from lago_skills.flows.stages import Root, Rows, StudyName, run_name, with_descriptions
from lago_skills.grow.settings import Settings
from lago_skills.grow.steps import Intake, grown, tasks_named
from lago_skills.grow.versions import Version, Versions
from lago_skills.stages.workspace import Workspace, exclusive, open_workspace
from lago_skills.study import study_path

POLL_S = 2


class HeldVersion(RunInput):
    """The form that a person fills in where a version is held, or the `run_input` of a request to resume the run."""

    verdict: Literal["use", "leave"]
    by: str = Field(min_length=1, description="Who decides")


@flow(
    name="grow",
    description="A built library takes in tasks, one after the other: their plans, episodes of them, what is learned online; each makes a version.",
    flow_run_name=run_name,
)
@with_descriptions
def grow(
    study: StudyName,
    tasks: Annotated[
        list[str], Field(min_length=1, description="Ids or sentences, in the order in which they are taken in")
    ],
    root: Root = Path(),
    data: Annotated[list[Path], Field(description="Files of episodes, of the one task")] = [],  # noqa: B006
    from_runs: Annotated[bool, Field(description="Take in what finished training runs have learned to do")] = False,
    learn: Annotated[
        int, Field(ge=0, description="Environment steps in which each task is learned online; 0: none")
    ] = 0,
    margin: Annotated[float, Field(ge=0, le=1, description="By so much an old task may do worse")] = 0.05,
    wait_s: Annotated[
        float,
        Field(
            ge=0,
            description="Seconds that a version which is held waits for a person; 0: it stays held, and the run goes on",
        ),
    ] = 0.0,
) -> Rows:
    """A built library takes in tasks, one after the other; returns a row for each version.

    Raises:
        LagoError: what is wrong; the version before stays in use.
        ApprovalNeeded: a version was held, and nobody decided in time.
    """
    root = root.resolve()
    space = open_workspace(root, study_path(study, root).resolve())
    intake = Intake(tuple(data), from_runs=from_runs, learn=learn, settings=Settings(margin=margin))
    rows: Rows = []
    with tags(space.study.name, "grow"), interrupted_if_cancelled(), shown.failures(space.study.name, "grow"):
        for one in tasks_named(space, tasks):
            for version in _grown_as_task(space, one.id, intake):
                rows.append(_row(version))
                if version.verdict == "held" and wait_s:
                    rows[-1]["verdict"] = _decided(space, version, wait_s)
            with shown.at_best():
                create_table_artifact(
                    rows, shown.key(space.study.name, "grow"), f"Versions of study {space.study.name}"
                )
    return rows


def _grown_as_task(space: Workspace, name: str, intake: Intake) -> list[Version]:
    @task(name="grow", task_run_name="grow: {name}", cache_policy=NO_CACHE, persist_result=False)
    def work(name: str) -> list[Version]:
        logger = get_run_logger()
        with exclusive(space):
            return grown(space, tasks_named(space, [name])[0], intake, logger.info)

    return work(name)


def _row(version: Version) -> dict[str, Any]:
    names = ("number", "task", "verdict", "success", "skills", "refreshed", "seconds", "reason")
    return {name: version.growth.get(name) for name in names}


def _decided(space: Workspace, version: Version, wait_s: float) -> str:
    """Ask a person whether a version that is held is used all the same."""
    study, reason = space.study.name, version.growth["reason"]
    form = HeldVersion.with_initial_data(
        description=f"Use version {version.number} of study `{study}` all the same? It is held: {reason}."
    )
    try:
        answer = pause_flow_run(
            wait_for_input=form, timeout=round(wait_s), poll_interval=POLL_S, key=f"held-{study}-{version.number}"
        )
    except FlowPauseTimeout as error:
        raise ApprovalNeeded(
            f"version {version.number} of study {study!r} is held ({reason}) and nobody decided within {wait_s:g} s; expected a decision; use it with: "
            f"lago grow {space.argument} --use {version.number}"
        ) from error
    if answer.verdict == "leave":
        return f"left by {answer.by}"
    with exclusive(space):
        Versions(space.artifact("grown")).use(version.number)
    return f"used by {answer.by}"
