"""Which task a sentence asks for: sentence embeddings compared with recorded wordings. NumPy only, no text model.

Cosine similarity alone takes "open the drawer" and "close the drawer" for the same thing: what two sentences are about
outweighs what they want done. Ridge regression from embeddings to tasks learns, from the wordings, the few directions that
tell tasks from each other; its scores are blended with the nearest wording's cosine, which knows better what fits no task.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import ShapeError

RIDGE = 0.3
COSINE_SHARE = 0.5


@dataclass(frozen=True)
class Match:
    """The answer to one sentence."""

    task: str | None
    """None where no playbook is near."""
    nearest: str
    score: float
    runner_up: str
    runner_up_score: float


@dataclass(frozen=True)
class WordingIndex:
    """Embedded wordings of tasks, what was learned from them, and the score below which no playbook is near."""

    tasks: tuple[str, ...]
    embeddings: NDArray[np.float32]  # (N, D), unit rows
    labels: NDArray[np.int64]  # (N,), index into tasks
    weights: NDArray[np.float32]  # (D + 1, n_tasks)
    threshold: float

    @staticmethod
    def fit(wordings: dict[str, NDArray[np.float32]], unrelated: NDArray[np.float32]) -> WordingIndex:
        """Learn from (n, D) embeddings of each task's wordings and of sentences that fit no task.

        The threshold is where as many of the unrelated sentences are let in as of the wordings are turned away, each wording
        judged by all the others (leave one out).

        Raises:
            ShapeError: fewer than two wordings of a task.
        """
        few = [task for task, rows in wordings.items() if len(rows) < 2]
        if few or not wordings:
            raise ShapeError(
                f"found fewer than two wordings of {', '.join(few) or 'any task'}; expected more, to learn what tells tasks apart; "
                "record them with: lago plan STUDY --live"
            )
        tasks = tuple(wordings)
        rows = np.concatenate([wordings[task] for task in tasks]).astype(np.float64)
        labels = np.concatenate([np.full(len(wordings[task]), i) for i, task in enumerate(tasks)])
        x = np.concatenate([np.concatenate([rows, unrelated]), np.ones((len(rows) + len(unrelated), 1))], axis=1)
        y = np.zeros((len(x), len(tasks)))
        y[np.arange(len(rows)), labels] = 1.0
        inverse = np.linalg.inv(x.T @ x + RIDGE * np.eye(x.shape[1]))
        weights = inverse @ x.T @ y
        hat = np.einsum("nd,de,ne->n", x, inverse, x)
        fitted = x @ weights
        left_out = (fitted - hat[:, None] * y) / (1.0 - hat)[:, None]  # what each row's score is without that row
        cosines = np.concatenate([rows, unrelated]) @ rows.T
        np.fill_diagonal(cosines[: len(rows)], -1.0)
        scores = _blend(left_out, cosines, labels, len(tasks))
        right = scores[: len(rows)].max(axis=1)
        wrong = scores[len(rows) :].max(axis=1)
        return WordingIndex(
            tasks, rows.astype(np.float32), labels, weights.astype(np.float32), _threshold(right, wrong)
        )

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) embeddings -> (B, n_tasks) scores, around 1 for a sentence that surely asks for the task."""
        rows = embeddings.astype(np.float64)
        fitted = np.concatenate([rows, np.ones((len(rows), 1))], axis=1) @ self.weights.astype(np.float64)
        return _blend(fitted, rows @ self.embeddings.T.astype(np.float64), self.labels, len(self.tasks))

    def match(self, embeddings: NDArray[np.float32]) -> list[Match]:
        """(B, D) embeddings -> the task that each sentence asks for, with its score and the runner-up."""
        matches: list[Match] = []
        for row in self.scores(embeddings):
            order = np.argsort(-row, kind="stable")
            first, second = int(order[0]), int(order[min(1, len(order) - 1)])
            near = self.tasks[first] if row[first] >= self.threshold else None
            matches.append(Match(near, self.tasks[first], float(row[first]), self.tasks[second], float(row[second])))
        return matches


def _blend(
    fitted: NDArray[np.float64], cosines: NDArray[np.float64], labels: NDArray[np.int64], n_tasks: int
) -> NDArray[np.float64]:
    nearest = np.full((len(cosines), n_tasks), -1.0)
    for task in range(n_tasks):
        nearest[:, task] = cosines[:, labels == task].max(axis=1)
    return (1.0 - COSINE_SHARE) * fitted + COSINE_SHARE * nearest


def _threshold(right: NDArray[np.float64], wrong: NDArray[np.float64]) -> float:
    """Where the two error rates meet."""
    if not len(wrong):
        return float(np.quantile(right, 0.02))
    candidates = np.sort(np.concatenate([right, wrong]))
    turned_away = np.searchsorted(np.sort(right), candidates, side="left") / len(right)
    let_in = 1.0 - np.searchsorted(np.sort(wrong), candidates, side="left") / len(wrong)
    return float(candidates[int(np.argmin(np.maximum(turned_away, let_in)))])


def variants(texts: list[str], terms: tuple[tuple[str, ...], ...], n: int, seed: int = 0) -> list[str]:
    """Up to n other forms of each text, with words replaced by others that mean the same; the texts themselves come first.

    Args:
        texts: Wordings of one task.
        terms: Sets of interchangeable words or phrases.
        n: Variants wanted of each text; texts with few known words yield fewer.
        seed: Of the choice of words.
    """
    rng = random.Random(seed)
    groups: dict[str, tuple[str, ...]] = {}
    for group in terms:
        for word in group:
            groups.setdefault(word.lower(), group)
    if not groups:
        return list(dict.fromkeys(texts))
    longest_first = sorted(groups, key=len, reverse=True)
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, longest_first)) + r")\b", re.IGNORECASE)

    def other(found: re.Match[str]) -> str:
        word = found.group(1)
        choice = rng.choice(groups[word.lower()])
        return choice[:1].upper() + choice[1:] if word[:1].isupper() else choice

    made = dict.fromkeys(texts)
    for text in texts:
        for _ in range(n):
            made.setdefault(pattern.sub(other, text))
    return list(made)
