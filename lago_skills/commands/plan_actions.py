"""`lago plan show|edit|lint|find|adopt`: one playbook as text, a person's edits, its faults, how a sentence finds it, and what a run made of it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lago_skills.core import Playbook
from lago_skills.errors import PlanError
from lago_skills.planner.ask import Plan
from lago_skills.planner.portfolio import Portfolio
from lago_skills.stages import plan
from lago_skills.stages.workspace import Workspace


def playbook_command(space: Workspace, options: argparse.Namespace) -> None:
    """Do what `lago plan ACTION TASK` says.

    Raises:
        PlanError: no such task, a playbook or a file that is not valid.
        ArtifactCorrupt: an artifact that is needed is damaged.
    """
    {"show": _show, "edit": _edit, "lint": _lint, "find": _find, "adopt": _adopt}[str(options.action)](space, options)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _tell(text: str) -> None:
    print(text)  # noqa: T201


def _target_task(options: argparse.Namespace) -> str:
    if not options.what:
        raise PlanError(f"found lago plan {options.action} without a task; expected its name; add it")
    return str(options.what)


def _show(space: Workspace, options: argparse.Namespace) -> None:
    task_plan = plan.plan_of(_target_task(options), plan.plans(space), space.study.name)
    _tell(describe(task_plan))


def describe(task_plan: Plan) -> str:
    """A plan as text: versions, findings, and the steps of the playbook in use with their authors."""
    lines = [f"{task_plan.task.id}: {task_plan.task.sentence}"]
    for number, version in enumerate(task_plan.versions, start=1):
        in_use = " <- in use" if version is task_plan.chosen else ""
        t = version.transcript
        score = "" if version.score is None else f", score {version.score:.2f}"
        lines.append(f"version {number}: {t.model}, {t.source}, {t.recorded_at} ({t.id}){score}{in_use}")
        lines += [f"  {finding.kind}: {finding.line()}" for finding in version.findings]
        lines += [f"  passed over: {each}" for each in version.passed_over]
    for number, sample in enumerate(task_plan.samples, start=1):
        last = sample.chosen or sample.versions[-1]
        score = "" if last.score is None else f", score {last.score:.2f}"
        used = " <- in use" if last is task_plan.chosen else ""
        n_steps = f"{len(last.playbook.steps)} steps" if last.playbook else "no playbook"
        lines.append(
            f"answer {number} of {len(task_plan.samples)}: {last.transcript.model} ({last.transcript.id}), {n_steps}{score}{used}"
        )
    if task_plan.superseded:
        lines.append("a later answer holds no playbook; this one stays in use")
    if task_plan.words_changed:
        lines.append(
            "its request lists skill sentences that have changed since; the answer counts as it is (to ask anew: --again)"
        )
    if task_plan.open_repair is not None:
        lines.append(f"a repair is open: lago plan {task_plan.study} --live, or --export")
    if task_plan.chosen is not None and task_plan.chosen.playbook is not None:
        lines += _steps(task_plan.chosen.playbook, task_plan.chosen.authors)
    if task_plan.portfolio is not None:
        lines += _portfolio(task_plan.portfolio, task_plan.study)
    return "\n".join(lines)


def _portfolio(found: Portfolio, study: str) -> list[str]:
    """The other plans of a task."""
    if found.transcript is None:
        return [f"other plans are asked for and not answered yet: lago plan {study} --live, or --export"]
    lines = [
        f"other plans: {found.transcript.model}, {found.transcript.source}, {found.transcript.recorded_at} ({found.transcript.id})"
    ]
    lines += [f"  {finding.kind}: {finding.line()}" for finding in found.findings]
    for each in found.alternatives:
        score = "" if each.score is None else f" (score {each.score:.2f})"
        lines.append(f"plan {each.number}{score}: {each.way or 'nothing is said about its way'}")
        lines += [f"  {finding.kind}: {finding.line()}" for finding in each.findings]
        if each.playbook is not None:
            lines += [f"  {line}" for line in _steps(each.playbook, ("",) * len(each.playbook.steps))]
    return lines


def _steps(book: Playbook, authors: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for number, (step, author) in enumerate(zip(book.steps, authors, strict=True), start=1):
        lines.append(f"{number}. {step.skill}" + (f"  [{author}]" if author else ""))
        if book.form == "words":
            lines.append(
                f"   about {' and '.join(step.about) or 'nothing'}, until {step.until.name if step.until else 'it is done'}"
            )
            continue
        when = " and ".join(f"{c.feature} {c.op} {c.value:g}" for c in step.when) or "nothing above holds"
        if step.target is not None:
            lines.append("   heads for " + " ".join([step.target.anchor, *(f"{v:+.2f}" for v in step.target.offset)]))
        lines.append(f"   when {when}")
    return lines


def _edit(space: Workspace, options: argparse.Namespace) -> None:
    """A person's version of a playbook: checked, recorded beside the model's, never instead of it."""
    from lago_skills.stages.plan_edits import record_edit, text_of

    task = _target_task(options)
    task_plan = plan.plan_of(task, plan.plans(space), space.study.name)
    before = text_of(task_plan)
    text = _read(options.file) if options.file else _from_editor(before)
    if text == before:
        _say("nothing was changed; nothing is recorded")
        return
    record_edit(space, task, text)
    _tell(describe(plan.plans(space)[task_plan.task.id]))


def _adopt(space: Workspace, options: argparse.Namespace) -> None:
    """The plan that a run came to, as a version of the playbook; the others stay."""
    from lago_skills.stages import found_plans

    task = _target_task(options)
    found = found_plans.found_by(space, task, options.run)
    if found_plans.record(found, task) is None:
        _say(f"study {found.space.study.name!r} follows this plan already; nothing is recorded")
        return
    _tell(describe(plan.plans(found.space)[task]))
    _say(f"recorded in study {found.space.study.name!r}; to follow it: lago build {found.space.argument}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(
            f"file {str(path)!r} cannot be read ({error}); expected a playbook in JSON; correct --file"
        ) from error


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
    from lago_skills.stages.planning.plan_checks import lint

    task = _target_task(options)
    tasks = [t.id for t in (*space.study.seen, *space.study.unseen)] if task == "all" else [task]
    lint(space, tasks, options.seeds, _say)
    known, linted = plan.plans(space), plan.planner(space).lint
    for name in tasks:
        task_plan = known[name]
        for number, version in enumerate(task_plan.versions, start=1):
            record = linted.get(version.transcript.id)
            tried = version.score is not None and record is not None and record.rollouts
            score = f", score {version.score:.2f}" if tried else ""  # nothing else says how good it is
            in_use = ", in use" if version is task_plan.chosen else ""
            _tell(
                f"{name}, version {number} ({version.transcript.model}{score}{in_use}): {len(version.findings)} findings"
            )
            for finding in version.findings:
                _tell(f"  {finding.kind}: {finding.line()}")
        for each in task_plan.portfolio.alternatives if task_plan.portfolio else ():
            score = f" (score {each.score:.2f})" if each.score is not None else ""
            _tell(f"{name}, plan {each.number} of the portfolio{score}: {len(each.findings)} findings")
            for finding in each.findings:
                _tell(f"  {finding.kind}: {finding.line()}")


def _find(space: Workspace, options: argparse.Namespace) -> None:
    from lago_skills.stages.planning.wording_search import find

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
    from lago_skills.stages.planning.wording_search import find

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
    summary: dict[str, Any] = {
        "sentences": len(tasks),
        "top1": round(sum(r["nearest"] == r["meant"] for r in tasks) / max(len(tasks), 1), 4),
        "accepted": round(sum(r["task"] == r["meant"] for r in tasks) / max(len(tasks), 1), 4),
        "wrong": round(sum(r["task"] not in (None, r["meant"]) for r in tasks) / max(len(tasks), 1), 4),
        "unrelated": len(none),
        "rejected": round(sum(r["task"] is None for r in none) / max(len(none), 1), 4),
        "threshold": round(float(rows[0]["threshold"]), 4) if rows else None,
        "confusion": confusion,
    }
    if options.json:
        _tell(json.dumps({"rows": rows, "summary": summary}))
        return
    for task, line in confusion.items():
        _tell(f"{task:<20} " + ", ".join(f"{answer} {n}" for answer, n in sorted(line.items(), key=lambda a: -a[1])))
    _tell(", ".join(f"{name} {value}" for name, value in summary.items() if name != "confusion"))
