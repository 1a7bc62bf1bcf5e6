"""Lineage: from any artifact of a study to all that it was made from, down to recorded answers and demonstrations, and the other way.

Manifests name inputs by digest, so that whatever digest of an artifact stands in a recipe is an edge; nothing else is kept.
"""

from __future__ import annotations

import difflib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from lago_skills.artifacts.folder import Manifest, read_manifest
from lago_skills.errors import StudyError
from lago_skills.stages import plan
from lago_skills.stages.train import training_runs
from lago_skills.stages.workspace import Workspace


@dataclass(frozen=True)
class Node:
    """An artifact, a recorded answer, or a file of somebody's data."""

    name: str
    digest: str
    about: str
    """When and how it was made."""


@dataclass(frozen=True)
class Lineage:
    """What is there of a study, and what was made from what."""

    nodes: dict[str, Node]
    made_from: dict[str, list[str]]
    """By name."""

    @staticmethod
    def of(space: Workspace) -> Lineage:
        """All artifacts of a study, the answers behind its playbooks and the files behind its episodes.

        Raises:
            ArtifactCorrupt: a manifest cannot be read.
        """
        nodes: dict[str, Node] = {}
        made_from: dict[str, list[str]] = {}
        manifests = dict(_manifests(space))
        by_digest: dict[str, str] = {each.digest: name for name, each in manifests.items()}
        for name, each in manifests.items():
            made = f"{each.created_at}, lago-skills {each.code_version}, {each.seconds:g} s: {each.command}"
            nodes[name] = Node(name, each.digest, made)
            inputs = [by_digest[text] for text in _texts(each.recipe) if text in by_digest]
            for source in each.recipe.get("data", ()) if each.kind == "collect" else ():
                file = f"data/{source['sha256'][:12]}"
                nodes[file] = Node(file, source["sha256"], "offline data")
                inputs.append(file)
            made_from[name] = [each for each in dict.fromkeys(inputs) if each != name]
        if "playbooks" in nodes:
            for task, known in plan.plans(space).items():
                if known.chosen is None:
                    continue
                transcript = known.chosen.transcript
                answer = f"answers/{task}"
                nodes[answer] = Node(
                    answer, transcript.id, f"{transcript.recorded_at}, {transcript.model}, {transcript.source}"
                )
                made_from["playbooks"].append(answer)
        return Lineage(nodes, made_from)

    def find(self, what: str) -> str:
        """The name of what is meant: a name, a row of the report, or the beginning of a hash.

        Raises:
            StudyError: nothing is, or several things are.
        """
        if what in self.nodes:
            return what
        parts = what.split("/")
        candidates = [f"zero-shot/{parts[0]}"] if parts[1:] == ["library"] else []
        if len(parts) == 3:
            candidates.append(f"runs/{parts[0]}__{parts[1]}__s{parts[2]}")
        candidates += [name for name, node in self.nodes.items() if len(what) >= 6 and node.digest.startswith(what)]
        known = [name for name in dict.fromkeys(candidates) if name in self.nodes]
        if len(known) != 1:
            near = difflib.get_close_matches(what, self.nodes, n=3, cutoff=0.4) or sorted(self.nodes)[:5]
            raise StudyError(
                f"found {what!r}, which is {'several things: ' + ', '.join(known) if known else 'nothing that was made'}; expected an artifact, "
                f"a row TASK/METHOD/SEED or a hash; try {', '.join(near) or 'lago run first'}"
            )
        return known[0]

    def next(self, name: str, *, down: bool) -> list[str]:
        """What it was made from; `down`: what was made from it."""
        if not down:
            return self.made_from.get(name, [])
        return [other for other, inputs in self.made_from.items() if name in inputs]

    def reached(self, start: str, *, down: bool) -> list[Node]:
        """Everything on the way, the start first."""
        order = [start]
        for name in order:
            order += [other for other in self.next(name, down=down) if other not in order]
        return [self.nodes[name] for name in order]


def _manifests(space: Workspace) -> Generator[tuple[str, Manifest]]:
    folders = {f"episodes/{task}": folder for task, folder in space.collected.items()}
    for name in ("playbooks", "segments", "phrases", "decoder", "query", "bundle", "report"):
        folders[name] = space.artifact(name)
    folders |= {f"zero-shot/{task.id}": space.artifact("zero-shot", task.id) for task in space.study.unseen}
    folders |= {f"runs/{run.name}": space.artifact("runs", run.name) for run in training_runs(space.study)}
    for name, folder in folders.items():
        manifest = read_manifest(folder)
        if manifest is not None:
            yield name, manifest


def _texts(value: Any) -> Generator[str]:
    """All texts in a recipe."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():  # pyright: ignore[reportUnknownVariableType]
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _texts(each)
