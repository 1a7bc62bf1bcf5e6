"""Tables of growth in the documents, made from results on record."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from lago_skills.experiments.cells import Row
from lago_skills.experiments.growth_metrics import matrix_of, metrics
from lago_skills.experiments.tables import growth, shadowing
from lago_skills.experiments.tables.growth_compared import COMPARED
from tests.doc_tables import on_record


def streams() -> str:
    """The metrics of each stream, as far as it goes."""
    lines = [
        "| how growth decides | order | stages | after its stage (FWT) | changes later (BWT) | AUC | all so far, at the end | least | old tasks fall in a stage by | 95 % | next task, before it is learned | and without growth | more by growth, 95 % |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (method, order), rows in _streams().items():
        if method in COMPARED:
            success = [row["success"] for row in rows]
            lines.append(
                f"| {method} | {order} | after the last | | | | {np.mean(success):.3f} | {min(success):.3f} | | | | | |"
            )
            continue
        found = metrics(matrix_of(rows))
        names = ("fwt", "bwt", "auc", "last", "least", "fall")
        shown = " | ".join(_shown(found[name]) for name in names)
        between = f"{found['fall_low']:.3f} to {found['fall_high']:.3f}"
        more = f"{found['carried_low']:.3f} to {found['carried_high']:.3f}"
        carried = f"{_shown(found['next'])} | {_shown(found['next_before'])} | {more}"
        lines.append(f"| {method} | {order} | {found['stages']} | {shown} | {between} | {carried} |")
    return "\n".join(lines)


def stages() -> str:
    """What each stage of the first stream brought."""
    lines = [
        "| stage | task | before it was learned | after | old tasks | the decoder | skills | learning, s | growth, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows = _streams().get(("grown", 0), [])
    by_stage: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_stage[row["stage"]].append(row)
    for stage, own in by_stage.items():
        if not stage:
            continue
        (new,) = [row for row in own if row["kind"] == "new"]
        (before,) = [row for row in by_stage[stage - 1] if row["task"] == new["task"]]
        old = [row["success"] for row in own if row["kind"] in ("built", "old")]
        trained = "as it was" if new["trained"] == "no" else f"trained {new['trained']}"
        lines.append(
            f"| {stage} | {new['task']} | {before['success']:.2f} | {new['success']:.2f} | {np.mean(old):.2f} | {trained} | {new['skills']} | "
            f"{_seconds(new['learn_s'])} | {_seconds(new['grow_s'])} |"
        )
    return "\n".join(lines)


def crowds() -> str:
    """Success and recall in libraries full of something else."""
    lines = [
        "| weights | skills added | times | skills in all | success | least of a task | recall | a prior, us |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: defaultdict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in on_record(shadowing.SCHEMA):
        groups[row["method"], row["kind"], row["times"]].append(row)
    for (method, kind, times), rows in groups.items():
        success = [row["success"] for row in rows]
        recall, microseconds = (np.mean([row["recall"] for row in rows]), np.median([row["prior_us"] for row in rows]))
        lines.append(
            f"| {method} | {kind} | {times or ''} | {rows[0]['skills']} | {np.mean(success):.3f} | {min(success):.2f} | {recall:.2f} | {microseconds:.0f} |"
        )
    return "\n".join(lines)


def _streams() -> dict[tuple[str, int], list[Row]]:
    streams: defaultdict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in on_record(growth.SCHEMA):
        streams[row["method"], row["order"]].append(row)
    return dict(streams)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
