"""`lago approve STUDY`: look at what waits for approval, and decide."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

from lago_skills.commands.study_argument import add_study
from lago_skills.errors import StudyError

if TYPE_CHECKING:
    from lago_skills.stages.approval import Held, Verdict
    from lago_skills.stages.workspace import Workspace

WAITING_FILE = ".waiting.json"
"""In the study's folder: where a run that waits for a decision hears of it."""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "approve", help="what waits for a person's approval before it is used: look at it, approve or reject it"
    )
    add_study(parser)
    parser.add_argument("--show", action="store_true", help="only show what waits")
    parser.add_argument("--reject", action="store_true", help="do not approve it, but say that it must not be used")
    parser.add_argument(
        "--digest", metavar="D", help="decide only if this is still what is there: the beginning of what --show printed"
    )
    parser.add_argument("--by", default=None, metavar="NAME", help="who decides (default: your user name)")
    parser.add_argument("--comment", default="", metavar="TEXT", help="why")
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else, on standard output")


def approve_command(space: Workspace, options: argparse.Namespace) -> None:
    """Show what waits for approval; unless only that is asked for, put a decision about it on record.

    Raises:
        StudyError: nothing in the study is to be approved.
        ApprovalOutdated: something else is there now than what was looked at.
    """
    from lago_skills.stages import approval

    if not space.study.approve:
        raise StudyError(
            f'found nothing in study {space.study.name!r} that waits for approval; expected \'approve\' there; add approve = "playbooks", or "skills", '
            "to its file"
        )
    rows: list[dict[str, Any]] = []
    verdict: Verdict = "rejected" if options.reject else "approved"
    for what in space.study.approve:
        if not space.artifact("playbooks" if what == "playbooks" else "bundle").exists():
            continue
        waiting = approval.held(space, what)
        if waiting is None:
            continue
        _say(waiting.text())
        row: dict[str, Any] = {"what": what, "digest": waiting.digest, "verdict": "", "by": "", "comment": ""}
        if not options.show:
            decision = approval.decide(
                space, waiting, verdict, options.by or getpass.getuser(), options.comment, options.digest
            )
            row |= {"verdict": decision.verdict, "by": decision.by, "comment": decision.comment}
            _say(f"{what} {decision.digest[:12]}: {decision.verdict} by {decision.by}")
            _tell_run(space, waiting, verdict)
        rows.append(row)
    if not rows:
        _say(f"study {space.study.name}: nothing waits for approval")
    if options.json:
        print(json.dumps({"rows": rows, "summary": {"study": space.study.name, "waiting": len(rows)}}))  # noqa: T201


def _tell_run(space: Workspace, waiting: Held, verdict: Verdict) -> None:
    """Let a run that waits for this go on at once; it looks at the record, whoever tells it."""
    try:
        told = json.loads(space.artifact(WAITING_FILE).read_text(encoding="utf-8"))
        answer = {"verdict": verdict, "by": "lago approve", "comment": "see data/approvals", "digest": waiting.digest}
        body = json.dumps({"run_input": answer}).encode()
        request = urllib.request.Request(told["resume"], body, {"content-type": "application/json"}, method="POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10):
            _say("the run that waits for it goes on")
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError) as error:
        _say(f"the run that waits for it could not be told ({error}); start it again")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
