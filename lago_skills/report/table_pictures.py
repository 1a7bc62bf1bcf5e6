"""Pictures of the tables that say whether the skills act, for the report: of the rows that are on record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lago_skills.artifacts.folder import fingerprint
from lago_skills.experiments.cells import Row
from lago_skills.experiments.result_file import ResultFile
from lago_skills.experiments.tables import latent as latent_table
from lago_skills.experiments.tables import skill_changes
from lago_skills.study import Study
from lago_skills.worlds import DEFAULT

SHOWN = ("disabled", "opposite", "neighbour", "slowly", "from the left")


def recipe(study: Study, root: Path) -> dict[str, str]:
    """What the pictures are drawn from, by table; nothing for studies that these tables are not about."""
    tables = {"latent": _latent(study, root), "skills": _skills(study, root)}
    return {name: fingerprint([dict(row) for row in rows]) for name, rows in tables.items() if rows}


def pictures(study: Study, root: Path) -> dict[str, bytes]:
    """PNG images by title."""
    from lago_skills.report import plots

    images: dict[str, bytes] = {}
    if rows := _latent(study, root):
        groups = study.load_world().groups
        whole = [entry for entry in latent_table.summary(rows) if entry["tasks"] == len(groups[entry["level"]])]
        entries = sorted(whole, key=_rank)  # a part of a group says little
        names = list(dict.fromkeys(_name(entry) for entry in entries))
        values = {level: [_value(entries, name, level) for name in names] for level in latent_table.GROUPS}
        images["Plans in numbers and in words, followed by a controller of a few lines and by the library"] = (
            plots.horizontal_bars(names, values, "success at any step")
        )
    if rows := _skills(study, root):
        lost = "success" if max(row["subtasks"] for row in rows) <= 1.0 else "things done"
        images[f"What it costs to change a skill: {lost} lost on its worst task"] = _costs(rows)
    return images


def _latent(study: Study, root: Path) -> list[Row]:
    if study.name not in (DEFAULT, latent_table.WORDS_STUDY):
        return []
    return ResultFile.of(latent_table.SCHEMA, root).rows()


def _skills(study: Study, root: Path) -> list[Row]:
    return [row for row in ResultFile.of(skill_changes.SCHEMA, root).rows() if row["study"] == study.name]


def _rank(entry: dict[str, Any]) -> tuple[Any, ...]:
    """Plans as they are before those with faults, controllers before the library."""
    names = (entry["noise"], entry["plan_form"], entry["actor"], entry["prior_of"])
    return entry["noise"] != "", names[1], names[2] == latent_table.LIBRARY, *names, entry["steps"]


def _name(entry: dict[str, Any]) -> str:
    learner = f", prior of {entry['prior_of']}, {entry['steps']:,} steps" if entry["prior_of"] else ""
    return f"{entry['plan_form']}, {entry['actor']}{learner}{', ' * bool(entry['noise'])}{entry['noise']}"


def _value(entries: list[dict[str, Any]], name: str, level: str) -> float:
    return next((e["success"] for e in entries if _name(e) == name and e["level"] == level), float("nan"))


def _costs(rows: list[Row]) -> bytes:
    from lago_skills.report import plots

    as_is = {(row["skill"], row["task"], row["seed"]): row["subtasks"] for row in rows if row["change"] == "as it is"}
    skills = list(dict.fromkeys(row["skill"] for row in rows))
    values = np.full((len(skills), len(SHOWN)), np.nan)
    for row in rows:
        key = (row["skill"], row["task"], row["seed"])
        if row["change"] in SHOWN and key in as_is:
            place = skills.index(row["skill"]), SHOWN.index(row["change"])
            values[place] = np.nanmax([values[place], as_is[key] - row["subtasks"]])
    return plots.grid([_short(skill) for skill in skills], list(SHOWN), values)


def _short(skill: str) -> str:
    """The first words of a sentence, and how it ends."""
    words, _, ending = skill.rpartition(", until ")
    return f"{' '.join(words.split()[:7])} ..., until {ending}"
