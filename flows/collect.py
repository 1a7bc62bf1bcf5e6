"""The collect stage as a Prefect flow."""

# Prefect's decorators lose the types of what they wrap.
# pyright: reportUntypedFunctionDecorator=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows.run import stage_body


@flow(name="collect", task_runner=ThreadPoolTaskRunner(max_workers=64), validate_parameters=False)
def collect(study_file: str, root: str = ".") -> list[dict[str, Any]]:
    """Collect demonstrations of the training tasks."""
    return stage_body(root, study_file, "collect")
