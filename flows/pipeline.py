"""Every stage of a study, one after the other, as one Prefect flow."""

# Prefect's decorators lose the types of what they wrap.
# pyright: reportUntypedFunctionDecorator=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from prefect import flow

from flows.build_library import build_library
from flows.collect import collect
from flows.evaluate import evaluate
from flows.plan import plan
from flows.pretrain import pretrain
from flows.report import report
from flows.segment import segment
from flows.train import train

FLOWS = {
    "collect": collect,
    "plan": plan,
    "segment": segment,
    "pretrain": pretrain,
    "build": build_library,
    "evaluate": evaluate,
    "train": train,
    "report": report,
}


@flow(name="pipeline", validate_parameters=False)
def pipeline(study_file: str, root: str = ".", stages: list[str] | None = None) -> None:
    """Run the stages in order; finished artifacts are recognised by their manifests and kept."""
    for stage in stages or list(FLOWS):
        FLOWS[stage](study_file, root)
