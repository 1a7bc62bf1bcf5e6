"""`lago plan STUDY`: replay, ask, export and import answers; the table of a study's playbooks."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from lago_skills.commands import plan_asking
from lago_skills.commands.plan_actions import playbook_command
from lago_skills.commands.terminal import print_table
from lago_skills.core import Task
from lago_skills.errors import EndpointError, LagoError, PlanError
from lago_skills.planner.ask import Plan, Planner
from lago_skills.stages import plan
from lago_skills.stages.planning import measured_motions
from lago_skills.stages.workspace import Workspace
from lago_skills.study import Study
from lago_skills.worlds import DEFAULT

ACTIONS = ("show", "edit", "lint", "find", "adopt")
DEFAULT_STUDY = DEFAULT
Asked = tuple[tuple[Task, ...], tuple[Task, ...]]
"""Tasks that are asked for a playbook: those that are demonstrated, and the others."""
CHARS_PER_TOKEN = 4.0
"""For exchanges whose tokens nobody counted."""


def plan_command(
    space: Workspace, options: argparse.Namespace, run_stages: Callable[[Workspace, Sequence[str]], None]
) -> None:
    """Do what the options of `lago plan` say.

    Raises:
        TranscriptMissing: an answer has not been recorded (replay).
        PlanError: an answer, a responses file or an option is not valid.
        EndpointError: a live endpoint refused or did not answer.
    """
    if options.action is not None:
        playbook_command(space, options)
    elif options.export is not None:
        plan_asking.export(space, options)
    elif options.import_ is not None:
        plan_asking.import_answers(space, options)
    elif options.check:
        plan_asking.check(space, options)
    elif options.unpaid:
        plan_asking.forget_unpaid(space)
    elif options.scenes:
        _scenes(space)
    elif options.segments and not options.live:
        measured_motions.measure(space, _say, again=True)
    elif options.prompt is not None:
        _prompt(plan.planner(space), _tasks(space.study), options.prompt)
    else:
        _replay(space, options, run_stages)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _tell(text: str) -> None:
    print(text)  # noqa: T201


# A study's playbooks -------------------------------------------------------------------------------------------------


def _replay(
    space: Workspace, options: argparse.Namespace, run_stages: Callable[[Workspace, Sequence[str]], None]
) -> None:
    failed: list[str] = []
    if options.live:
        failed = plan_asking.ask_all(space, options)
    problems = _problems(space) + (plan_asking.wordings_problems(space) if options.wordings else [])
    if not problems:
        run_stages(space, ["plan"])
    rows, summary = rows_of(space)
    if options.json:
        _tell(json.dumps({"rows": rows, "summary": {**summary, "problems": problems}}))
    else:
        _print_table(rows, summary)
    if failed:  # that nothing is recorded for these follows from it
        raise EndpointError(" | ".join(failed))
    if problems:
        raise PlanError(" | ".join(problems))


def _problems(space: Workspace) -> list[str]:
    """Why tasks have no playbook: one sentence for each, or one for all whose answers are merely missing."""
    planner = plan.planner(space)
    tasks = _tasks(space.study)
    known = planner.plans(*tasks)
    problems: list[str] = []
    for task_plan in known.values():
        if task_plan.versions and task_plan.chosen is None:
            try:
                if task_plan.open_repair is not None:
                    planner.transcripts.replay(task_plan.open_repair, planner.study)
                _ = task_plan.book
            except LagoError as error:
                problems.append(str(error))
    try:
        measured_motions.complete(space.study, measured_motions.load(space.motions), planner.transcripts)
        if not problems:
            planner.playbooks(*tasks)
    except LagoError as error:
        problems.append(str(error))
    return problems


def rows_of(space: Workspace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row per task that has a playbook: `task, model, n_steps, n_findings, repaired, n_reused, tokens`."""
    known: set[str] = set()
    rows: list[dict[str, Any]] = []
    for name, task_plan in plan.plans(space).items():
        if task_plan.chosen is None or task_plan.chosen.playbook is None:
            continue
        book = task_plan.chosen.playbook
        skills = {step.skill for step in book.steps}
        rows.append(
            {
                "task": name,
                "model": book.model,
                "n_steps": len(book.steps),
                "n_findings": len(task_plan.chosen.findings),
                "repaired": task_plan.repaired,
                "n_reused": len(skills & known),
                "tokens": task_plan.tokens or _estimated_tokens(task_plan),
                "tokens_estimated": not task_plan.tokens,
                "version": task_plan.versions.index(task_plan.chosen) + 1,
                "score": task_plan.chosen.score,
            }
        )
        if name in {task.id for task in space.study.seen}:
            known |= skills
    summary = {
        "playbooks": len(rows),
        "skills": len(known),
        "models": _models(plan.planner(space), _tasks(space.study), rows),
        "tokens": sum(int(row["tokens"]) for row in rows),
    }
    return rows, summary


def _estimated_tokens(task_plan: Plan) -> int:
    n_characters = 0
    for version in task_plan.versions:
        messages = version.transcript.request["messages"]
        n_characters += sum(len(message["content"]) for message in messages) + len(version.transcript.response)
    return int(n_characters / CHARS_PER_TOKEN)


def _models(planner: Planner, tasks: Asked, rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Models side by side, each over all tasks that it answered."""
    from dataclasses import replace

    by_model: dict[str, dict[str, float]] = {}
    for model in planner.transcripts.models():
        plans = replace(planner, model=model).plans(*tasks).values()
        answered = [p for p in plans if p.versions]
        chosen = [p.chosen for p in answered if p.chosen is not None]
        scores = [v.score for v in chosen if v.score is not None]
        by_model[model] = {
            "answered": len(answered),
            "playbooks": len(chosen),
            "in_use": sum(row["model"] == model for row in rows),
            "findings": sum(len(v.findings) for v in chosen),
            "repaired": sum(p.repaired for p in answered),
            **({"score": round(sum(scores) / len(scores), 4)} if scores else {}),
        }
    return by_model


def _print_table(rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    lines: list[list[str]] = []
    for row in rows:
        tokens = f"{'~' * row['tokens_estimated']}{row['tokens']:,}"
        repaired = "yes" if row["repaired"] else ""
        counts = (row["version"], row["n_steps"], row["n_findings"])
        lines += [[row["task"], row["model"], *map(str, counts), repaired, str(row["n_reused"]), tokens]]
    print_table(("task", "model", "version", "steps", "findings", "repaired", "reused", "tokens"), lines)
    _tell(f"{summary['playbooks']} playbooks, {summary['skills']} skill sentences in the training tasks")
    for model, figures in summary["models"].items():
        _tell(f"{model}: " + ", ".join(f"{name} {value:g}" for name, value in figures.items()))


def _tasks(study: Study) -> Asked:
    return plan.demonstrated(study), plan.undemonstrated(study)


def _scenes(space: Workspace) -> None:
    from lago_skills.planner import scenes
    from lago_skills.stages import collect
    from lago_skills.stages.planning.measured_scenes import measure

    study = space.study
    recorded = {task.id: collect.recorded(study, task, space.root) for task in study.seen if not study.n_scripted(task)}
    scenes.save(space.scenes, measure(study.load_world(), study.seen, recorded))
    _say(f"feature ranges written to {space.scenes}; requests, and with them recorded answers, may change")


def _prompt(planner: Planner, tasks: Asked, task: str) -> None:
    known = {t.id: request for t, request in planner.requests(*tasks)}
    if task not in known:
        raise PlanError(
            f"found no request for task {task!r} in study {planner.study!r}; expected one of {sorted(known)} (later "
            "training tasks are asked once the earlier ones have been answered)"
        )
    _tell(known[task].prompt)
