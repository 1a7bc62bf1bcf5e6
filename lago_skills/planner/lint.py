"""Faults of a playbook that can be found without asking anybody: by logic, against demonstrations, against rollouts.

Logic needs the vocabulary only. Traces are the feature values of whole episodes; which step was active follows from them.
Of rollouts, one thing more is used than what was sensed: whether the episode ended before its horizon, that is, solved.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Condition, Playbook, Step, Vocabulary
from lago_skills.planner.findings import Finding
from lago_skills.playbook import CompiledPlaybook

FLICKER_STEPS = 5
"""A step that hands over and is active again within so many control steps flickers."""
CHATTER_SHARE = 0.05
"""More flickers per control step than this are a fault."""
STUCK_STEPS = 60
"""An episode whose last so many control steps all belong to one step is stuck in it."""
BRIEF_STEPS, UNLIKE_SCORE = 3, -5.0
"""A step that lasts no longer in most demonstrations is not shown by them; and a demonstration less likely than this, a control step, does not follow the plan."""
RARE_SHARE = 0.1
"""A fault that a smaller share of the episodes shows is not one of the plan."""


@dataclass(frozen=True)
class Trace:
    """Feature values of one episode."""

    values: NDArray[np.float64]  # (T, F)
    ended: bool
    """Whether it ended before its horizon, as episodes do once the task is solved."""
    steps: NDArray[np.int64] | None = None  # (T,)
    """Which step was at work, where that does not follow from the features: of plans in words."""


def lint_logic(book: Playbook, vocabulary: Vocabulary) -> tuple[Finding, ...]:
    """Conditions that no state can meet, and steps that one above them hides."""
    bounds = {feature.name: (feature.low, feature.high) for feature in vocabulary.features}
    findings: list[Finding] = []
    boxes: list[dict[str, tuple[float, float]]] = []
    for number, step in enumerate(book.steps, start=1):
        box, wrong = _box(step, bounds)
        findings += [Finding("impossible", number, text) for text in wrong]
        hidden_by = next(
            (i for i, above in enumerate(boxes, start=1) if not wrong and _contains(above, box, bounds)), 0
        )
        if hidden_by:
            text = f"never active, since step {hidden_by} above it holds wherever it does; expected the stricter step first"
            findings.append(Finding("shadowed", number, text))
        boxes.append(box)
    return tuple(findings)


NUMBER = re.compile(r"\d")


def lint_words_form(book: Playbook, vocabulary: Vocabulary) -> tuple[Finding, ...]:
    """What a plan in words should not have: numbers, which a skill cannot follow, and a second anchor that is the first."""
    findings: list[Finding] = []
    for number, step in enumerate(book.steps, start=1):
        if NUMBER.search(step.skill):
            text = f'found a number in "{step.skill}"; expected words alone, since how far and how fast is the skill\'s to know'
            findings.append(Finding("number", number, text))
        if len(set(step.about)) < len(step.about):
            text = f"found {step.about[0]!r} as the thing and as the place; expected two anchors, or one"
            findings.append(Finding("one-anchor-twice", number, text))
    return tuple(findings)


def _box(step: Step, bounds: dict[str, tuple[float, float]]) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """The interval that each feature must be in, and what makes that impossible."""
    box: dict[str, tuple[float, float]] = {}
    wrong: list[str] = []
    for condition in step.when:
        low, high = bounds[condition.feature]
        if (condition.value <= low) if condition.op == "<" else (condition.value >= high):
            wrong.append(
                f"condition {show(condition)} can never hold: {condition.feature} is always {low:g} to {high:g}"
            )
        low, high = box.get(condition.feature, (-np.inf, np.inf))
        box[condition.feature] = (
            (low, min(high, condition.value)) if condition.op == "<" else (max(low, condition.value), high)
        )
    wrong += [
        f"conditions {name} > {low:g} and {name} < {high:g} can never both hold"
        for name, (low, high) in box.items()
        if low >= high
    ]
    return box, wrong


def _contains(
    above: dict[str, tuple[float, float]],
    below: dict[str, tuple[float, float]],
    bounds: dict[str, tuple[float, float]],
) -> bool:
    """Whether every state that meets `below` meets `above`; the features' own bounds help."""
    for name, (low, high) in above.items():
        own_low, own_high = below.get(name, (-np.inf, np.inf))
        least, most = bounds[name]
        if not ((low <= own_low or low < least) and (high >= own_high or high > most)):
            return False
    return True


def show(condition: Condition) -> str:
    """A condition in words."""
    return f"{condition.feature} {condition.op} {condition.value:g}"


def lint_demonstrations(book: Playbook, vocabulary: Vocabulary, traces: list[Trace]) -> tuple[Finding, ...]:
    """What demonstrations of the task say against the plan."""
    if not traces:
        return ()
    labels = _labels(book, vocabulary, traces)
    where = "in demonstrations"
    findings = _inactive(book, vocabulary, traces, labels, where)
    findings += _chatter(book, labels, where)
    missed = sum(int(run[-FLICKER_STEPS:].min()) > 0 for run in labels)
    if len(book.steps) > 1 and missed > RARE_SHARE * len(labels):
        last = Counter(int(run[-1]) + 1 for run in labels).most_common(1)[0][0]
        text = f"{missed} of {len(labels)} demonstrations end, solved, without step 1 active; most end in step {last}"
        findings.append(Finding("unfinished", 0, text))
    return tuple(findings)


def lint_rollouts(book: Playbook, vocabulary: Vocabulary, traces: list[Trace]) -> tuple[Finding, ...]:
    """What rollouts of the library, guided by the plan, say against it.

    A task whose rollouts nearly all end before the horizon needs no repair, whatever the way there looked like.
    """
    open_ended = [trace for trace in traces if not trace.ended]
    if len(open_ended) <= RARE_SHARE * len(traces):
        return ()
    labels = _labels(book, vocabulary, open_ended)
    where = f"in the {len(open_ended)} of {len(traces)} rollouts that did not solve the task"
    findings = [_unsolved(vocabulary, open_ended, len(traces))]
    if book.form == "words":
        findings += _never_begun(book, labels, where)
    else:
        findings += _inactive(book, vocabulary, open_ended, labels, where)
    findings += _chatter(book, labels, where)
    findings += _stuck(book, vocabulary, open_ended, labels)
    return tuple(findings)


def lint_alignment(book: Playbook, lengths: NDArray[np.int64], scores: NDArray[np.float64]) -> tuple[Finding, ...]:
    """What laying a plan in words over its demonstrations says against it.

    Args:
        book: the plan.
        lengths: (episodes, steps) control steps that each step lasts.
        scores: (episodes,) log-likelihood of a control step.
    """
    findings: list[Finding] = []
    brief = (lengths <= BRIEF_STEPS).mean(axis=0)
    for number, share in enumerate(brief.tolist(), start=1):
        if share > 0.5:
            text = f"lasts {BRIEF_STEPS} control steps or fewer in {share:.0%} of the demonstrations, the fewest that a step may have; expected a phase that they show"
            findings.append(Finding("never-active", number, text))
    if (unlike := scores < UNLIKE_SCORE).any():
        which = ", ".join(f"{int(i) + 1} ({scores[i]:.1f})" for i in np.flatnonzero(unlike))
        text = f"demonstrations {which} do not follow these steps: log-likelihood a control step in brackets, expected {UNLIKE_SCORE:g} or more"
        findings.append(Finding("unaligned", 0, text))
    return tuple(findings)


def _unsolved(vocabulary: Vocabulary, traces: list[Trace], n_rollouts: int) -> Finding:
    """What happened where the task was not solved: how each feature went."""
    went: list[str] = []
    for place, feature in enumerate(vocabulary.features):
        values = [trace.values[:, place] for trace in traces]
        if not any(each.any() for each in values):
            continue  # of something that the task has not
        first, last = (np.median([each[end] for each in values]) for end in (0, -1))
        least, most = np.median([each.min() for each in values]), np.median([each.max() for each in values])
        went.append(f"{feature.name} {first:.3g} to {last:.3g} ({least:.3g} to {most:.3g})")
    text = (
        f"the task was not solved in {len(traces)} of {n_rollouts} rollouts; there features went from their first to their last value, in brackets least and most on "
        f"the way, medians: {', '.join(went)}"
    )
    return Finding("unsolved", 0, text)


def _never_begun(book: Playbook, labels: list[NDArray[np.int64]], where: str) -> list[Finding]:
    active = np.concatenate(labels)
    missing = [number for number in range(len(book.steps)) if not (active == number).any()]
    return [Finding("never-active", number + 1, f"never begun {where}") for number in missing]


def _labels(book: Playbook, vocabulary: Vocabulary, traces: list[Trace]) -> list[NDArray[np.int64]]:
    given = [trace.steps for trace in traces if trace.steps is not None]
    if given:
        return given
    compiled = CompiledPlaybook(book, vocabulary)
    return [compiled.active(trace.values) for trace in traces]


def _inactive(
    book: Playbook, vocabulary: Vocabulary, traces: list[Trace], labels: list[NDArray[np.int64]], where: str
) -> list[Finding]:
    """Steps never active, with the conditions that kept them so."""
    values = np.concatenate([trace.values for trace in traces])
    active = np.concatenate(labels)
    column = {feature.name: values[:, i] for i, feature in enumerate(vocabulary.features)}
    findings: list[Finding] = []
    for number, step in enumerate(book.steps, start=1):
        if (active == number - 1).any():
            continue
        unmet = [c for c in step.when if not _held(c, column[c.feature]).any()]
        for condition in unmet:
            seen = column[condition.feature]
            text = f"condition {show(condition)} never held {where}; {condition.feature} was {_span(seen)}"
            findings.append(Finding("unmet", number, text))
        if not unmet:
            alone = [f"{show(c)} in {_held(c, column[c.feature]).mean():.0%}" for c in step.when]
            text = f"never active {where}, though each condition alone held ({', '.join(alone) or 'none'} of the time)"
            findings.append(Finding("never-active", number, text))
    return findings


def _held(condition: Condition, seen: NDArray[np.float64]) -> NDArray[np.bool_]:
    return seen < condition.value if condition.op == "<" else seen > condition.value


def _span(seen: NDArray[np.float64]) -> str:
    low, middle, high = np.quantile(seen, [0.0, 0.5, 1.0])
    return f"{low:.2f} to {high:.2f}, median {middle:.2f}"


def _chatter(book: Playbook, labels: list[NDArray[np.int64]], where: str) -> list[Finding]:
    """Pairs of steps that hand over to each other back and forth."""
    flickers: Counter[tuple[int, int]] = Counter()
    for run in labels:
        cuts = np.flatnonzero(np.diff(run)) + 1
        for first, second in itertools.pairwise(cuts):
            before, between, after = int(run[first - 1]), int(run[first]), int(run[second])
            if before == after and second - first <= FLICKER_STEPS:
                flickers[min(before, between) + 1, max(before, between) + 1] += 1
    total = sum(len(run) for run in labels)
    return [
        Finding(
            "chatters",
            one,
            f"hands over to step {other} and takes back within {FLICKER_STEPS} control steps, {count} times in {total} control "
            f"steps {where}; expected conditions that stay true while a step runs",
        )
        for (one, other), count in sorted(flickers.items())
        if count > CHATTER_SHARE * total
    ]


def _stuck(
    book: Playbook, vocabulary: Vocabulary, traces: list[Trace], labels: list[NDArray[np.int64]]
) -> list[Finding]:
    """Where rollouts that do not solve the task spend their time, and what could be sensed there."""
    findings: list[Finding] = []
    ends = [int(run[-1]) if (run[-STUCK_STEPS:] == run[-1]).all() else -1 for run in labels]
    shown = _telling(book, vocabulary)
    for index, count in sorted(Counter(ends).items()):
        if index < 0 or count <= RARE_SHARE * len(labels):
            continue
        last = np.stack([trace.values[-1] for trace, end in zip(traces, ends, strict=True) if end == index])
        whole = all((run == index).all() for run, end in zip(labels, ends, strict=True) if end == index)
        first = 0 if book.form == "words" else len(book.steps) - 1
        opening = index == first and whole and len(book.steps) > 1
        where = (
            "never leave this opening step"
            if opening
            else f"spend their last {STUCK_STEPS} control steps or more in it"
        )
        text = (
            f"{count} of {len(labels)} unsolved rollouts {where}; sensed at the end (medians): {_sensed(last, shown)}"
        )
        findings.append(Finding("never-starts" if opening else "stuck", index + 1, text))
    return findings or [Finding("stuck", 0, _round_and_round(traces, labels, shown, len(book.steps)))]


def _round_and_round(traces: list[Trace], labels: list[NDArray[np.int64]], shown: dict[str, int], n_steps: int) -> str:
    """How the steps hand over to each other, and what is sensed when they do."""
    total = sum(len(run) for run in labels)
    parts = [f"{len(labels)} rollouts go on to the horizon from step to step"]
    for index in range(n_steps):
        share = sum(int((run == index).sum()) for run in labels) / total
        leaving: dict[int, list[NDArray[np.float64]]] = {}
        for trace, run in zip(traces, labels, strict=True):
            for at in np.flatnonzero((run[:-1] == index) & (run[1:] != index)):
                leaving.setdefault(int(run[at + 1]) + 1, []).append(trace.values[at + 1])
        text = f"step {index + 1}: {share:.0%} of the control steps"
        if leaving:
            other, rows = max(leaving.items(), key=lambda item: len(item[1]))
            text += f", hands over mostly to step {other} ({len(rows)} times), when {_sensed(np.stack(rows), shown)}"
        parts.append(text)
    return "; ".join(parts) + " (medians)"


def _telling(book: Playbook, vocabulary: Vocabulary) -> dict[str, int]:
    """Features worth showing: those of the plan's conditions, and how the effector, the first thing and the last anchor lie to each other."""
    named = {condition.feature for step in book.steps for condition in step.when}
    shown = dict.fromkeys((*vocabulary.anchors[:2], *vocabulary.anchors[-1:]))
    spatial = {f"{one}_to_{other}_{axis}" for one, other in itertools.pairwise(shown) for axis in "xyz"}
    return {f.name: i for i, f in enumerate(vocabulary.features) if f.name in named | spatial}


def _sensed(rows: NDArray[np.float64], shown: dict[str, int]) -> str:
    return ", ".join(f"{name} {np.median(rows[:, i]) + 0.0:.2f}" for name, i in shown.items())


def lint_words(book: Playbook, learned: dict[str, list[tuple[str, float]]]) -> tuple[Finding, ...]:
    """Sentences that no demonstration shows; `learned` says what the controller does in their stead, and how much of it."""
    findings: list[Finding] = []
    for number, step in enumerate(book.steps, start=1):
        if step.sentence in learned:
            mixture = " and ".join(f'{weight:.0%} "{sentence}"' for sentence, weight in learned[step.sentence])
            text = (
                f'no demonstration shows "{step.skill}", so the controller does {mixture} instead; expected a learned sentence '
                "whose motion, with a fitting target, has the same effect"
            )
            findings.append(Finding("undemonstrated", number, text))
    return tuple(findings)
