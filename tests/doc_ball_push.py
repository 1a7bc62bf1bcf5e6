"""The table of ball push in the documents, made from results on record."""

from __future__ import annotations

from lago_skills.experiments.tables import levels
from tests.doc_tables import on_record

RULES = ("aim", "rule")
ORDER = (*RULES, *levels.FROM_NOTHING, *levels.CLONES, *levels.LIBRARIES, *levels.LEARNERS)
SHOWN = ("pair", "rephrased", "easy", "two", "three", "gather", "line-up")


def levels_table() -> str:
    """Success by method and level, in Markdown, with the episodes in brackets where they are not as many as usual."""
    entries = levels.summary(on_record(levels.SCHEMA), ORDER)
    lines = [f"| method | steps | seeds | {' | '.join(SHOWN)} |", f"|---|---|---|{'---|' * len(SHOWN)}"]
    for method in dict.fromkeys(entry["method"] for entry in entries):
        own = {entry["task"]: entry for entry in entries if entry["method"] == method}
        first = next(iter(own.values()))
        cells: list[str] = []
        for level in SHOWN:
            entry = own.get(level)
            usual = entry is not None and entry["episodes"] == levels.N_EPISODES * entry["seeds"]
            cells.append(
                "" if entry is None else f"{entry['success']:.3f}" + ("" if usual else f" ({entry['episodes']})")
            )
        lines.append(f"| {method} | {first['steps'] or ''} | {first['seeds']} | {' | '.join(cells)} |")
    return "\n".join(lines)
