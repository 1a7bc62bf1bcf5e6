"""What the words of a plan mean in metres: where steps headed and ended in the demonstrations, remembered by skill and by how things lay.

Every demonstrated segment is one entry: its skill, its relation, the offset that its mover headed for and the one at which it ended, and
where the effector then was from the thing. An offset is asked for with the weights of the skills that the library retrieved and with
the present lie of the anchors, and is a kernel average over entries of the same word (Nadaraya 1964, Watson 1964):

    o = sum_i w_skill(i) K(lie_i, lie) o_i / sum_i w_skill(i) K(lie_i, lie)

so that a skill that is edited, disabled or replaced takes its meaning with it, and a word of which the retrieved skills know nothing falls
back to what the word meant elsewhere.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.core import Episode, Playbook, Relation, Segment, Vocabulary
from lago_skills.errors import ArtifactCorrupt, PlanError
from lago_skills.words.geometry import Floats, Located, in_space, locate, relation_of, subjects_of, to_frame
from lago_skills.words.order import Order
from lago_skills.worlds.grounding import AnchoredGrounding

if TYPE_CHECKING:
    from lago_skills.words.alignment import Alignment

ENDS_FILE, NAMES_FILE = "ends.safetensors", "ends.json"
Which = Literal["heads", "ended", "contact"]
LIE_STD = np.array([0.08, 0.25, 0.08])
"""How alike two lies of the anchors must be: height of the thing, distance to the place, difference in height; metres."""
OTHER_THING = 12.0
"""What being about another of several named things counts for, in squared deviations."""
OTHER_LIE = 4.0
"""What having a place, or none, counts for, in squared deviations, halved."""
BEYOND_M, BEYOND_LAST_M = 0.03, 0.06
"""A target counts as at most so far beyond where its step was seen to end; the last step's end is cut off by success."""
LEAST_WEIGHT, OTHER_MOVER, OWN_SHARE, WIDER = 1e-3, 0.05, 0.2, 5.0
"""Weight of skills that were not retrieved, and of entries whose mover is another; below `OWN_SHARE` of own experience the lie matters `WIDER`."""
TOLERANCE_M = (0.028, 0.035)
"""Least and greatest learned tolerance of the way from one step to the next."""
SLACK_M, QUANTILE, OWN_QUANTILE = 0.005, 0.95, 0.85
HAND_SLACK = (0.1, 0.02)
"""How far the hand may be beyond the demonstrated range: its opening, and the change of it in a step."""


@dataclass(frozen=True)
class Average:
    """A kernel average over n entries of one word, of some retrieved skills."""

    lie: Floats  # (n, 4)
    spread: Floats  # (3,)
    share: Floats  # (n,)
    column: Floats  # (n, 3)
    other_thing: Floats | None  # (n,), what being about another thing counts for, where things have names

    def __call__(self, lie: Floats) -> Floats:
        """(B, 4) lies of the anchors -> (B, 3) offsets; zeros of no entry."""
        if not len(self.lie):
            return np.zeros((len(lie), 3))
        apart: Floats = (((lie[:, None, :3] - self.lie[None, :, :3]) / self.spread) ** 2).sum(axis=2)
        apart = apart + OTHER_LIE * (lie[:, None, 3] != self.lie[None, :, 3])
        if self.other_thing is not None:
            apart = apart + self.other_thing
        near = np.exp(-0.5 * (apart - apart.min(axis=1, keepdims=True))) * self.share  # (B, n)
        averages = near @ self.column / near.sum(axis=1, keepdims=True)
        # Without a place there is no direction but up, unless the frame is always the same.
        return averages if self.other_thing is not None else averages * np.where(lie[:, 3:] > 0, 1.0, (0.0, 0.0, 1.0))


class Averages:
    """The averages of a plan's steps, for the weights that were asked with last: those of a library that does not change. Safe to use from several threads.

    An array of weights is known by its identity: it is not to be changed in place.
    """

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._known: tuple[Floats | None, dict[tuple[Any, ...], Average]] = (None, {})

    def __call__(self, which: Which, word: str, k: int, weights: Floats, *, by_thing: bool, thing: int) -> Average:
        """Of step k, with (n_steps, n_skills) weights; see `Ends.average`."""
        of, known = self._known
        if of is not weights:
            known = {}
            self._known = weights, known
        key = (which, word, k, by_thing, thing)
        average = known.get(key)
        if average is None:
            average = known[key] = self._ends.average(which, word, weights[k], by_thing=by_thing, thing=thing)
        return average


@dataclass(frozen=True)
class Ends:
    """All demonstrated ends. N entries, H numbers of the hand."""

    skills: tuple[str, ...]
    """Sentences, by number."""
    words: tuple[str, ...]
    """Words of relations, by number."""
    skill: NDArray[np.int64]  # (N,)
    word: NDArray[np.int64]  # (N,)
    by_thing: NDArray[np.bool_]  # (N,), whether the thing was to come somewhere, and not the effector
    lie: Floats  # (N, 4)
    fitted: Floats  # (N, 3), what the demonstrator headed for: what a decoder is trained towards
    heads: Floats  # (N, 3), what to head for when the step is done elsewhere
    ended: Floats  # (N, 3)
    contact: Floats  # (N, 3), the acting point from the thing at the end
    tolerance: Floats  # (n_skills,), metres
    held: Floats  # (2, H), least and greatest numbers of the hand while something is held
    order: Order = field(default_factory=lambda: Order(()))
    """What followed what in the demonstrated plans."""
    thing: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # (N,)
    """Numbers of the anchors that entries are about, where anchors are named things; else (0,)."""
    held_thing: Floats = field(default_factory=lambda: np.zeros((0, 2, 0)))  # (n_anchors, 2, H)
    """The same as `held` of each named thing, NaN where nobody held it; else empty."""

    @cached_property
    def raised(self) -> float:
        """Mean height above the ground at which demonstrated steps ended above something, metres."""
        above = self.word == self.number("above")
        return float((self.heads[above, 2] + self.lie[above, 0]).mean()) if above.any() else 0.0

    def number(self, word: str) -> int:
        """A word's number, -1 where no demonstration shows it."""
        return self.words.index(word) if word in self.words else -1

    def knows(self, word: str, *, by_thing: bool) -> bool:
        """Whether a demonstration shows this word of this mover."""
        return bool(((self.word == self.number(word)) & (self.by_thing == by_thing)).any())

    def offsets(
        self, which: Which, word: str, lie: Floats, weights: Floats, *, by_thing: bool, thing: int = -1
    ) -> Floats:
        """(B, 4) lies of the anchors and (n_skills,) weights of the retrieved skills -> (B, 3) offsets; zeros for a word that nobody showed.

        Where anchors are named things, `thing` is the number of the one that the step is about.
        """
        return self.average(which, word, weights, by_thing=by_thing, thing=thing)(lie)

    def average(self, which: Which, word: str, weights: Floats, *, by_thing: bool, thing: int = -1) -> Average:
        """What of `offsets` does not depend on the lie of the anchors."""
        rows = np.flatnonzero(self.word == self.number(word))
        own = weights[self.skill[rows]] * (self.by_thing[rows] == by_thing)
        share = (weights[self.skill[rows]] + LEAST_WEIGHT) * np.where(self.by_thing[rows] == by_thing, 1.0, OTHER_MOVER)
        spread = LIE_STD * (1.0 if len(own) and own.max() > OWN_SHARE else WIDER)
        other = OTHER_THING * (self.thing[rows] != thing) if len(self.thing) else None
        return Average(self.lie[rows], spread, share, self.column(which)[rows], other)

    def way(self, word: str, weights: Floats, thing: int) -> tuple[float, float]:
        """How far the thing was from its place when steps that bring it there began and when they ended, metres, the mean over demonstrations.

        Infinite and 0 where no demonstration shows it.
        """
        rows = np.flatnonzero((self.word == self.number(word)) & self.by_thing)
        if not len(rows):
            return np.inf, 0.0
        apart = OTHER_THING * (self.thing[rows] != thing) if len(self.thing) else np.zeros(len(rows))
        share = (weights[self.skill[rows]] + LEAST_WEIGHT) * np.exp(-0.5 * apart)
        began, ended = np.linalg.norm(self.lie[rows, 1:3], axis=1), np.linalg.norm(self.ended[rows], axis=1)
        return float(share @ began / share.sum()), float(share @ ended / share.sum())

    def supported(self, thing: int) -> NDArray[np.bool_]:
        """(n_skills,) which skills were shown with a named thing; all where things have no names, or none was shown with it."""
        if not len(self.thing) or not (self.thing == thing).any():
            return np.ones(len(self.skills), np.bool_)
        return np.isin(np.arange(len(self.skills)), self.skill[self.thing == thing])

    def hand_holding(self, thing: int) -> Floats:
        """(2, H) least and greatest numbers of the hand while this thing is held, or anything where it has no name or nobody held it."""
        own = self.held_thing[thing] if len(self.held_thing) else self.held
        return self.held if np.isnan(own).any() else own

    def column(self, which: Which) -> Floats:
        """(N, 3) offsets of one kind."""
        return {"heads": self.heads, "ended": self.ended, "contact": self.contact}[which]

    def joined(self, other: Ends, books: Iterable[Playbook]) -> Ends:
        """With the entries of more demonstrations after its own; `books` are the plans that all of them follow, in their order.

        What was learned of a skill's tolerance and of hands that hold stays as it is; the other's counts where this one knows nothing.
        """
        skills = tuple(dict.fromkeys((*self.skills, *other.skills)))
        words = tuple(dict.fromkeys((*self.words, *other.words)))
        skill = np.array([skills.index(each) for each in other.skills], np.int64)[other.skill]
        word = np.array([words.index(each) for each in other.words], np.int64)[other.word]
        columns = ("by_thing", "lie", "fitted", "heads", "ended", "contact", "thing")
        arrays: dict[str, Any] = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in columns}
        known = dict(zip(other.skills, other.tolerance, strict=True)) | dict(
            zip(self.skills, self.tolerance, strict=True)
        )
        return Ends(
            skills,
            words,
            skill=np.concatenate([self.skill, skill]),
            word=np.concatenate([self.word, word]),
            tolerance=np.array([known[each] for each in skills]),
            held=np.where(np.isfinite(self.held), self.held, other.held),
            order=Order.of(books),
            held_thing=np.where(np.isnan(self.held_thing), other.held_thing, self.held_thing),
            **arrays,
        )

    def save(self, folder: Path) -> None:
        """Write arrays as safetensors and names as JSON."""
        left_out = ("skills", "words", "order", *(() if len(self.thing) else ("thing", "held_thing")))
        arrays = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in left_out}
        save_arrays({name: np.asarray(value, np.float32) for name, value in arrays.items()}, folder / ENDS_FILE)
        names = {"skills": self.skills, "words": self.words, "plans": self.order.values()}
        text = json.dumps(names, indent=1, ensure_ascii=False)
        (folder / NAMES_FILE).write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path, vocabulary: Vocabulary) -> Ends:
        """Read what `save` wrote, about the anchors and relations of a vocabulary.

        Raises:
            ArtifactCorrupt: a file is missing or not of this form.
        """
        try:
            names = cast("dict[str, Any]", json.loads((folder / NAMES_FILE).read_text(encoding="utf-8")))
            arrays: dict[str, Any] = {
                name: value.astype(np.float64) for name, value in load_arrays(folder / ENDS_FILE).items()
            }
            for name, kind in (("skill", np.int64), ("word", np.int64), ("by_thing", np.bool_), ("thing", np.int64)):
                if name in arrays or name != "thing":
                    arrays[name] = arrays[name].astype(kind)
            order = Order.from_values(names["plans"], vocabulary)
            return Ends(skills=tuple(names["skills"]), words=tuple(names["words"]), **arrays, order=order)
        except (OSError, ValueError, KeyError, TypeError, PlanError) as error:
            raise ArtifactCorrupt(
                f"learned ends in {str(folder)!r} cannot be read ({error}); expected {ENDS_FILE} and {NAMES_FILE} as the segment stage "
                "writes them; delete the folder and segment again"
            ) from error


def segments_of(alignment: Alignment, book: Playbook) -> list[Segment]:
    """The aligned steps as segments: they tile each episode."""
    return [
        Segment(book.task_id, episode, start, stop, step, book.steps[step].sentence, "alignment")
        for episode, ends in enumerate(alignment.ends)
        for step, (start, stop) in enumerate(itertools.pairwise(ends))
    ]


def targets_in(
    episode: Episode, segment: Segment, book: Playbook, heads: Floats, grounding: AnchoredGrounding
) -> Floats:
    """(T, D) where the acting point should go at each step of a segment that headed for this offset, (3,)."""
    at = _located(episode, segment, book, grounding)
    n_steps = segment.stop - segment.start
    targets = at.effector_target(np.repeat(heads[None], n_steps + 1, axis=0))[:n_steps]
    return targets[:, : grounding.vocabulary.target_size]


def _located(episode: Episode, segment: Segment, book: Playbook, grounding: AnchoredGrounding) -> Located:
    """One more state than control steps."""
    observations = episode.observations[segment.start : segment.stop + 1].astype(np.float64)
    anchors = in_space(grounding.read(observations).anchors)
    words = grounding.vocabulary
    return locate(book.steps[segment.step], anchors, words.anchors, turning=not words.named_things)


def learn_ends(
    episodes: dict[str, list[Episode]],
    books: dict[str, Playbook],
    alignments: dict[str, Alignment],
    grounding: AnchoredGrounding,
) -> tuple[list[Segment], Ends]:
    """Segments of aligned episodes, and what they teach of ends; entry i of the ends is of segment i."""
    named = grounding.vocabulary.named_things
    segments = [item for task, alignment in alignments.items() for item in segments_of(alignment, books[task])]
    skills = tuple(dict.fromkeys(item.skill for item in segments))
    words: dict[str, None] = {}
    rows: dict[str, list[Any]] = {}
    for item in segments:
        episode, book = episodes[item.task_id][item.episode], books[item.task_id]
        at, known = _located(episode, item, book, grounding), relation_of(book.steps[item.step])
        words.setdefault(known.word)
        last = item.step == len(book.steps) - 1
        entry = {
            "skill": skills.index(item.skill),
            "word": list(words).index(known.word),
            "by_thing": known.mover == "thing",
            "lie": at.key[0],
            **_end(at, alignments[item.task_id].targets[item.step], last=last, known=known, named=named),
        }
        if named:
            entry["thing"] = subjects_of(book.steps[item.step], grounding.vocabulary.anchors)[0]
        for name, value in entry.items():
            rows.setdefault(name, []).append(value)
    arrays: dict[str, Any] = {name: np.array(values) for name, values in rows.items()}
    held = _held(episodes, books, segments, grounding)
    order = Order.of(books[task] for task in alignments)
    if named:
        arrays["held_thing"] = _held_things(episodes, books, segments, grounding)
    return segments, Ends(
        skills, tuple(words), **arrays, tolerance=np.full(len(skills), TOLERANCE_M[0]), held=held, order=order
    )


def _end(at: Located, target: Floats, *, last: bool, known: Relation, named: bool) -> dict[str, Floats]:
    first, end = at.along[:1], slice(-1, None)
    ended = to_frame((at.moving - at.anchor)[end], first)[0]
    beyond = np.clip(target - ended, -1.0, 1.0)
    if known.mover == "thing" and known.word == "at":
        # A thing is at its place when it is there; what is learned is how far past it to push, in a frame that turns with the way.
        heads = np.array([0.0 if named else np.clip(target[0], 0.0, BEYOND_LAST_M), 0.0, 0.0])
    else:
        most = BEYOND_LAST_M if last else BEYOND_M
        heads = ended + np.clip(beyond, -most, most)
    return {
        "fitted": target,
        "heads": heads,
        "ended": ended,
        "contact": to_frame((at.acting - at.thing)[end], first)[0],
    }


def _held_things(
    episodes: dict[str, list[Episode]],
    books: dict[str, Playbook],
    segments: list[Segment],
    grounding: AnchoredGrounding,
) -> Floats:
    """(n_anchors, 2, H) range of the hand in the steps after each thing was taken hold of; NaN where it never was."""
    anchors = grounding.vocabulary.anchors
    size = grounding.read(np.zeros((1, grounding.observation_size))).hand.shape[1]
    held = np.full((len(anchors), 2, size), np.nan)
    for number, name in enumerate(anchors):
        own = [item for item in segments if books[item.task_id].steps[item.step].about[:1] == (name,)]
        hand = _hands_that_hold(episodes, books, own, grounding)
        if hand:
            held[number] = np.quantile(np.concatenate(hand), [1.0 - OWN_QUANTILE, OWN_QUANTILE], axis=0)
    return held


def _held(
    episodes: dict[str, list[Episode]],
    books: dict[str, Playbook],
    segments: list[Segment],
    grounding: AnchoredGrounding,
) -> Floats:
    """(2, H) range of the hand in the steps after something was taken hold of; unbounded where nothing ever was."""
    seen = _hands_that_hold(episodes, books, segments, grounding)
    if not seen:
        size = grounding.read(np.zeros((1, grounding.observation_size))).hand.shape[1]
        return np.array([[-np.inf] * size, [np.inf] * size])
    hand = np.concatenate(seen)
    return np.quantile(hand, [1.0 - QUANTILE, QUANTILE], axis=0)


def _hands_that_hold(
    episodes: dict[str, list[Episode]],
    books: dict[str, Playbook],
    segments: list[Segment],
    grounding: AnchoredGrounding,
) -> list[Floats]:
    """(T, H) numbers of the hand in each of the segments that follow a step in which something was taken hold of."""
    seen: list[Floats] = []
    for item in segments:
        steps = books[item.task_id].steps
        if item.step and relation_of(steps[item.step - 1]).word == "holding":
            observations = episodes[item.task_id][item.episode].observations[item.start : item.stop]
            seen.append(grounding.read(observations.astype(np.float64)).hand)
    return seen
