"""docs/architecture.md and its picture, from the imports as they are: `python -m scripts.architecture --write`; without `--write`, whether they are current.

The layers are those of import-linter's contract in pyproject.toml; boxes are packages, gray lines imports that no longer way implies, and the
coloured ones three walks: of an observation, of a language model's answer and of a study. Each step of a walk must be an import that is there.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import grimp

ROOT = Path(__file__).parent.parent
PAGE, PICTURE = ROOT / "docs/architecture.md", ROOT / "docs/architecture.svg"
PACKAGE = "lago_skills"
WIDTH, ROW, TOP, LABEL = 1180, 74, 40, 96
BOX_HEIGHT = 34


@dataclass(frozen=True)
class Walk:
    """Modules that a value passes, in its order."""

    name: str
    about: str
    colour: str
    modules: tuple[str, ...]


WALKS = (
    Walk(
        "an observation",
        "From a step of the environment to the action of the learner, at run time: no language model, no text model, no network.",
        "#1b6ca8",
        (
            "rl.loop",
            "rl.envs",
            "rl.world_problem",
            "rl.guidance.advisers",
            "guide.guides",
            "worlds.grounding",
            "playbook",
            "words.words_plan",
            "library",
            "library.library",
            "library.index",
            "decoder.trained_decoder",
            "prior",
            "rl.guidance.advice",
            "rl.sac.agent",
        ),
    ),
    Walk(
        "an answer",
        "From the question to a language model to the skills that its answer names, offline.",
        "#b5542b",
        (
            "commands.plan",
            "commands.plan_asking",
            "stages.plan",
            "planner.ask",
            "planner.requests",
            "llm.live",
            "llm.connection",
            "llm.reply",
            "llm.transcripts",
            "planner.parse",
            "playbook",
            "planner.lint",
            "stages.segment",
            "text.embed",
            "stages.build",
            "guide.bundle",
        ),
    ),
    Walk(
        "a study",
        "From a study file to its artifacts.",
        "#4d8b31",
        (
            "flows.main",
            "commands.cli",
            "stages.workspace",
            "study",
            "worlds.world",
            "flows.run",
            "commands.stages",
            "stages.train",
            "stages.job",
            "artifacts.folder",
        ),
    ),
)


def full(module: str) -> str:
    """A module's name with its root package."""
    return f"{PACKAGE}.{module}"


def package_of(module: str) -> str:
    """The box that a module is in: `lago_skills.rl`, `lago_skills.core`, `flows`."""
    parts = module.split(".")
    return parts[0] if parts[0] != PACKAGE else ".".join(parts[:2])


def layers() -> list[list[str]]:
    """Packages of each layer, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (contract,) = [each for each in contracts if each["type"] == "layers"]
    return [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]


def summary(module: str) -> str:
    """The first sentence of a module's docstring."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def check_walk(walk: Walk, graph: grimp.ImportGraph) -> None:
    """Refuse a walk with a module that is not there, or that no module before it imports or is imported by.

    Raises:
        SystemExit: naming the step.
    """
    names = [full(module) for module in walk.modules]
    for number, name in enumerate(names):
        if name not in graph.modules:
            raise SystemExit(f"walk of {walk.name}: found module {name!r}; expected one that is there; correct WALKS")
        linked = graph.find_modules_directly_imported_by(name) | graph.find_modules_that_directly_import(name)
        if number and not linked & set(names[:number]):
            raise SystemExit(
                f"walk of {walk.name}: found {name!r} without an import to or from a module before it; expected one; correct WALKS"
            )


def edges(graph: grimp.ImportGraph, packages: set[str]) -> set[tuple[str, str]]:
    """Imports between packages that no longer way of imports implies."""
    direct: dict[str, set[str]] = defaultdict(set)
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            one, two = package_of(module), package_of(other)
            if one != two and one in packages and two in packages:
                direct[one].add(two)
    reach: dict[str, set[str]] = {}

    def reachable(package: str) -> set[str]:
        if package not in reach:
            reach[package] = set().union(*({each} | reachable(each) for each in direct[package]))
        return reach[package]

    return {
        (one, two)
        for one in packages
        for two in direct[one]
        if not any(two in reachable(other) for other in direct[one] if other != two)
    }


def places(rows: list[list[str]]) -> dict[str, tuple[float, float, float]]:
    """Centre and width of each box."""
    found: dict[str, tuple[float, float, float]] = {}
    for number, row in enumerate(rows):
        room = (WIDTH - LABEL) / len(row)
        width = min(room - 20, 250)
        for column, package in enumerate(row):
            found[package] = (LABEL + room * (column + 0.5), TOP + ROW * (number + 0.5), width)
    return found


def draw(rows: list[list[str]], lines: set[tuple[str, str]]) -> str:
    """The picture as SVG."""
    at = places(rows)
    height = TOP + ROW * len(rows) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, walk in enumerate(WALKS):
        parts.append(
            f'<text x="{LABEL + 20 + 240 * number}" y="22" font-size="14" fill="{walk.colour}">&#9632; the way of {walk.name}</text>'
        )
    for one, two in sorted(lines):
        (x1, y1, _), (x2, y2, _) = at[one], at[two]
        parts.append(
            f'<line x1="{x1:.0f}" y1="{y1 + BOX_HEIGHT / 2:.0f}" x2="{x2:.0f}" y2="{y2 - BOX_HEIGHT / 2:.0f}" stroke="#cccccc"/>'
        )
    stops: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for walk in WALKS:
        visited: list[str] = []
        for module in walk.modules:
            package = package_of(full(module))
            if not visited or visited[-1] != package:
                visited.append(package)
        for number, package in enumerate(visited, 1):
            stops[package].append((walk.colour, str(number)))
    for package, (x, y, width) in at.items():
        parts += [
            f'<rect x="{x - width / 2:.0f}" y="{y - BOX_HEIGHT / 2:.0f}" width="{width:.0f}" height="{BOX_HEIGHT}" rx="5" fill="#f4f1ea" stroke="#888888"/>',
            f'<text x="{x - width / 2 + 10:.0f}" y="{y + 5:.0f}" font-size="14">{escape(package.removeprefix(f"{PACKAGE}."))}</text>',
        ]
        for number, (colour, text) in enumerate(reversed(stops[package])):
            centre = x + width / 2 - 14 - 22 * number
            parts += [
                f'<circle cx="{centre:.0f}" cy="{y:.0f}" r="9" fill="{colour}"/>',
                f'<text x="{centre:.0f}" y="{y + 4:.0f}" font-size="11" fill="white" text-anchor="middle">{text}</text>',
            ]
    return "\n".join([*parts, "</svg>", ""])


def table(rows: list[list[str]], graph: grimp.ImportGraph) -> list[str]:
    """What each package is for, and how many modules it has."""
    lines = ["| package | what it is for | modules |", "|---|---|---|"]
    for row in rows:
        for package in row:
            n_modules = sum(package_of(name) == package for name in graph.modules)
            lines.append(f"| `{package.removeprefix(f'{PACKAGE}.')}` | {summary(package)} | {n_modules} |")
    return lines


def page(rows: list[list[str]], graph: grimp.ImportGraph) -> str:
    """The page in Markdown."""
    lines = [
        "# Architecture",
        "",
        "Made by `python -m scripts.architecture --write` from the imports as they are; `make check` refuses a page that is not current.",
        "",
        "Imports go downwards, from layer to layer, and have no circle (checked by import-linter). Numbers in a box say when each of the three walks below",
        "passes it.",
        "",
        "![Packages by layer, imports between them and three walks](architecture.svg)",
        "",
        *table(rows, graph),
    ]
    for walk in WALKS:
        lines += ["", f"## The way of {walk.name}", "", walk.about, ""]
        for number, module in enumerate(walk.modules, 1):
            path = full(module).replace(".", "/")
            file = f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"
            lines.append(f"{number}. [`{module}`](../{file}): {summary(full(module))}")
    return "\n".join([*lines, ""])


def main(arguments: list[str]) -> int:
    """Write, or check; returns the exit code."""
    graph = grimp.build_graph(PACKAGE, "flows")
    for walk in WALKS:
        check_walk(walk, graph)
    rows = layers()
    wanted = {PAGE: page(rows, graph), PICTURE: draw(rows, edges(graph, {name for row in rows for name in row}))}
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--write" in arguments:
        for path, text in wanted.items():
            path.write_text(text, encoding="utf-8")
        return 0
    for path in stale:
        print(
            f"{path.relative_to(ROOT)}: found another text than the imports give; expected the same; run: python -m scripts.architecture --write"
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
