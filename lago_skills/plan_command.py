"""`lago plan`: replay recorded answers, or export what is missing and import what was answered."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from lago_skills.errors import PlanError
from lago_skills.stages import plan
from lago_skills.stages.job import Workspace


def plan_command(
    space: Workspace, options: argparse.Namespace, run_stages: Callable[[Workspace, list[str]], None]
) -> None:
    """Do what the options of `lago plan` say.

    Raises:
        TranscriptMissing: an answer has not been recorded (replay).
        PlanError: an answer, a responses file or an option is not valid.
    """
    if options.export is not None:
        _export(space, options)
    elif options.import_ is not None:
        _import(space, options)
    elif options.scenes:
        _scenes(space)
    elif options.show is not None:
        _show(space, options.show)
    else:
        run_stages(space, ["plan"])
        if options.json:
            _table(space)


def _export(space: Workspace, options: argparse.Namespace) -> None:
    from lago_skills.planner.ask import export_requests

    missing = plan.planner(space).missing(space.study.seen, space.study.unseen)
    export_requests(missing, options.export)
    print(f"{len(missing)} open requests written to {options.export}", file=sys.stderr)  # noqa: T201


def _import(space: Workspace, options: argparse.Namespace) -> None:
    from lago_skills.planner.ask import import_responses

    if not options.model:
        raise PlanError("--import without --model; expected the name of the model that answered; add --model NAME")
    planner = plan.planner(space)
    missing = planner.missing(space.study.seen, space.study.unseen)
    n = import_responses(
        options.import_, missing, planner.transcripts, planner.grounding.features, options.model, options.source
    )
    left = plan.planner(space).missing(space.study.seen, space.study.unseen)
    print(f"{n} answers recorded; {len(left)} requests are open now", file=sys.stderr)  # noqa: T201


def _scenes(space: Workspace) -> None:
    from lago_skills.planner import scenes
    from lago_skills.stages.scenes import measure

    path = space.root / space.study.plan.scenes
    scenes.save(path, measure(space.study.seen))
    print(f"feature ranges written to {path}; requests, and with them recorded answers, may change", file=sys.stderr)  # noqa: T201


def _show(space: Workspace, task: str) -> None:
    books = plan.planner(space).playbooks(space.study.seen, space.study.unseen)
    if task not in books:
        raise PlanError(f"no playbook for task {task!r} in this study; expected one of {sorted(books)}")
    book = books[task]
    print(f"{task}  (model {book.model}, transcript {book.transcript_key[:12]})")  # noqa: T201
    for number, step in enumerate(book.steps, start=1):
        when = " and ".join(f"{c.feature} {c.op} {c.value:g}" for c in step.when) or "nothing above holds"
        x, y, z = step.target.offset
        print(f"{number}. {step.skill}\n   heads for {step.target.anchor} {x:+.2f} {y:+.2f} {z:+.2f}\n   when {when}")  # noqa: T201


def _table(space: Workspace) -> None:
    known: set[str] = set()
    rows: list[dict[str, object]] = []
    for name, book in plan.playbooks(space).items():
        skills = {step.skill for step in book.steps}
        rows.append({"task": name, "model": book.model, "n_steps": len(book.steps), "n_reused": len(skills & known)})
        known |= skills
    print(json.dumps({"rows": rows, "summary": {"playbooks": len(rows), "skills": len(known)}}))  # noqa: T201
