"""Every stage of a study, one after the other, as one Prefect flow."""

# Prefect's decorators lose the types of what they wrap.
# pyright: reportUntypedFunctionDecorator=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

# Types are not postponed here: Prefect reads them where it loads a flow by the path of its file.
from pathlib import Path
from typing import Annotated

from prefect import flow, tags
from pydantic import Field

from lago_skills.flows.stages import (
    FLOWS,
    DaskAddress,
    NWorkers,
    Root,
    RunnerKind,
    StageName,
    StoreURL,
    StudyName,
    TimeLimit,
    run_name,
    with_descriptions,
)


@flow(
    name="pipeline",
    description="Run the stages of a study in order; finished artifacts are recognised by their manifests and kept.",
    flow_run_name=run_name,
)
@with_descriptions
def pipeline(
    study: StudyName,
    root: Root = Path(),
    stages: Annotated[list[StageName] | None, Field(description="In the order of the pipeline; empty: all")] = None,
    runner: RunnerKind = "processes",
    workers: NWorkers = None,
    dask_address: DaskAddress = None,
    time_limit_s: TimeLimit = None,
    store: StoreURL = None,
) -> None:
    """Run the stages of a study in order; finished artifacts are recognised by their manifests and kept."""
    with tags(Path(study).stem):
        for stage in stages or list(FLOWS):
            FLOWS[stage](study, root, runner, workers, dask_address, time_limit_s, store)
