"""The tables of the kitchen in the documents, made from results on record."""

from __future__ import annotations

from lago_skills.experiments.tables import sequences, skill_changes
from tests.doc_tables import changed, on_record


def sequence_rows() -> str:
    """Things done in sequences nobody demonstrated, in Markdown: without training, then at the ends of training runs."""
    entries = sequences.summary(on_record(sequences.SCHEMA))
    last = {(entry["method"], entry["level"]): entry["steps"] for entry in entries}
    lines = [
        "| tasks | method | steps | things done (95 %) | of | all done | tasks | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        if entry["steps"] not in (0, EARLY_STEPS, last[entry["method"], entry["level"]]):
            continue
        interval = f" ({entry['low']:.2f} to {entry['high']:.2f})" if entry["low"] is not None else ""
        lines.append(
            f"| {entry['level']} | {entry['method']} | {entry['steps'] or ''} | {entry['subtasks']:.2f}{interval} | {entry['asked']} | "
            f"{entry['success']:.2f} | {entry['tasks']} | {entry['seeds']} |"
        )
    return "\n".join(lines)


EARLY_STEPS = 20_000
"""Where learners of sequences are shown on the way."""


def kitchen_skills() -> str:
    """Things done without one skill, in Markdown, by the worst of its sequences."""
    rows = [row for row in on_record(skill_changes.SCHEMA) if row["study"] == "kitchen"]
    lines = ["| disabled skill | things done on its worst sequence | as it is | sequence |", "|---|---|---|---|"]
    for skill in dict.fromkeys(row["skill"] for row in rows):
        pairs = changed([row for row in rows if row["skill"] == skill], "disabled")
        before, after = max(pairs, key=lambda pair: pair[0]["subtasks"] - pair[1]["subtasks"])
        numbers = f"{after['subtasks']:.1f} | {before['subtasks']:.1f}"
        lines.append(f"| {_shortened(skill)} | {numbers} | {before['task'].replace('.', ', ')} |")
    return "\n".join(lines)


def _shortened(skill: str) -> str:
    """How a sentence begins and goes on, and how it ends."""
    words, _, ending = skill.rpartition(", until ")
    return f"{' '.join(words.split()[:16])} ..., until {ending}"
