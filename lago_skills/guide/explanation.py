"""Why a guide says what it says in a state: the step at work, what began it, what would end it, and the skills that answer it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Condition, Playbook, skill_name
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.retrieval import Retrieval
from lago_skills.prior import ActionPrior, Prior
from lago_skills.worlds.grounding import AnchoredState

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SkillShare:
    """A skill that answers the step at work."""

    id: str
    sentence: str
    weight: float
    """Of the mixture; all of them sum to 1."""
    similarity: float
    """Cosine of its latent and what was looked up."""
    action: list[float]
    """What it does by itself: its mean action, or how probable it makes each discrete one."""


@dataclass(frozen=True)
class Explanation:
    """What a guide says in one state, and why."""

    task: str
    step: int
    """Of the plan, from 1."""
    n_steps: int
    sentence: str
    why: list[str]
    """What made this the step at work."""
    switches: list[str]
    """What would put another step to work: first what needs fewest conditions, or least distance."""
    target: list[float]
    """Where the step heads, in the anchors' unit; empty where targets mean nothing."""
    skills: list[SkillShare]
    action: list[float] | int
    """What is done: by the library the mean of the mixture, or the most probable discrete action."""
    spread: list[float]
    """Of continuous actions, the standard deviation of the mixture; of discrete ones, how probable each is."""
    unfamiliarity: float
    """How unlike the training's states this one is: beyond 1 it is unfamiliar."""
    leader: str = "library"
    """Who acts: the library, or the training run whose policy does; steps and skills are then those of its prior."""

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


def explain(
    guide: LibraryGuide, retrieval: Retrieval, prior: Prior, task: str, unfamiliarity: Floats
) -> list[Explanation]:
    """An explanation for each of the B states of a retrieval, with their prior and (B,) unfamiliarity."""
    book = guide.books[task]
    steps: list[int] = retrieval.steps.tolist()
    if retrieval.together is not None:
        reasons = _by_relations(retrieval, book)
    else:
        reasons = _in_words(guide, retrieval, task) if book.form == "words" else _in_numbers(guide, retrieval, book)
    behaviour = guide.components(retrieval).behaviour()
    actions: list[Any] = prior.greedy().tolist()
    spreads: list[list[float]] = (prior.std() if isinstance(prior, ActionPrior) else prior.probabilities()).tolist()
    return [
        Explanation(
            task=book.task_id,
            step=step + 1,
            n_steps=len(book.steps),
            sentence=book.steps[step].sentence,
            why=reasons[row][0],
            switches=reasons[row][1],
            target=retrieval.targets[row].tolist() if guide.grounding.vocabulary.anchors else [],
            skills=_skills(guide, retrieval, behaviour, row),
            action=actions[row],
            spread=spreads[row],
            unfamiliarity=float(unfamiliarity[row]),
        )
        for row, step in enumerate(steps)
    ]


def _skills(guide: LibraryGuide, retrieval: Retrieval, behaviour: NDArray[Any], row: int) -> list[SkillShare]:
    places = np.argsort(-retrieval.weights[row], kind="stable")
    shares: list[SkillShare] = []
    for place in places.tolist():
        number = int(retrieval.neighbors.ids[row, place])
        if number < 0:
            continue
        shares.append(
            SkillShare(
                id=skill_name(number),
                sentence=guide.library.get(number).sentence,
                weight=float(retrieval.weights[row, place]),
                similarity=float(retrieval.neighbors.scores[row, place]),
                action=behaviour[row, place].tolist(),
            )
        )
    return shares


Reasons = tuple[list[str], list[str]]


def _in_numbers(guide: LibraryGuide, retrieval: Retrieval, book: Playbook) -> list[Reasons]:
    """The first step whose conditions all hold is at work: which hold for it, and which fail for those before it."""
    units = {each.name: each.unit for each in guide.grounding.vocabulary.features}
    places = {each.name: number for number, each in enumerate(guide.grounding.vocabulary.features)}
    reasons: list[Reasons] = []
    at_work: list[int] = retrieval.steps.tolist()
    for row, place_at_work in enumerate(at_work):
        step, before = book.steps[place_at_work], book.steps[:place_at_work]
        values = {name: float(retrieval.state.values[row, place]) for name, place in places.items()}
        why = [f"{_said(each, units)} (now {values[each.feature]:.4g})" for each in step.when]
        if not why:
            why = ["no step before it has all its conditions"]
        switches: list[tuple[int, str]] = []
        for number, earlier in enumerate(before):
            failing = [each for each in earlier.when if not _holds(each, values[each.feature])]
            said = " and ".join(f"{_said(each, units)} (now {values[each.feature]:.4g})" for each in failing)
            switches.append((len(failing), f"step {number + 1} once {said}"))
        if step.when:
            ends = " or ".join(_said(each, units, otherwise=True) for each in step.when)
            switches.append((1, f"a later step once {ends}"))
        reasons.append((why, [text for _, text in sorted(switches, key=lambda each: each[0])]))
    return reasons


def _holds(condition: Condition, value: float) -> bool:
    return value < condition.value if condition.op == "<" else value > condition.value


def _said(condition: Condition, units: dict[str, str], *, otherwise: bool = False) -> str:
    op = {"<": ">=", ">": "<="}[condition.op] if otherwise else condition.op
    return f"{condition.feature} {op} {condition.value:g} {units[condition.feature]}".rstrip()


def _by_relations(retrieval: Retrieval, book: Playbook) -> list[Reasons]:
    """Steps whose relation does not hold are at work, all at once."""
    assert retrieval.together is not None  # asked for where there is one
    reasons: list[Reasons] = []
    for share in retrieval.together.share[:, : len(book.steps)] > 0.0:
        lacking = [number + 1 for number in np.flatnonzero(share).tolist()]
        lasting = [number + 1 for number in np.flatnonzero(~share).tolist()]
        why = [f"the relations of steps {lacking} do not hold, and all of them are at work"]
        if lasting:
            why.append(f"those of steps {lasting} hold, and are left as they are")
        reasons.append((why, [f"step {number} once its relation no longer holds" for number in lasting]))
    return reasons


def _in_words(guide: LibraryGuide, retrieval: Retrieval, task: str) -> list[Reasons]:
    """The last step that may begin is at work: how far, in tolerances, the state is from where the others may."""
    state: AnchoredState = retrieval.state  # pyright: ignore[reportAssignmentType]  (plans in words have such states)
    apart = guide.apart(state, task)
    n = apart.shape[1]
    reasons: list[Reasons] = []
    for row, step in enumerate(retrieval.steps.tolist()):
        why = [_lies(step, float(apart[row, step]))]
        later = sorted((float(apart[row, k]), k) for k in range(step + 1, n) if np.isfinite(apart[row, k]))
        switches = [
            f"step {k + 1} once the state is within 1 tolerance of where it may begin (now {far:.2g})"
            for far, k in later
        ]
        if step:
            back = max((k for k in range(step) if apart[row, k] <= 1.0), default=0)
            switches.append(f"step {back + 1} once this one's beginning is more than 1 tolerance away")
        reasons.append((why, switches))
    return reasons


def _lies(step: int, far: float) -> str:
    if step == 0:
        return "no later step may begin yet"
    if not np.isfinite(far) or far <= 0.0:
        return "the state lies where this step goes on, and no later step may begin yet"
    return f"the state is {far:.2g} tolerances from where this step may begin, and no later step may begin yet"
