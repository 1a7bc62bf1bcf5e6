"""Do latents tell a sentence from its opposite? `lago evaluate STUDY --table opposites`.

Twenty pairs, each with a true paraphrase, before and after the text head g, and which of the library's skills is nearest to each.
The sentences are in `data/opposites.json`; the text head has met their words, not these sentences (`overlap` says which it has).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import write_text
from lago_skills.errors import ArtifactCorrupt

if TYPE_CHECKING:
    from lago_skills.experiments.tables.zero_shot import Variant

PAIRS_FILE, RESULTS = Path("data/opposites.json"), Path("data/results/opposites.csv")
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
        for when, maps in (("before", _unit), ("after", latents)):
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


def told(rows: list[dict[str, Any]], when: str) -> dict[str, float]:
    """Over all pairs: mean cosine to opposite and paraphrase, and the share whose paraphrase is the nearer of the two."""
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


def measure(made: Variant) -> list[dict[str, Any]]:
    """The table for a decoder and its library, which are made if they are not there; it is kept in `data/results/opposites.csv`."""
    from lago_skills.stages import segment

    guide, root = made.guide, made.space.root
    embeddings = segment.load(made.space)[1]
    skills = {skill.sentence: embeddings[skill.sentence] for skill in guide.library.list()}
    rows = load(root, skills).table(guide.decoder.latents)
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    (root / RESULTS).parent.mkdir(parents=True, exist_ok=True)
    write_text(root / RESULTS, text.getvalue())
    return rows


def read(path: Path) -> list[dict[str, Any]]:
    """The table as it was kept."""
    with path.open(newline="", encoding="utf-8") as stream:
        found: list[dict[str, Any]] = list(csv.DictReader(stream))
    cosines = [f"{what}_{when}" for what in ("opposite", "paraphrase") for when in ("before", "after")]
    return [{**row, **{name: float(row[name]) for name in cosines}} for row in found]
