"""What skills do: in demonstrated states of theirs, as they are and with their sentence exchanged."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Playbook, Relation, Step, Task, Vocabulary
from lago_skills.errors import ArtifactCorrupt, StudyError
from lago_skills.experiments.replicate import Replicate
from lago_skills.guide.guides import LibraryGuide
from lago_skills.stages.planning.plan_checks import with_playbook
from lago_skills.words.geometry import to_frame
from lago_skills.worlds.grounding import AnchoredGrounding, anchored, hand_actions_of, motion_of

CHANGES = ("as it is", "disabled", "opposite", "slowly", "from the left", "neighbour")
MANNERS = {"slowly": ", slowly.", "from the left": ", from the left."}
TASKS_EACH = (2, 2)
"""Tasks of each skill that are played: demonstrated and others."""
OPPOSITES = Path("data/opposite_skills")
"""Where each study's file of opposites is."""
N_STATES = 120
"""Demonstrated states of a skill in which it is compared."""


def alike(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Mean cosine of (B, D) motions."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / np.maximum(norms, 1e-9)).mean())


class Behaviour:
    """What the skills of one seed's demonstrations do."""

    def __init__(self, replicate: Replicate) -> None:
        self.replicate = replicate
        self.guide = replicate.guide
        space = replicate.space
        self._opposites = read_opposites(space.root, space.study.name, space.study.grounding.vocabulary)
        self._moves: dict[tuple[str, str], NDArray[np.float32]] = {}
        self._latents: dict[str, NDArray[np.float32]] = {}

    @cached_property
    def steps(self) -> dict[str, list[tuple[str, Step]]]:
        """By skill: the tasks and steps of plans that use it, demonstrated ones first."""
        assert self.guide.ends is not None
        uses: dict[str, list[tuple[str, Step]]] = {skill: [] for skill in self.guide.ends.skills}
        for name, book in self.replicate.labelled.books.items():
            for step in book.steps:
                if step.sentence in uses:
                    uses[step.sentence].append((name, step))
        return uses

    def tasks(self, skill: str) -> list[str]:
        """The tasks that a skill is played on; of those that were not demonstrated, the ones that ask for most things."""
        study = self.replicate.space.study
        parts = {task.id: task.parts for task in study.unseen}
        names = list(dict.fromkeys(name for name, _ in self.steps[skill]))
        others = sorted((name for name in names if name in parts), key=lambda name: -parts[name])
        shown = {task.id for task in study.seen}
        return [name for name in names if name in shown][: TASKS_EACH[0]] + others[: TASKS_EACH[1]]

    @cached_property
    def states(self) -> dict[str, list[tuple[str, Step, NDArray[np.float64]]]]:
        """By skill: demonstrated states of each of its tasks, and the step there."""
        return states_of(self.replicate)

    def step(self, skill: str, change: str, step: Step) -> Step:
        """A step with its sentence changed.

        Raises:
            StudyError: no opposite of this skill is known.
        """
        if change in MANNERS:
            return replace(step, skill=step.skill.rstrip(".") + MANNERS[change])
        if change == "neighbour":
            other = self.steps[self.neighbours[skill]][0][1]
            about = step.about if len(step.about) >= len(other.about) else (*step.about, *other.about[1:])
            return replace(other, about=about)
        if change == "opposite":
            if skill not in self._opposites:
                place = opposites_file(self.replicate.space.study.name)
                raise StudyError(
                    f'found no opposite of "{skill}" in {place}; expected one of each skill in use; add it there'
                )
            sentence, until = self._opposites[skill][:2]
            return replace(step, skill=sentence, until=until)
        return step

    def changed(self, skill: str, change: str, task: Task) -> _Changed:
        """A guide with one skill changed, for a while."""
        return _Changed(self, skill, change, task.id)

    def moves(self, skill: str, change: str) -> NDArray[np.float32]:
        """(B, A) mean actions in the skill's demonstrated states; of `disabled`, ask while it is."""
        if change == "disabled" or (skill, change) not in self._moves:
            moves = [
                self._act(self.step(skill, change, step), task, states) for task, step, states in self.states[skill]
            ]
            self._moves[skill, change] = np.concatenate(moves)
        return self._moves[skill, change]

    def motions(self, skill: str, change: str) -> NDArray[np.float64]:
        """(B, D) how those actions move the hand, where full speed along an axis is 1."""
        return self._motions(skill, self.moves(skill, change))

    def fingers(self, skill: str, change: str) -> float:
        """Mean command of what closes the hand, or of all of an action beside its motion."""
        numbers = hand_actions_of(self._grounding)
        moves = self.moves(skill, change)
        return float((moves[:, 3:] if numbers is None else moves[:, list(numbers)]).mean())

    @cached_property
    def _grounding(self) -> AnchoredGrounding:
        return anchored(self.guide.grounding)

    def _motions(self, skill: str, moves: NDArray[np.float32]) -> NDArray[np.float64]:
        states = np.concatenate([states for _, _, states in self.states[skill]])
        return motion_of(self._grounding, states, moves)

    def paraphrased(self, skill: str) -> NDArray[np.float32]:
        """(B, A) mean actions in the skill's states in other words."""
        text = self._opposites[skill][2]
        return np.concatenate(
            [self._act(replace(step, skill=text), task, states) for task, step, states in self.states[skill]]
        )

    def _act(self, step: Step, task: str, states: NDArray[np.float64]) -> NDArray[np.float32]:
        """(B, A) what a plan of that step alone does."""
        guide, config = self.guide, replace(self.guide.config, correct_plans=False)
        book = Playbook(task, (step,), transcript_key="", model="", form="words")
        latents = {task: self._latent(step.sentence)[None]}
        alone = LibraryGuide(
            guide.grounding, guide.decoder, guide.library, {task: book}, latents, config, ends=guide.ends
        )
        return np.asarray(alone.prior(states, task).greedy(), np.float32)

    def _latent(self, sentence: str) -> NDArray[np.float32]:
        """(Z,) of a sentence; those that the table asks for are embedded together."""
        if sentence not in self._latents:
            from lago_skills.text.embed import embed

            wanted = {sentence}
            for skill, uses in self.steps.items():
                step = uses[0][1]
                wanted |= {
                    skill,
                    replace(step, skill=self._opposites.get(skill, (skill, None, step.skill))[2]).sentence,
                }
                wanted |= {self.step(skill, change, step).sentence for change in MANNERS}
                if skill in self._opposites:
                    wanted.add(self.step(skill, "opposite", step).sentence)
            names = sorted(wanted - self._latents.keys())
            self._latents |= dict(zip(names, self.guide.decoder.latents(embed(names)), strict=True))
        return self._latents[sentence]

    @cached_property
    def neighbours(self) -> dict[str, str]:
        """For each skill the other one that does most nearly the same in its states."""
        nearest: dict[str, str] = {}
        for skill, shown in self.states.items():
            own = self.moves(skill, "as it is")
            apart: dict[str, float] = {}
            for other in self.states:
                if other != skill:
                    actions = [self._act(_instead(self.steps[other][0][1], step), task, s) for task, step, s in shown]
                    apart[other] = float(((np.concatenate(actions) - own) ** 2).mean())
            nearest[skill] = min(apart, key=lambda name: apart[name])
        return nearest

    def opposites(self) -> list[dict[str, Any]]:
        """For each skill whose opposite is known: whether it is nearer to what it does in other words than to that (`told_apart`)."""
        rows: list[dict[str, Any]] = []
        for skill in (name for name in self.states if name in self._opposites):
            own, same, other = self.moves(skill, "as it is"), self.paraphrased(skill), self.moves(skill, "opposite")
            to_same, to_other = (float(np.sqrt(((each - own) ** 2).mean())) for each in (same, other))
            rows.append(
                {
                    "skill": skill,
                    "paraphrase": round(to_same, 3),
                    "opposite": round(to_other, 3),
                    "direction": round(alike(self._motions(skill, own), self._motions(skill, other)), 3),
                    "told_apart": to_other > to_same,
                }
            )
        return rows

    def round_trip(self, other: Replicate) -> tuple[list[str], NDArray[np.int64]]:
        """Sentences, and how many segments of other demonstrations of each (rows) are most like which (columns)."""
        names = list(self.states)
        confusion = np.zeros((len(names), len(names)), np.int64)
        episodes, books = other.labelled.episodes, other.labelled.books
        for item in other.labelled.segments:
            step, episode = books[item.task_id].steps[item.step], episodes[item.task_id][item.episode]
            states = episode.observations[item.start : item.stop].astype(np.float64)
            shown = episode.actions[item.start : item.stop]
            apart = [
                float(((self._act(_instead(self.steps[name][0][1], step), item.task_id, states) - shown) ** 2).mean())
                for name in names
            ]
            if item.skill in names:
                confusion[names.index(item.skill), int(np.argmin(apart))] += 1
        return names, confusion

    def support(self) -> dict[str, dict[str, int]]:
        """For each skill: demonstrated segments by the direction in which the effector went, in the frame of thing and place."""
        assert self.guide.ends is not None
        shown = self.replicate.labelled
        grounding, episodes, books = anchored(shown.grounding), shown.episodes, shown.books
        counts: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        for item in shown.segments:
            states = episodes[item.task_id][item.episode].observations[[item.start, item.stop]].astype(np.float64)
            anchors, step = grounding.read(states).anchors, books[item.task_id].steps[item.step]
            names = grounding.vocabulary.anchors
            thing = anchors[:1, names.index(step.about[0])]
            place = anchors[:1, names.index(step.about[1])] if len(step.about) > 1 else thing
            along = (place - thing)[:, :2]
            length = float(np.linalg.norm(along))
            along = along / length if length > 1e-3 else np.zeros_like(along)
            move = to_frame((anchors[1:, 0] - anchors[:1, 0]), along)[0]
            counts[item.skill][way_of(move, placed=len(step.about) > 1)] += 1
        return {skill: dict(ways) for skill, ways in counts.items()}


def way_of(move: NDArray[np.float64], *, placed: bool) -> str:
    """The main direction of a motion (3,) in the frame of thing and place; without a place there is up, down and sideways."""
    if np.linalg.norm(move) < 0.01:
        return "still"
    axis = int(np.argmax(np.abs(move)))
    if axis == 2 or not placed:
        vertical = "up" if move[2] > 0 else "down"
        return vertical if axis == 2 else "sideways"
    return (("back from the place", "towards the place"), ("right", "left"))[axis][int(move[axis] > 0)]


def _instead(other: Step, step: Step) -> Step:
    """Another skill's step about this step's anchors; the goal stands in for a place that is not named."""
    about = step.about if len(step.about) >= len(other.about) else (*step.about, *other.about[1:])
    return replace(other, about=about if len(set(about)) == len(about) else step.about)


def as_written(guide: LibraryGuide) -> LibraryGuide:
    """The same guide, whose plans are not brought into order."""
    config = replace(guide.config, correct_plans=False)
    return LibraryGuide(guide.grounding, guide.decoder, guide.library, {}, {}, config, guide.learned, guide.ends)


class _Changed:
    """With one skill changed: a guide to play with; the library is as before afterwards."""

    def __init__(self, behaviour: Behaviour, skill: str, change: str, task: str) -> None:
        self._behaviour, self._skill, self._change, self._task = behaviour, skill, change, task
        self._ids: list[int] = []

    def __enter__(self) -> LibraryGuide:
        guide = self._behaviour.guide
        book = guide.books[self._task]  # in the order that demonstrations show; what is changed then stays as it is
        if self._change == "disabled":
            self._ids = [each.id for each in guide.library.list(enabled=True) if each.sentence == self._skill]
            for number in self._ids:
                guide.library.disable(number)
            return guide
        if self._change == "as it is":
            return guide
        steps = [
            self._behaviour.step(self._skill, self._change, step) if step.sentence == self._skill else step
            for step in book.steps
        ]
        return with_playbook(as_written(guide), replace(book, steps=tuple(steps)))

    def __exit__(self, *_: object) -> None:
        for number in self._ids:
            self._behaviour.guide.library.enable(number)


def states_of(replicate: Replicate) -> dict[str, list[tuple[str, Step, NDArray[np.float64]]]]:
    """By skill: states in which demonstrations show it, evenly over its segments, by task."""
    episodes, books = replicate.labelled.episodes, replicate.labelled.books
    rows: defaultdict[str, defaultdict[tuple[str, int], list[NDArray[np.float64]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for item in replicate.labelled.segments:
        observations = episodes[item.task_id][item.episode].observations[item.start : item.stop]
        rows[item.skill][item.task_id, item.step].append(observations.astype(np.float64))
    states: dict[str, list[tuple[str, Step, NDArray[np.float64]]]] = {}
    for skill, by_task in rows.items():
        share = max(N_STATES // len(by_task), 1)
        states[skill] = []
        for (task, number), parts in by_task.items():
            every = np.concatenate(parts)
            chosen = np.unique(np.linspace(0, len(every) - 1, share).astype(int))
            states[skill].append((task, books[task].steps[number], every[chosen]))
    return states


def opposites_file(study: str) -> Path:
    """Where opposites of a study's skills are, in a project folder."""
    return OPPOSITES / f"{study}.json"


def read_opposites(root: Path, study: str, vocabulary: Vocabulary) -> dict[str, tuple[str, Relation, str]]:
    """By skill's sentence with its ending: its opposite, how that ends, and a paraphrase. None where the study has no such file.

    Raises:
        ArtifactCorrupt: the file is not of this form.
    """
    path = root / opposites_file(study)
    if not path.exists():
        return {}
    try:
        entries: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
        return {
            Step(entry["skill"], about=("thing",), until=vocabulary.relation(entry["until"])).sentence: (
                entry["opposite"],
                vocabulary.relation(entry["opposite_until"]),
                entry["paraphrase"],
            )
            for entry in entries
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactCorrupt(
            f"opposites of skills {str(path)!r} cannot be read ({error}); expected a list of objects with skill, until, opposite, "
            "opposite_until and paraphrase; restore the file"
        ) from error
