"""Documents that are generated: `python -m tests.docs` checks them, `python -m tests.docs --write` makes them."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

os.environ["COLUMNS"] = "100"

from lago_skills.commands.cli import parser
from lago_skills.experiments.tables.specs import SPECS
from scripts import command_reference, study_reference
from tests import (
    doc_ball_push,
    doc_compared,
    doc_frontier,
    doc_growth,
    doc_kitchen,
    doc_metaworld_altered,
    doc_serving,
    doc_tables,
)
from tests.conftest import ROOT

COURIER = {
    "courier-env": "courier.py",
    "courier-record": "record.py",
    "courier-study": "courier.toml",
    "courier-sceptic": "sceptic.py",
    "courier-use": "use.py",
}
"""Parts of the tutorial that are files of examples/courier."""
README_BYTES = 10_000
"""Who has to scroll reads no further."""


def parts_by_name() -> dict[str, str]:
    """Every generated part, by the name of its markers."""
    results = json.loads((ROOT / "data/results/demo.json").read_text(encoding="utf-8"))
    parts = {
        "table": doc_tables.table(results),
        "stages": doc_tables.stages(results),
        "help": f"```text\n{parser().format_help()}```",
    }
    for name, make in (
        ("repair", doc_tables.repair),
        ("wordings", doc_tables.wordings),
        ("library", doc_tables.library),
        ("decoder", doc_tables.cost),
        ("train", doc_tables.speed),
    ):
        parts[name] = make(json.loads((ROOT / f"data/results/{name}.json").read_text(encoding="utf-8")))
    parts |= {name: doc_tables.training(name) for name in SPECS} | {
        "fading": doc_tables.fading(),
        "examples": doc_tables.examples(),
    }
    parts |= {
        "zero-shot": doc_tables.zero_shot_means(),
        "serving": doc_serving.serving(
            *(
                json.loads((ROOT / f"data/results/{name}.json").read_text(encoding="utf-8"))
                for name in ("guide", "serve")
            )
        ),
        "latent": doc_tables.latent(),
        "learners": doc_tables.learners(),
        "skills": doc_tables.skills(),
        "levels": doc_ball_push.levels_table(),
        "sequences": doc_kitchen.sequence_rows(),
        "kitchen-skills": doc_kitchen.kitchen_skills(),
        "altered": doc_metaworld_altered.without_plans(),
        "altered-plans": doc_metaworld_altered.by_plans(),
        "frontier": doc_frontier.means(),
        "frontier-tasks": doc_frontier.by_task(),
        "growth": doc_growth.streams(),
        "growth-stages": doc_growth.stages(),
        "shadowing": doc_growth.crowds(),
        "ablations": doc_tables.ablation_table(),
        "opposites": doc_tables.opposite_pairs(),
        "study-reference": study_reference.page(),
        "command-reference": command_reference.page(),
    }
    parts |= doc_compared.parts()
    parts |= {name: _fenced(ROOT / "examples/courier" / file) for name, file in COURIER.items()}
    return parts


def _fenced(path: Path) -> str:
    """A file as a block of code."""
    language = {".py": "python", ".toml": "toml"}[path.suffix]
    return f"<!-- run by tests/test_tutorial.py -->\n```{language}\n{path.read_text(encoding='utf-8').rstrip()}\n```"


def documents() -> dict[Path, str]:
    """README.md and every page of docs/ with their generated parts made anew, by path.

    Raises:
        ValueError: a part has no place, or two; a link leads nowhere; the README is too long.
    """
    pages = {
        path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    }
    for name, part in parts_by_name().items():
        pattern, places = rf"(<!-- {name}:start -->\n).*?(<!-- {name}:end -->)", 0
        for path, text in pages.items():
            pages[path], n = re.subn(pattern, lambda m, part=part: f"{m[1]}{part}\n{m[2]}", text, flags=re.S)
            places += n
        if places != 1:
            raise ValueError(f"found the markers of {name!r} in {places} places; expected one")
    for path, text in pages.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            if not (path.parent / target).exists():
                raise ValueError(f"{path.relative_to(ROOT)}: found a link to {target!r}; expected a file")
    if len(pages[ROOT / "README.md"].encode()) > README_BYTES:
        raise ValueError(f"README.md has more than {README_BYTES:,} bytes; move what is long to docs/")
    return pages


def main() -> int:
    """Check, or write."""
    stale = {path: text for path, text in documents().items() if path.read_text(encoding="utf-8") != text}
    for path, text in stale.items():
        if "--write" in sys.argv:
            path.write_text(text, encoding="utf-8")
        else:
            sys.stderr.write(
                f"{path.relative_to(ROOT)} is not what the results and the program say; run: python -m tests.docs --write\n"
            )
    return int(bool(stale) and "--write" not in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
