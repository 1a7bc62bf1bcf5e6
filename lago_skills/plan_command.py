"""`lago plan`: replay, ask, export and import answers; show, edit, lint and find playbooks."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lago_skills.core import Task
from lago_skills.errors import EndpointError, LagoError, PlanError
from lago_skills.llm.transcripts import Request
from lago_skills.planner.ask import Plan, Version, playbook_json
from lago_skills.stages import plan
from lago_skills.stages.job import Workspace

ACTIONS = ("show", "edit", "lint", "find")
DEFAULT_STUDY = "metaworld"
CHARS_PER_TOKEN = 4.0
"""For exchanges whose tokens nobody counted."""


def plan_command(
    space: Workspace, options: argparse.Namespace, run_stages: Callable[[Workspace, list[str]], None]
) -> None:
    """Do what the options of `lago plan` say.

    Raises:
        TranscriptMissing: an answer has not been recorded (replay).
        PlanError: an answer, a responses file or an option is not valid.
        EndpointError: a live endpoint refused or did not answer.
    """
    if options.action == "show":
        _show(space, options)
    elif options.action == "edit":
        _edit(space, options)
    elif options.action == "lint":
        _lint(space, options)
    elif options.action == "find":
        _find(space, options)
    elif options.export is not None:
        _export(space, options)
    elif options.import_ is not None:
        _import(space, options)
    elif options.scenes:
        _scenes(space)
    elif options.prompt is not None:
        _prompt(space, options.prompt)
    else:
        _replay(space, options, run_stages)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _tell(text: str) -> None:
    print(text)  # noqa: T201


# A study's playbooks -------------------------------------------------------------------------------------------------


def _replay(space: Workspace, options: argparse.Namespace, run_stages: Callable[[Workspace, list[str]], None]) -> None:
    failed: list[str] = []
    if options.live:
        failed = _live(space, options)
    problems = _problems(space)
    if not problems:
        run_stages(space, ["plan"])
    rows, summary = rows_of(space)
    if options.json:
        _tell(json.dumps({"rows": rows, "summary": {**summary, "problems": problems}}))
    else:
        _print_table(rows, summary)
    if failed or problems:
        raise (EndpointError if failed else PlanError)(" | ".join(failed + [p for p in problems if p not in failed]))


def _problems(space: Workspace) -> list[str]:
    """Why tasks have no playbook: one sentence for each, or one for all whose answers are merely missing."""
    planner = plan.planner(space)
    tasks = (space.study.seen, plan.undemonstrated(space))
    known = planner.plans(*tasks)
    problems: list[str] = []
    for found in known.values():
        if found.versions and found.chosen is None:
            try:
                if found.open_repair is not None:
                    planner.transcripts.replay(found.open_repair, planner.study)
                _ = found.book
            except LagoError as error:
                problems.append(str(error))
    try:
        if not problems:
            planner.playbooks(*tasks)
    except LagoError as error:
        problems.append(str(error))
    return problems


def rows_of(space: Workspace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row per task that has a playbook: `task, model, n_steps, n_findings, repaired, n_reused, tokens`."""
    known: set[str] = set()
    rows: list[dict[str, Any]] = []
    for name, found in plan.plans(space).items():
        if found.chosen is None or found.chosen.playbook is None:
            continue
        book = found.chosen.playbook
        skills = {step.skill for step in book.steps}
        rows.append(
            {
                "task": name,
                "model": book.model,
                "n_steps": len(book.steps),
                "n_findings": len(found.chosen.findings),
                "repaired": found.repaired,
                "n_reused": len(skills & known),
                "tokens": found.tokens or _estimated_tokens(found),
                "tokens_estimated": not found.tokens,
                "version": found.versions.index(found.chosen) + 1,
                "score": found.chosen.score,
            }
        )
        if name in {task.id for task in space.study.seen}:
            known |= skills
    summary = {
        "playbooks": len(rows),
        "skills": len(known),
        "models": _models(space, rows),
        "tokens": sum(int(row["tokens"]) for row in rows),
    }
    return rows, summary


def _estimated_tokens(found: Plan) -> int:
    said = 0
    for version in found.versions:
        messages = version.transcript.request["messages"]
        said += sum(len(message["content"]) for message in messages) + len(version.transcript.response)
    return int(said / CHARS_PER_TOKEN)


def _models(space: Workspace, rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Models side by side, each over all tasks that it answered."""
    from dataclasses import replace

    planner = plan.planner(space)
    found: dict[str, dict[str, float]] = {}
    for model in planner.transcripts.models():
        plans = replace(planner, model=model).plans(space.study.seen, plan.undemonstrated(space)).values()
        answered = [p for p in plans if p.versions]
        chosen = [p.chosen for p in answered if p.chosen is not None]
        scores = [v.score for v in chosen if v.score is not None]
        found[model] = {
            "answered": len(answered),
            "playbooks": len(chosen),
            "in_use": sum(row["model"] == model for row in rows),
            "findings": sum(len(v.findings) for v in chosen),
            "repaired": sum(p.repaired for p in answered),
            **({"score": round(sum(scores) / len(scores), 4)} if scores else {}),
        }
    return found


def _print_table(rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "model", "version", "steps", "findings", "repaired", "reused", "tokens")
    for row in rows:
        tokens = f"{'~' * row['tokens_estimated']}{row['tokens']:,}"
        repaired = "yes" if row["repaired"] else ""
        cells = [row["version"], row["n_steps"], row["n_findings"], repaired, row["n_reused"], tokens]
        table.add_row(row["task"], row["model"], *map(str, cells))
    Console().print(table)
    _tell(f"{summary['playbooks']} playbooks, {summary['skills']} skill sentences in the training tasks")
    for model, figures in summary["models"].items():
        _tell(f"{model}: " + ", ".join(f"{name} {value:g}" for name, value in figures.items()))


# Asking ---------------------------------------------------------------------------------------------------------------


def _tasks(space: Workspace) -> tuple[tuple[Task, ...], tuple[Task, ...]]:
    return space.study.seen, plan.undemonstrated(space)


def _live(space: Workspace, options: argparse.Namespace) -> list[str]:
    """Ask all open requests, round by round; returns what went wrong, a sentence per request."""
    from lago_skills.llm.asker import ask
    from lago_skills.llm.live import Event

    config = space.study.plan.live
    if options.model:
        config = config.model_copy(update={"model": options.model})
    if space.study.plan.model not in (None, "best", config.model):
        raise PlanError(
            f"found plan.model = {space.study.plan.model!r} and a live model {config.model!r}; expected the same, since answers "
            "of another model would not be used; correct the study or --model"
        )
    failed: dict[str, str] = {}

    def report(event: Event) -> None:
        if event.kind == "failed":
            failed[event.name] = f"{event.name}: {event.text}"
        _say(f"{event.kind:<9} {event.name} {event.text}{f'{event.tokens:,} tokens' if event.tokens else ''}".rstrip())

    while True:
        todo = [r for r in _missing(space, options) if r.name not in failed]
        if not todo:
            return list(failed.values())
        _say(f"asking    {len(todo)} requests of {config.model}")
        ask(todo, config, plan.transcripts_path(space), report)


def _missing(space: Workspace, options: argparse.Namespace) -> list[Request]:
    """Every request that can be asked now: playbooks, repairs and, where wanted, other words for the tasks."""
    from lago_skills.planner.wordings import read_wordings, wordings_requests

    planner = plan.planner(space)
    missing = planner.missing(*_tasks(space), repairs=options.repair)
    if options.wordings:
        tasks = (*space.study.seen, *plan.undemonstrated(space))
        in_use = (*space.study.seen, *space.study.unseen)
        missing += wordings_requests(tasks, in_use, read_wordings(planner.transcripts, tasks))
    return missing


def _export(space: Workspace, options: argparse.Namespace) -> None:
    from lago_skills.llm.batch import export_requests

    missing = _missing(space, options)
    export_requests(missing, options.export, options.model)
    _say(f"{len(missing)} open requests written to {options.export}")


def _import(space: Workspace, options: argparse.Namespace) -> None:
    from lago_skills.llm.batch import import_responses

    planner = plan.planner(space)
    n = import_responses(options.import_, _missing(space, options), planner.transcripts, options.model, options.source)
    left = _missing(space, options)
    _say(f"{n} answers recorded; {len(left)} requests are open now")
    for found in plan.plans(space).values():
        if found.versions and found.open_repair is not None:
            wrong = "; ".join(finding.line() for finding in found.versions[-1].findings)
            _say(f"{found.task.id}: a repair is open: {wrong}")


def _scenes(space: Workspace) -> None:
    from lago_skills.planner import scenes
    from lago_skills.stages.scenes import measure, measure_own

    path = plan.scenes_path(space)
    scenes.save(path, measure_own(space) if space.study.environment else measure(space.study.seen))
    _say(f"feature ranges written to {path}; requests, and with them recorded answers, may change")


def _prompt(space: Workspace, task: str) -> None:
    known = {t.id: request for t, request in plan.planner(space).requests(*_tasks(space))}
    if task not in known:
        raise PlanError(
            f"found no request for task {task!r} in study {space.study.name!r}; expected one of {sorted(known)} (later "
            "training tasks are asked once the earlier ones have been answered)"
        )
    _tell(known[task].prompt)


# One playbook -----------------------------------------------------------------------------------------------------------


def _target_task(options: argparse.Namespace) -> str:
    if not options.what:
        raise PlanError(f"found lago plan {options.action} without a task; expected its name; add it")
    return str(options.what)


def _show(space: Workspace, options: argparse.Namespace) -> None:
    found = plan.find_plan(space, _target_task(options))
    _tell(describe(found))


def describe(found: Plan) -> str:
    """A plan as text: versions, findings, and the steps of the playbook in use with their authors."""
    lines = [f"{found.task.id}: {found.task.sentence}"]
    for number, version in enumerate(found.versions, start=1):
        in_use = " <- in use" if version is found.chosen else ""
        t = version.transcript
        score = "" if version.score is None else f", score {version.score:.2f}"
        lines.append(f"version {number}: {t.model}, {t.source}, {t.recorded_at} ({t.id}){score}{in_use}")
        lines += [f"  {finding.kind}: {finding.line()}" for finding in version.findings]
    if found.open_repair is not None:
        lines.append("a repair is open: lago plan STUDY --live, or --export")
    if found.chosen is not None and found.chosen.playbook is not None:
        lines += _steps(found.chosen)
    return "\n".join(lines)


def _steps(version: Version) -> list[str]:
    assert version.playbook is not None
    lines: list[str] = []
    for number, (step, author) in enumerate(zip(version.playbook.steps, version.authors, strict=True), start=1):
        when = " and ".join(f"{c.feature} {c.op} {c.value:g}" for c in step.when) or "nothing above holds"
        lines.append(f"{number}. {step.skill}  [{author}]")
        if step.target is not None:
            lines.append("   heads for " + " ".join([step.target.anchor, *(f"{v:+.2f}" for v in step.target.offset)]))
        lines.append(f"   when {when}")
    return lines


def _edit(space: Workspace, options: argparse.Namespace) -> None:
    """A person's version of a playbook: checked, recorded beside the model's, never instead of it."""
    from lago_skills.llm.transcripts import HUMAN, answered

    found = plan.find_plan(space, _target_task(options))
    parent = found.chosen or found.versions[-1]
    before = playbook_json(parent.playbook) if parent.playbook else parent.transcript.response
    text = options.file.read_text(encoding="utf-8") if options.file else _from_editor(before)
    if text == before:
        _say("nothing was changed; nothing is recorded")
        return
    planner = plan.planner(space)
    edit = answered(found.request, text, HUMAN, f"edit of {parent.transcript.id}", parent=parent.transcript.id)
    version = planner.version(edit, found.task)
    if version.playbook is None:
        kept = Path(tempfile.gettempdir()) / f"{found.task.id}.playbook.json"
        kept.write_text(text, encoding="utf-8")
        raise PlanError(
            f"the edited playbook of {found.task.id!r} is not valid: "
            + "; ".join(finding.line() for finding in version.findings)
            + f"; expected a playbook; your text is kept in {kept}: correct it and run lago plan edit {found.task.id} --file {kept}"
        )
    planner.transcripts.append(edit)
    _tell(describe(plan.find_plan(space, found.task.id)))


def _from_editor(text: str) -> str:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.NamedTemporaryFile("w+", suffix=".json", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        try:
            subprocess.run([*shlex.split(editor), file.name], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise PlanError(
                f"the editor {editor!r} failed ({error}); expected it to edit a file; set EDITOR, or pass --file FILE"
            ) from error
        return Path(file.name).read_text(encoding="utf-8")


def _lint(space: Workspace, options: argparse.Namespace) -> None:
    from lago_skills.stages.lint import lint

    task = _target_task(options)
    tasks = [t.id for t in (*space.study.seen, *space.study.unseen)] if task == "all" else [task]
    lint(space, tasks, options.seeds, _say)
    known = plan.plans(space)
    for name in tasks:
        found = known[name]
        for number, version in enumerate(found.versions, start=1):
            score = "" if version.score is None else f", score {version.score:.2f}"
            in_use = ", in use" if version is found.chosen else ""
            _tell(
                f"{name}, version {number} ({version.transcript.model}{score}{in_use}): {len(version.findings)} findings"
            )
            for finding in version.findings:
                _tell(f"  {finding.kind}: {finding.line()}")


def _find(space: Workspace, options: argparse.Namespace) -> None:
    from lago_skills.stages.wordings import find

    if options.file is not None:
        _score_sentences(space, options)
        return
    row = find(space, [_target_task(options)], _say)[0]
    if options.json:
        _tell(json.dumps({"rows": [row], "summary": {"threshold": row["threshold"]}}))
        return
    runner_up = f"runner-up {row['runner_up']} ({row['runner_up_score']:.2f})"
    if row["task"] is None:
        _tell(f"no playbook is near; the nearest is {row['nearest']} ({row['score']:.2f}), {runner_up}")
    else:
        _tell(f"{row['task']} ({row['score']:.2f}); {runner_up}")


def _score_sentences(space: Workspace, options: argparse.Namespace) -> None:
    """How well sentences of known meaning find their task: `{"task": ["sentence", ...], "none": [...]}`."""
    from lago_skills.planner.wordings import NONE
    from lago_skills.stages.wordings import find

    try:
        raw: dict[str, list[str]] = json.loads(options.file.read_text(encoding="utf-8"))
        meant = [(task, text) for task, texts in raw.items() for text in texts]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise PlanError(
            f'sentence file {str(options.file)!r} cannot be read ({error}); expected {{"task": ["sentence", ...], "none": [...]}}'
        ) from error
    rows = find(space, [text for _, text in meant], _say)
    rows = [{"meant": task, **row} for (task, _), row in zip(meant, rows, strict=True)]
    tasks, none = [r for r in rows if r["meant"] != NONE], [r for r in rows if r["meant"] == NONE]
    confusion: dict[str, dict[str, int]] = {}
    for row in rows:
        line = confusion.setdefault(row["meant"], {})
        answer = row["task"] or NONE
        line[answer] = line.get(answer, 0) + 1
    summary = {
        "sentences": len(tasks),
        "top1": round(sum(r["nearest"] == r["meant"] for r in tasks) / max(len(tasks), 1), 4),
        "accepted": round(sum(r["task"] == r["meant"] for r in tasks) / max(len(tasks), 1), 4),
        "wrong": round(sum(r["task"] not in (None, r["meant"]) for r in tasks) / max(len(tasks), 1), 4),
        "unrelated": len(none),
        "rejected": round(sum(r["task"] is None for r in none) / max(len(none), 1), 4),
        "threshold": round(rows[0]["threshold"], 4) if rows else None,
        "confusion": confusion,
    }
    if options.json:
        _tell(json.dumps({"rows": rows, "summary": summary}))
        return
    for task, line in confusion.items():
        _tell(f"{task:<20} " + ", ".join(f"{answer} {n}" for answer, n in sorted(line.items(), key=lambda a: -a[1])))
    _tell(", ".join(f"{name} {value}" for name, value in summary.items() if name != "confusion"))
