"""What followed what in the plans that demonstrations show, and plans brought into that order: a step that is missing, misplaced or about another thing.

A skill is begun where the skills before it have led: nobody slides a thing that was not gripped. So each step of a plan must follow a step after which
its skill was demonstrated; where it does not, the steps of the shortest demonstrated way there are put between, and a step to which no way
leads is left out. What no demonstration can judge (a relation that none shows) stays as it is.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from lago_skills.core import Playbook, Step, Vocabulary
from lago_skills.playbook import FORMS
from lago_skills.words.geometry import relation_of

Node = tuple[str, str]
"""A demonstrated skill's sentence and the relation that it brought about."""
START, END = ("", "start"), ("", "end")


@dataclass(frozen=True)
class Change:
    """One correction of a plan."""

    kind: str
    """`inserted`, `left out`, `about` or `replaced`."""
    step: int
    """Number of the step in the plan as it was written, from 1: the one that was corrected, or before which one was inserted."""
    text: str
    """What was found and what was done."""


@dataclass(frozen=True)
class Ordered:
    """A plan in the order that demonstrations show."""

    playbook: Playbook
    changes: tuple[Change, ...]
    written: tuple[int, ...]
    """For each step its number in the plan as it was written, from 0; of an inserted one, that of the step that it prepares."""


@dataclass(frozen=True)
class Order:
    """Steps of demonstrated plans in their order."""

    plans: tuple[tuple[Step, ...], ...]

    @staticmethod
    def of(books: Iterable[Playbook]) -> Order:
        """The order in these plans, which demonstrations follow."""
        return Order(tuple(book.steps for book in books))

    def values(self) -> list[list[dict[str, Any]]]:
        """For a JSON file."""
        return [[FORMS["words"].write(step) for step in steps] for steps in self.plans]

    @staticmethod
    def from_values(values: list[list[dict[str, Any]]], vocabulary: Vocabulary) -> Order:
        """Read what `values` gave.

        Raises:
            PlanError: steps that this vocabulary cannot express.
        """
        return Order(tuple(tuple(FORMS["words"].read(entry, vocabulary) for entry in steps) for steps in values))

    def of_thing(self, thing: str) -> Order:
        """What demonstrated plans that move this thing show; the whole order where none does."""
        own = tuple(
            steps
            for steps in self.plans
            if any(step.about[0] == thing and relation_of(step).mover == "thing" for step in steps)
        )
        return Order(own) if own else self

    @cached_property
    def templates(self) -> dict[Node, Step]:
        """A demonstrated step of each node."""
        return {_node(step): step for steps in self.plans for step in steps}

    @cached_property
    def following(self) -> dict[Node, tuple[Node, ...]]:
        """What came after each node in a demonstrated plan, the most frequent first."""
        counts: dict[Node, dict[Node, int]] = {}
        for steps in self.plans:
            nodes = [START, *map(_node, steps), END]
            for before, after in itertools.pairwise(nodes):
                of_node = counts.setdefault(before, {})
                of_node[after] = of_node.get(after, 0) + 1
        return {node: tuple(sorted(after, key=lambda each: -after[each])) for node, after in counts.items()}

    def before(self, skill: str) -> set[Node]:
        """After what a skill was demonstrated."""
        return {
            node for node, after in self.following.items() if any(each[0] == skill and each != END for each in after)
        }

    @cached_property
    def relations(self) -> set[str]:
        """Relations that some demonstration shows."""
        return {relation for _, relation in self.templates}

    @cached_property
    def final(self) -> set[str]:
        """Relations with which demonstrated plans end."""
        return {relation_of(steps[-1]).name for steps in self.plans}

    @cached_property
    def initial(self) -> set[str]:
        """Relations with whose steps demonstrated plans begin."""
        return {relation_of(steps[0]).name for steps in self.plans}

    @cached_property
    def moved(self) -> set[str]:
        """Anchors that demonstrated steps move."""
        return {step.about[0] for steps in self.plans for step in steps if relation_of(step).mover == "thing"}

    @cached_property
    def turns(self) -> set[tuple[str, str]]:
        """Pairs of relations between which demonstrated plans went on to another thing."""
        return {
            (relation_of(one).name, relation_of(other).name)
            for steps in self.plans
            for one, other in itertools.pairwise(steps)
            if one.about[0] != other.about[0]
        }

    def way(self, starts: Iterable[Node], goals: set[Node]) -> tuple[Node, ...] | None:
        """The shortest demonstrated way from behind one of some nodes to one of others, ends included; None where there is none."""
        queue = deque((node, tuple[Node, ...]()) for node in starts)
        seen = {node for node, _ in queue}
        while queue:
            node, way = queue.popleft()
            for after in self.following.get(node, ()):
                if after in goals:
                    return (*way, after)
                if after not in seen and after != END:
                    seen.add(after)
                    queue.append((after, (*way, after)))
        return None


def _node(step: Step) -> Node:
    return step.sentence, relation_of(step).name


def in_order(book: Playbook, nearest: Sequence[str], order: Order, *, named_things: bool = False) -> Ordered:
    """A plan in words, each step of which follows what demonstrations show before it; `nearest` names the demonstrated skill most like each step.

    The parts of a plan for several things are each brought into order by themselves; where things are named, by the demonstrations of the thing itself.
    """
    steps: list[Step] = []
    changes: list[Change] = []
    written: list[int] = []
    for part in parts(book.steps, order):
        last: Step = book.steps[part.stop - 1]
        own_order = order.of_thing(last.about[0]) if named_things else order
        own_steps, replaced = book.steps[part], list[Change]()
        if own_order is not order:
            own_steps, replaced = _as_shown(own_steps, nearest[part], own_order)
        own = _in_order(replace(book, steps=own_steps), nearest[part], own_order)
        steps += own.playbook.steps
        changes += [replace(each, step=each.step + part.start) for each in (*replaced, *own.changes)]
        written += [number + part.start for number in own.written]
    return Ordered(replace(book, steps=tuple(steps)), tuple(changes), tuple(written))


def parts(steps: Sequence[Step], order: Order) -> list[slice[int, int, None]]:
    """The parts of a plan that asks for several things, one after another: each moves its own thing to a place and could be a plan by itself.

    A new part begins where a step is about another thing, demonstrated plans begin like it, and the part before has brought its thing to a place.
    """
    starts, moved = [0], False
    for number, step in enumerate(steps):
        known = relation_of(step)
        if moved and step.about[0] != steps[number - 1].about[0] and known.name in order.initial:
            starts.append(number)
            moved = False
        moved = moved or (known.mover == "thing" and known.of == "place")
    if not moved and len(starts) > 1:
        starts.pop()  # what is left moves nothing to a place, and belongs to the part before
    return [slice(start, stop) for start, stop in itertools.pairwise([*starts, len(steps)])]


def _in_order(book: Playbook, nearest: Sequence[str], order: Order) -> Ordered:
    steps, changes = _about_one_thing(book, order)
    placed: list[Step] = []
    written: list[int] = []
    last: list[Node] = [START]
    for number, (step, skill) in enumerate(zip(steps, nearest, strict=True)):
        if placed and _same(step, placed[-1]):
            changes.append(Change("left out", number + 1, "says again what the step before it says"))
            continue
        wanted = order.before(skill)
        if not _prepared(last, skill, wanted, placed, order):
            way = order.way(last, wanted)
            if way is None:
                text = f'no demonstration shows "{step.skill}" where the steps before it lead'
                changes.append(Change("left out", number + 1, text))
                continue
            between = [_like(order.templates[node], step, steps) for node in way]
            changes += [_inserted(each, number, "demonstrations show before it") for each in between]
            placed += between
            written += [number] * len(between)
        placed.append(step)
        written.append(number)
        last = _nodes(step, skill, order)
    if not placed:
        return Ordered(book, (), tuple(range(len(book.steps))))
    more = _ending(placed, last, steps, order)
    changes += [_inserted(each, len(steps), "ends the demonstrated plans") for each in more]
    placed += more
    written += [len(steps) - 1] * len(more)
    return Ordered(replace(book, steps=tuple(placed)), tuple(changes), tuple(written))


def _as_shown(steps: Sequence[Step], nearest: Sequence[str], order: Order) -> tuple[tuple[Step, ...], list[Change]]:
    """Steps about a named thing that end in a way in which nothing was ever done with it give way to the demonstrated step that is most like them."""
    shown: list[Step] = []
    changes: list[Change] = []
    for number, (step, skill) in enumerate(zip(steps, nearest, strict=True)):
        until = relation_of(step)
        known = next((each for node, each in order.templates.items() if node[0] == skill), None)
        if until.name in order.relations or known is None:
            shown.append(step)
            continue
        text = f'found {until.name!r}, in which no demonstration with {step.about[0]!r} ends; "{known.skill}" (until {relation_of(known).name}) takes its place'
        changes.append(Change("replaced", number + 1, text))
        shown.append(known)
    return tuple(shown), changes


def _same(one: Step, other: Step) -> bool:
    return (one.skill, one.until, one.about) == (other.skill, other.until, other.about)


def _inserted(step: Step, number: int, why: str) -> Change:
    return Change("inserted", number + 1, f'"{step.skill}" (until {relation_of(step).name}) is missing, which {why}')


def _prepared(last: list[Node], skill: str, wanted: set[Node], placed: list[Step], order: Order) -> bool:
    """Whether a skill may begin here, as far as demonstrations can tell."""
    if not wanted or START in wanted or any(node[0] == skill for node in last):
        return True  # never demonstrated, or demonstrated from the start on, or it goes on
    if placed and relation_of(placed[-1]).name not in order.relations:
        return True
    return bool({relation for _, relation in last} & {relation for _, relation in wanted})


def _nodes(step: Step, skill: str, order: Order) -> list[Node]:
    """Where a step leads: the node of its skill and relation, or all nodes of its relation."""
    node = (skill, relation_of(step).name)
    return (
        [node] if node in order.templates else [each for each in order.templates if each[1] == relation_of(step).name]
    )


def _like(template: Step, step: Step, steps: Sequence[Step]) -> Step:
    """A demonstrated step about this plan's thing and place."""
    places = [each.about[1] for each in (step, *steps) if len(each.about) > 1]
    about = (step.about[0], *(places[:1] or template.about[1:])) if len(template.about) > 1 else step.about[:1]
    return replace(template, about=about)


def _ending(placed: list[Step], last: list[Node], steps: Sequence[Step], order: Order) -> list[Step]:
    """Steps to go on with, where no demonstrated plan ends as this one does."""
    final = relation_of(placed[-1])
    if final.name in order.final:
        return []
    way: tuple[Node, ...] = ()
    if final.name in order.relations:
        way = order.way(last, {END}) or ()
    elif final.of == "place":  # on its way to a place
        way = tuple(node for node in order.templates if node[1] in order.final and "place" in node[1])[:1]
    more = [_like(order.templates[node], placed[-1], steps) for node in way if node != END]
    places = list(dict.fromkeys(plan[-1].about[1] for plan in order.plans if len(plan[-1].about) > 1))
    if more and len(places) == 1:
        more[-1] = replace(more[-1], about=(more[-1].about[0], places[0]))  # where they all end
    return more


def _about_one_thing(book: Playbook, order: Order) -> tuple[list[Step], list[Change]]:
    """Steps between which no demonstration goes on to another thing are about one: that which most steps name, and demonstrations move."""
    steps, changes = list(book.steps), list[Change]()
    first = 0
    for stop in range(1, len(steps) + 1):
        if stop < len(steps) and (relation_of(steps[stop - 1]).name, relation_of(steps[stop]).name) not in order.turns:
            continue
        piece = steps[first:stop]
        names = [step.about[0] for step in piece]
        moves = any(relation_of(step).mover == "thing" for step in piece)
        thing = max(dict.fromkeys(names), key=lambda name: (names.count(name), moves and name in order.moved))
        places = [step.about[1] for step in piece if len(step.about) > 1 and step.about[1] != thing]
        for number in range(first, stop):
            step = steps[number]
            own, *other = step.about
            if own == thing:
                continue
            place = next((name for name in (*other, own, *places) if name != thing), None)
            about = (thing, place) if other and place is not None else (thing,)
            changes.append(Change("about", number + 1, f"found {own!r} as its thing; the plan is about {thing!r}"))
            steps[number] = replace(step, about=about)
        first = stop
    return steps, changes
