"""One Prefect flow for each stage of a study; the work is in plain functions of `lago_skills.stages`."""

# Prefect's decorators lose the types of what they wrap.
# pyright: reportUntypedFunctionDecorator=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

# Types are not postponed here: Prefect reads them where it loads a flow by the path of its file.
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, get_type_hints

from prefect import flow, tags
from prefect.runtime import flow_run
from pydantic import Field

from lago_skills.artifacts.executor import Runner, RunnerName
from lago_skills.commands.stages import STAGES
from lago_skills.flows.running import run_as_tasks
from lago_skills.study.config import MAX_WORKERS

P = ParamSpec("P")
R = TypeVar("R")
StageName = Literal["collect", "plan", "segment", "pretrain", "build", "evaluate", "train", "report"]
StudyName = Annotated[str, Field(description="A study: its name (data/studies/NAME.toml), or the path of its file")]
Root = Annotated[Path, Field(description="Project folder, in which artifacts are made")]
RunnerKind = Annotated[RunnerName, Field(description="Where jobs run: processes of this machine, or a Dask cluster")]
NWorkers = Annotated[
    int | None, Field(ge=1, le=MAX_WORKERS, description="Jobs at the same time; empty: as many as the study says")
]
DaskAddress = Annotated[
    str | None, Field(description="Of a Dask scheduler; empty: a cluster of its own on this machine")
]
TimeLimit = Annotated[float | None, Field(gt=0, description="Seconds that one job may take; empty: no limit")]
StoreURL = Annotated[
    str | None,
    Field(
        description="Artifacts are shared with other machines through this place, such as s3://bucket/folder; empty: machines share the project folder"
    ),
]
Rows = list[dict[str, Any]]


def with_descriptions(function: Callable[P, R]) -> Callable[P, R]:
    """The function with its parameters' descriptions in its docstring, where Prefect's forms take them from."""
    hints = get_type_hints(function, include_extras=True)
    fields = {name: field for name, hint in hints.items() for field in getattr(hint, "__metadata__", ())}
    lines = [f"    {name}: {field.description}" for name, field in fields.items()]
    function.__doc__ = "\n".join([function.__doc__ or "", "", "Args:", *lines])
    return function


def run_name() -> str:
    """What a flow run is called: its study, and what is done."""
    return f"{Path(str(flow_run.parameters['study'])).stem}: {flow_run.flow_name}"


def _stage_flow(stage: StageName, about: str) -> Any:
    def body(
        study: StudyName,
        root: Root = Path(),
        runner: RunnerKind = "processes",
        workers: NWorkers = None,
        dask_address: DaskAddress = None,
        time_limit_s: TimeLimit = None,
        store: StoreURL = None,
    ) -> Rows:
        with tags(Path(study).stem, stage):
            return run_as_tasks(study, root, stage, Runner(runner, workers, dask_address, time_limit_s, store))

    body.__doc__ = about
    body.__name__ = body.__qualname__ = stage
    return flow(name=stage, description=about, flow_run_name=run_name)(with_descriptions(body))


collect = _stage_flow("collect", "Collect demonstrations of the training tasks.")
plan = _stage_flow("plan", "Turn recorded language-model answers into playbooks.")
segment = _stage_flow("segment", "Label the demonstrations by the playbooks and embed the skill sentences.")
pretrain = _stage_flow("pretrain", "Pretrain the decoder.")
build = _stage_flow("build", "Build the skill library and the bundle.")
evaluate = _stage_flow("evaluate", "Score the library alone on unseen tasks.")
train = _stage_flow("train", "Train online, guided and plain.")
report = _stage_flow("report", "Make the report: one page, and the table behind it.")
FLOWS: dict[str, Any] = dict(
    zip(STAGES, (collect, plan, segment, pretrain, build, evaluate, train, report), strict=True)
)
"""In the order of the pipeline."""
