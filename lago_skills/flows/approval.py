"""Inside a deployment a run waits for a person's approval: Prefect's page shows what is new and a form, and `lago approve` and HTTP do as well."""

# Prefect's decorators lose the types of what they wrap.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from lago_skills.artifacts.folder import write_text
from lago_skills.commands.approve import WAITING_FILE
from lago_skills.commands.stage_run import run_here, say
from lago_skills.errors import ApprovalNeeded, ApprovalOutdated
from lago_skills.flows.shown import key
from lago_skills.stages import approval
from lago_skills.stages.approval import Held, Verdict
from lago_skills.stages.workspace import Workspace

POLL_S = 5


class Answer(RunInput):
    """The form that a person fills in, or the `run_input` of a request to resume the run."""

    verdict: Verdict
    by: str = Field(min_length=1, description="Who decides")
    comment: str = ""
    digest: str = Field(default="", description="The beginning of what was looked at; empty: what this page shows")
    playbooks: dict[str, Any] = Field(
        default_factory=dict,
        description="Other playbooks to use instead, JSON by task; they are put on record, and used",
    )


def wait_for_approval(space: Workspace, stage: str) -> None:
    """Wait until everything that a stage is about to use for the first time has been approved.

    Raises:
        ApprovalNeeded: it was rejected, or nobody decided in time; nothing new was used.
    """
    for what in space.study.approve:
        if stage not in approval.USED_BY[what]:
            continue
        while (waiting := approval.held(space, what)) is not None:
            if waiting.rejected is not None:
                raise approval.needed(space, waiting)
            _decide(space, waiting, _ask(space, waiting))


def _ask(space: Workspace, waiting: Held) -> Answer:
    text = f"```diff\n{waiting.text()}\n```"
    create_markdown_artifact(
        text, key(space.study.name, waiting.what, "approval"), f"New {waiting.what} wait for approval"
    )
    form = Answer.with_initial_data(description=f"Use these {waiting.what} of study `{space.study.name}`?\n\n{text}")
    say(f"{waiting.what} {waiting.digest[:12]} wait for approval: lago approve {space.argument}")
    with _reachable(space):
        try:
            return pause_flow_run(
                wait_for_input=form,
                timeout=round(space.study.approve_within_s),
                poll_interval=POLL_S,
                key=f"{waiting.what}-{waiting.digest[:12]}-{os.urandom(2).hex()}",
            )
        except FlowPauseTimeout as error:
            raise ApprovalNeeded(
                f"{approval.needed(space, waiting)}; nobody decided within {space.study.approve_within_s:g} s"
            ) from error


@contextmanager
def _reachable(space: Workspace) -> Generator[None]:
    """Say where this run hears of a decision, for `lago approve`."""
    path = space.artifact(WAITING_FILE)
    write_text(
        path, json.dumps({"resume": f"{os.environ.get('PREFECT_API_URL')}/flow_runs/{flow_run.get_id()}/resume"})
    )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _decide(space: Workspace, waiting: Held, answer: Answer) -> None:
    """Put an answer on record; that of `lago approve` is there already."""
    if approval.held(space, waiting.what) != waiting:
        return  # decided, or changed, meanwhile: it is looked at again
    if answer.playbooks:
        from lago_skills.stages.plan_edits import record_edit

        for task, book in answer.playbooks.items():
            record_edit(space, task, json.dumps(book, indent=1), answer.by)
        run_here(space, "plan")
        edited = approval.held(space, waiting.what)
        if edited is None:
            return
        waiting = edited  # whoever edited them has seen them
    try:
        approval.decide(
            space,
            waiting,
            answer.verdict,
            answer.by,
            answer.comment,
            None if answer.playbooks else answer.digest or None,
        )
    except ApprovalOutdated as error:
        say(str(error))
