"""Other words for skills and tasks, embedded: what teaches the text head which differences between sentences matter.

A skill sentence is reworded by interchangeable words, those that a language model wrote once (`lago_skills.planner.wordings`) and
those of the motions themselves. Recorded wordings of tasks say which sentences about anything ask for the same thing;
among them are minimal pairs ("slide the window open", "slide the window shut"), and to them are added ways to say some thing and
its opposite of a few nouns.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.decoder.steps import Phrases
from lago_skills.planner.wordings import NONE, Wordings, read_wordings
from lago_skills.text.embed import embed

VERBS: tuple[tuple[str, ...], ...] = (
    ("move", "bring", "guide", "take", "steer"),
    ("lower", "bring down", "let down", "sink"),
    ("lift", "raise", "hoist", "bring up"),
    ("carry", "bring", "transport"),
)
"""Interchangeable words of motions; to them come the synonyms of the world."""
OPPOSITES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("open {}", "open up {}", "get {} open"), ("close {}", "shut {}", "push {} closed")),
    (("push {}", "shove {}", "give {} a push"), ("pull {}", "tug {}", "give {} a pull")),
    (("lift {}", "raise {}", "hoist {} up"), ("lower {}", "set {} down", "let {} down")),
    (("grasp {}", "grab {}", "take hold of {}"), ("release {}", "let go of {}", "drop {}")),
    (("lock {}", "bolt {}", "secure {}"), ("unlock {}", "unbolt {}", "undo the lock of {}")),
    (("rotate {} clockwise", "turn {} clockwise"), ("rotate {} counter-clockwise", "turn {} anticlockwise")),
    (("move {} forward", "shift {} ahead"), ("move {} backward", "shift {} back")),
    (("move {} to the left", "shift {} leftwards"), ("move {} to the right", "shift {} rightwards")),
    (("go to above {}", "stop over {}"), ("go to below {}", "stop under {}")),
    (("move towards {}", "go nearer to {}"), ("move away from {}", "go further from {}")),
    (("put {} in", "insert {}", "slot {} into place"), ("take {} out", "remove {}", "pull {} out of its place")),
    (("press {} down", "push {} downwards"), ("pull {} up", "draw {} upwards")),
    (("press {}", "hold {} pressed in"), ("release {}", "let {} spring back")),
    (
        ("reach {} with open fingers", "come to {}, fingers open"),
        ("reach {} with closed fingers", "come to {}, fingers shut"),
    ),
)
"""Ways to say a thing and ways to say its opposite."""
NOUNS = (
    ("the box", "the case"),
    ("the lid", "the cover"),
    ("the dial", "the knob"),
    ("the stick", "the rod"),
    ("the nut", "the ring"),
)
ADJECTIVES = ("open", "close")
"""Words that recorded sets take for verbs; in skill sentences they say how the hand is."""
N_PHRASES, SWAP_SHARE, MAX_TRIES = 16, 0.5, 80


def reword(sentence: str, terms: Sequence[tuple[str, ...]], rng: random.Random, n: int = N_PHRASES) -> list[str]:
    """The sentence and n - 1 others that say the same, with some words exchanged; repeated where there are fewer."""
    variants = {sentence: None}
    for _ in range(MAX_TRIES):
        text = sentence
        for group in sorted(terms, key=lambda _: rng.random()):
            known = [term for term in group if term not in ADJECTIVES and re.search(rf"\b{re.escape(term)}\b", text)]
            if known and rng.random() < SWAP_SHARE:
                text = re.sub(rf"\b{re.escape(max(known, key=len))}\b", lambda _, g=group: rng.choice(g), text, count=1)
        variants[text] = None
        if len(variants) == n:
            break
    texts = list(variants)
    return [texts[i % len(texts)] for i in range(n)]


def texts(
    sentences: list[str], known: Wordings, tasks: tuple[Task, ...], synonyms: tuple[tuple[str, ...], ...]
) -> tuple[list[list[str]], list[list[str]]]:
    """Rewordings of every skill sentence, and groups of sentences that ask for the same task."""
    terms = (*VERBS, *synonyms, *known.terms)
    rng = random.Random(0)
    groups = [[task.sentence, *known.texts[task.id]] for task in tasks if known.texts.get(task.id)]
    for pair in OPPOSITES:
        groups += [[way.format(noun) for way in ways for noun in nouns] for ways in pair for nouns in NOUNS]
    return [reword(sentence, terms, rng) for sentence in sentences], groups


def phrases(
    sentences: list[str], transcripts: Path, tasks: tuple[Task, ...], synonyms: tuple[tuple[str, ...], ...]
) -> Phrases | None:
    """Other words for these skill sentences and for tasks, embedded; None where nothing has been recorded of them."""
    from lago_skills.llm.transcripts import TranscriptFile

    known = read_wordings(TranscriptFile(transcripts), tasks)
    if not known.terms and not known.texts:
        return None
    asked = tuple(task for task in tasks if task.id != NONE)
    return embedded(*texts(sentences, known, asked, synonyms))


def embedded(skills: list[list[str]], groups: list[list[str]]) -> Phrases:
    """Phrases from texts."""
    flat = [text for group in groups for text in group]
    every = list(dict.fromkeys([*(text for words in skills for text in words), *flat]))
    table = dict(zip(every, embed(every), strict=True))

    def rows(names: list[str]) -> NDArray[np.float32]:
        return np.stack([table[name] for name in names])

    return Phrases(
        skills=np.stack([rows(words) for words in skills]),
        texts=rows(flat) if flat else np.zeros((0, len(table[every[0]])), np.float32),
        groups=np.array([number for number, group in enumerate(groups) for _ in group], dtype=np.int64),
    )
