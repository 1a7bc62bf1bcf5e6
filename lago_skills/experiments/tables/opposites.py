"""Do latents tell a sentence from its opposite? `lago evaluate STUDY --table opposites`.

Twenty pairs, each with a true paraphrase, before and after the text head g, and which of the library's skills is nearest to each.
The sentences are in `data/opposites.json`; the text head has met their words, not these sentences (`overlap` says which it has).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import ArtifactCorrupt
from lago_skills.experiments.cells import Cell, Column, Row, Schema
from lago_skills.experiments.table import Choice, Grid, Opener, Results, Table

PAIRS_FILE = Path("data/opposites.json")
WHENS = ("before", "after")
"""The text head."""
SCHEMA = Schema(
    "opposites",
    (
        Column("sentence"),
        Column("opposite"),
        Column("paraphrase"),
        *(
            column
            for when in WHENS
            for column in (
                Column(f"opposite_{when}", float, "cosine of the sentence to its opposite"),
                Column(f"paraphrase_{when}", float, "cosine of the sentence to its paraphrase"),
                Column(f"skill_{when}", about="the library's skill that is nearest to the sentence"),
                Column(f"opposite_skill_{when}", about="the one that is nearest to the opposite"),
            )
        ),
    ),
    keys=("sentence",),
    form="SENTENCE",
    label="{sentence}".format_map,
)
Map = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(N, D) sentence embeddings -> (N, Z) unit vectors."""


@dataclass(frozen=True)
class Opposites:
    """Embeddings (20, D) of sentences, their opposites and their paraphrases, and of a library's skills (n, D)."""

    texts: list[list[str]]
    sentences: NDArray[np.float32]
    opposites: NDArray[np.float32]
    paraphrases: NDArray[np.float32]
    skills: dict[str, NDArray[np.float32]]

    def table(self, latents: Map) -> list[dict[str, Any]]:
        """A row for each pair: cosines to opposite and paraphrase, and the nearest skill of each, before and after."""
        rows: list[dict[str, Any]] = [
            {"sentence": one, "opposite": other, "paraphrase": same} for one, other, same in self.texts
        ]
        names, vectors = list(self.skills), np.stack(list(self.skills.values()))
        for when, maps in zip(WHENS, (_unit, latents), strict=True):
            one, other, same = maps(self.sentences), maps(self.opposites), maps(self.paraphrases)
            known = maps(vectors)
            nearest, nearest_other = _nearest(one, known), _nearest(other, known)
            for number, row in enumerate(rows):
                row[f"opposite_{when}"] = round(float(one[number] @ other[number]), 3)
                row[f"paraphrase_{when}"] = round(float(one[number] @ same[number]), 3)
                row[f"skill_{when}"] = names[nearest[number]]
                row[f"opposite_skill_{when}"] = names[nearest_other[number]]
        return rows

    def overlap(self, trained: list[str]) -> list[str]:
        """Which of the sentences are among those that the text head was trained on."""
        known = {text.casefold() for text in trained}
        return [text for entry in self.texts for text in entry if text.casefold() in known]


def _nearest(queries: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.argmax(queries @ known.T, axis=1)


def _unit(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def separation(rows: Sequence[Mapping[str, Any]], when: str) -> dict[str, float]:
    """Over all pairs: mean cosine to opposite and paraphrase, and the share (`told`) whose paraphrase is the nearer of the two."""
    opposite = np.array([row[f"opposite_{when}"] for row in rows])
    paraphrase = np.array([row[f"paraphrase_{when}"] for row in rows])
    return {
        "opposite": float(opposite.mean()),
        "paraphrase": float(paraphrase.mean()),
        "told": float((paraphrase > opposite).mean()),
    }


def load(root: Path, skills: dict[str, NDArray[np.float32]]) -> Opposites:
    """The pairs, embedded.

    Raises:
        ArtifactCorrupt: the file is missing or does not hold triples of sentences.
    """
    from lago_skills.text.embed import embed

    path = root / PAIRS_FILE
    try:
        texts: list[list[str]] = json.loads(path.read_text(encoding="utf-8"))
        flat = embed([text for one, other, same in texts for text in (one, other, same)])
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactCorrupt(
            f"pairs of opposites {str(path)!r} cannot be read ({error}); expected a list of [sentence, opposite, paraphrase]; "
            "restore the file"
        ) from error
    return Opposites(texts, flat[0::3], flat[1::3], flat[2::3], skills)


class OppositesTable(Table):
    """All pairs, for a decoder and its library, which are made if they are not there.

    No column says which seed a row is of: the file has the pairs as they were measured last.
    """

    schema = SCHEMA
    lasting = False

    def cells(self, choice: Choice) -> list[Cell]:
        """One for all pairs: of the first seed and number of demonstrations."""
        unused = ("methods", "tasks", "episodes")
        choice.refuse_all(unused, "--table opposites with", "--seeds, --demos and --json alone")
        seed, demos = choice.seeds_of()[0], choice.demos_of(self.space.study)[0]
        return [Cell(f"{demos}/{seed}", (("demos", demos), ("seed", seed)))]

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        """A row for each pair."""
        replicate = self.replicate(cell["seed"], cell["demos"])
        guide, embeddings = replicate.guide, replicate.labelled.embeddings
        skills = {skill.sentence: embeddings[skill.sentence] for skill in guide.library.list()}
        return [SCHEMA.row(**entry) for entry in load(self.space.root, skills).table(guide.decoder.latents)]

    def message(self, rows: list[Row]) -> str:
        """How many are told apart."""
        return f"told apart {separation(rows, 'after')['told']:.2f}"

    def results(self, rows: list[Row]) -> Results:
        """The pairs, and means over them."""
        means = {when: separation(rows, when) for when in WHENS}
        lines: list[list[str]] = []
        for row in rows:
            for when in WHENS:
                first = [row["sentence"], row["opposite"], row["paraphrase"]] if when == "before" else ["", "", ""]
                lines.append([*first, f"{when} {row[f'opposite_{when}']:.2f} {row[f'paraphrase_{when}']:.2f}"])
            lines.append([f"  nearest: {row['skill_after']}", f"  {row['opposite_skill_after']}", "", ""])
        printed: list[Grid | str] = [Grid(("sentence", "opposite", "paraphrase", ""), lines, wrap=True)]
        for when, mean in means.items():
            cosines = f"cosine {mean['opposite']:.2f} to the opposite, {mean['paraphrase']:.2f} to the paraphrase"
            printed.append(f"{when} g: {cosines}, told apart {mean['told']:.2f}")
        return Results([*rows], means, printed)


def openers() -> dict[str, Opener]:
    """This table."""
    return {"opposites": OppositesTable}
