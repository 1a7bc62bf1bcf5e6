"""A person's version of a playbook: checked, and recorded beside the model's answers, never instead of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lago_skills.errors import PlanError
from lago_skills.llm.transcripts import HUMAN, answered
from lago_skills.planner.ask import Plan
from lago_skills.playbook import playbook_json
from lago_skills.stages import plan
from lago_skills.stages.workspace import Workspace


def text_of(task_plan: Plan) -> str:
    """What there is to edit: the playbook in use, or the text of the last answer where none is valid."""
    parent = task_plan.chosen or task_plan.versions[-1]
    return playbook_json(parent.playbook) if parent.playbook else parent.transcript.response


def record_edit(space: Workspace, task: str, text: str, by: str = "") -> None:
    """Put a person's playbook of a task on record; it is the one in use from then on. `by` says who, where that is known.

    Raises:
        PlanError: no such task, or the text is no valid playbook; the text is kept in a file.
    """
    task_plan = plan.plan_of(task, plan.plans(space), space.study.name)
    parent = task_plan.chosen or task_plan.versions[-1]
    planner = plan.planner(space)
    source = f"edit of {parent.transcript.id}" + (f" by {by}" if by else "")
    edit = answered(task_plan.request, text, HUMAN, source, parent=parent.transcript.id)
    version = planner.version(edit, task_plan.task)
    if version.playbook is None:
        draft_path = Path(tempfile.gettempdir()) / f"{task_plan.task.id}.playbook.json"
        draft_path.write_text(text, encoding="utf-8")
        raise PlanError(
            f"the edited playbook of {task_plan.task.id!r} is not valid: "
            + "; ".join(finding.line() for finding in version.findings)
            + f"; expected a playbook; your text is kept in {draft_path}: correct it and run lago plan edit {task_plan.task.id} --file {draft_path}"
        )
    planner.transcripts.append(edit)
