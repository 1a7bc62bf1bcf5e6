"""Approval: what a study is about to use for the first time waits until a person has looked at it.

Decisions are kept beside the data (`data/approvals/STUDY/`): one line each in `decisions.jsonl`, and the texts that were decided on, so
that the next change is shown as the difference from what was approved last. Prefect's own pauses are forgotten when a run is retried.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from lago_skills.artifacts.folder import verify, write_text
from lago_skills.errors import ApprovalNeeded, ApprovalOutdated, ArtifactCorrupt
from lago_skills.stages import plan
from lago_skills.stages.workspace import Workspace
from lago_skills.study.config import Approval

Verdict = Literal["approved", "rejected"]
USED_BY: dict[Approval, tuple[str, ...]] = {
    "playbooks": ("segment", "pretrain", "build", "evaluate", "train", "report"),
    "skills": ("evaluate", "train", "report"),
}
"""Stages that use what is to be approved."""
MAX_LINES = 400


@dataclass(frozen=True)
class Decision:
    """What somebody decided about playbooks or skills."""

    what: Approval
    digest: str
    """Of the artifact that was decided on."""
    verdict: Verdict
    by: str
    comment: str
    at: str


@dataclass(frozen=True)
class Held:
    """What waits for approval, and how it differs from what was approved last."""

    what: Approval
    digest: str
    difference: tuple[str, ...]
    """Lines of a unified diff; all lines are new where nothing was approved before."""
    findings: tuple[str, ...]
    rejected: Decision | None
    """Somebody has said no to exactly this."""

    def text(self) -> str:
        """All of it for people."""
        lines = [f"{self.what} {self.digest[:12]}, not approved yet"]
        if self.rejected is not None:
            lines[0] = (
                f"{self.what} {self.digest[:12]}, rejected by {self.rejected.by} ({self.rejected.at}): {self.rejected.comment}"
            )
        shown = list(self.difference[:MAX_LINES])
        if len(self.difference) > MAX_LINES:
            shown.append(f"... {len(self.difference) - MAX_LINES} more lines")
        return "\n".join([*lines, *shown, *(f"lint: {each}" for each in self.findings)])


def held(space: Workspace, what: Approval) -> Held | None:
    """What waits for approval, or None.

    Raises:
        ArtifactMissing: it has not been made.
        ArtifactCorrupt: it, or the record of decisions, is damaged.
    """
    digest = verify(_folder(space, what)).digest
    made = [each for each in decisions(space) if each.what == what]
    of_this = [each for each in made if each.digest == digest]
    if of_this and of_this[-1].verdict == "approved":
        return None
    before = next((each.digest for each in reversed(made) if each.verdict == "approved"), None)
    difference = _difference(_texts(space, what, before) if before else {}, _present(space, what))
    return Held(what, digest, tuple(difference), _findings(space, what), of_this[-1] if of_this else None)


def require(space: Workspace, stage: str) -> None:
    """Refuse a stage that would use what nobody has approved.

    Raises:
        ApprovalNeeded: it would.
    """
    for what in space.study.approve:
        if stage in USED_BY[what] and (waiting := held(space, what)) is not None:
            raise needed(space, waiting)


def needed(space: Workspace, waiting: Held) -> ApprovalNeeded:
    """What is said where something waits for approval."""
    state = "rejected" if waiting.rejected is not None else "not approved yet"
    return ApprovalNeeded(
        f"found {waiting.what} {waiting.digest[:12]} of study {space.study.name!r} {state}; expected a person's approval before they are used "
        f"(approve in the study); look at them and decide with: lago approve {space.argument} (nothing was used, what is finished is kept)"
    )


def decide(
    space: Workspace, waiting: Held, verdict: Verdict, by: str, comment: str = "", looked_at: str | None = None
) -> Decision:
    """Put a decision on record. `looked_at` is (the beginning of) the digest that was looked at, where that may be another one.

    Raises:
        ApprovalOutdated: something else is there now than what was looked at.
    """
    now = verify(_folder(space, waiting.what)).digest
    seen = looked_at if looked_at is not None else waiting.digest
    if not seen or not now.startswith(seen):
        raise ApprovalOutdated(
            f"found {waiting.what} {now[:12]}; expected {seen[:12]}, which were looked at: they have changed meanwhile; look again with: "
            f"lago approve {space.argument} --show"
        )
    decision = Decision(waiting.what, now, verdict, by, comment, datetime.now(UTC).isoformat(timespec="seconds"))
    folder = _records(space)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(_texts_file(space, waiting.what, now), json.dumps(_present(space, waiting.what), indent=1) + "\n")
    with (folder / "decisions.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(decision), ensure_ascii=False) + "\n")
    return decision


def decisions(space: Workspace) -> list[Decision]:
    """All decisions on record, the oldest first.

    Raises:
        ArtifactCorrupt: a line cannot be read.
    """
    path = _records(space) / "decisions.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    try:
        return [Decision(**json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise ArtifactCorrupt(
            f"file {str(path)!r} holds a line that is no decision ({error}); expected JSON as lago approve writes it; correct or remove that line"
        ) from error


def _records(space: Workspace) -> Path:
    return space.root / "data" / "approvals" / space.study.name


def _texts_file(space: Workspace, what: Approval, digest: str) -> Path:
    return _records(space) / f"{what}-{digest[:12]}.json"


def _folder(space: Workspace, what: Approval) -> Path:
    return space.artifact("playbooks" if what == "playbooks" else "bundle")


def _texts(space: Workspace, what: Approval, digest: str) -> dict[str, str]:
    path = _texts_file(space, what, digest)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactCorrupt(
            f"file {str(path)!r} cannot be read ({error}); expected the texts that were decided on; restore it, or remove its decision from decisions.jsonl"
        ) from error


def _present(space: Workspace, what: Approval) -> dict[str, str]:
    """What there is now: the text of each playbook, by task, or of each skill."""
    if what == "playbooks":
        from lago_skills.playbook import playbook_json

        folder, vocabulary = space.artifact("playbooks"), space.study.grounding.vocabulary
        books = {**plan.load(folder, vocabulary), **plan.load_portfolios(folder, vocabulary)}
        return {name: playbook_json(book) for name, book in sorted(books.items())}
    from lago_skills.guide.bundle import LIBRARY_DIR
    from lago_skills.library import SkillLibrary

    with SkillLibrary.open(space.artifact("bundle") / LIBRARY_DIR, mode="frozen") as library:
        return {skill.name: _skill_text(skill.sentence, skill.enabled, skill.support) for skill in library.list()}


def _skill_text(sentence: str, enabled: bool, support: Mapping[str, float]) -> str:
    stands = ", ".join(f"{name} {value:g}" for name, value in sorted(support.items()))
    return f"{sentence}{'' if enabled else ' (disabled)'}\n{stands}"


def _difference(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    for name in sorted({*before, *now}):
        old, new = before.get(name, "").splitlines(), now.get(name, "").splitlines()
        lines += difflib.unified_diff(
            old,
            new,
            f"{name} (approved)" if name in before else f"{name} (nothing was approved)",
            f"{name} (now)",
            lineterm="",
            n=2,
        )
    return lines


def _findings(space: Workspace, what: Approval) -> tuple[str, ...]:
    if what != "playbooks":
        return ()
    lint = plan.load_lint(space.artifact("playbooks"))
    return tuple(
        f"{task}: {found['kind']}: {found['text']}" for task, each in lint.items() for found in each["findings"]
    )
