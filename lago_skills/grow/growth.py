"""One step of growth: a task with its plan, perhaps with episodes of it, becomes the next version of a study's library.

    plan (recorded) -> skills for its steps -> episodes cut, labelled, checked -> decoder refreshed where it has something to learn
    -> library and bundle -> what changed -> old tasks that it may have touched, played with both versions
    -> where one falls, or the new task is not done, the same with a decoder trained the next way -> the best is in use, or held

Nothing that is there is touched before the last step, which turns a link; see `lago_skills.grow.versions`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lago_skills.artifacts.folder import file_hash
from lago_skills.core import Playbook, Segment, Task
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.errors import DataError, StudyError, TranscriptMissing
from lago_skills.grow import material
from lago_skills.grow.checks import check, unlike_the_others
from lago_skills.grow.comparing import Outcomes, Spots, changes
from lago_skills.grow.judging import Judgement, judged
from lago_skills.grow.making import first_version, guide_of, write_version
from lago_skills.grow.refresh import AS_IT_WAS, Refresh, refreshed
from lago_skills.grow.settings import Settings
from lago_skills.grow.skills import grown_library, matched
from lago_skills.grow.sources import Source, bounded, counted, only_new
from lago_skills.grow.versions import Version, Versions
from lago_skills.guide.bundle import DECODER_FILE, load_bundle
from lago_skills.guide.description import plain
from lago_skills.guide.guides import LibraryGuide
from lago_skills.library import SkillLibrary
from lago_skills.playbook import plan_name
from lago_skills.stages import plan
from lago_skills.stages.segment import Labelled
from lago_skills.stages.workspace import Workspace

Say = Callable[[str], None]


@dataclass(frozen=True)
class Taken:
    """What was taken in."""

    shown: Labelled
    new: tuple[int, ...]
    """Which of its segments are new."""
    sources: list[dict[str, Any]]
    numbers: tuple[int, ...] = ()
    """Which of the episodes that were given, in their order."""
    unknown: tuple[str, ...] = ()
    """Sentences that the library had never seen done."""

    @property
    def segments(self) -> list[Segment]:
        """The new ones."""
        return [self.shown.segments[number] for number in self.new]


@dataclass(frozen=True)
class Candidate:
    """What the new version may be."""

    how: str
    """How its decoder was trained."""
    guide: LibraryGuide
    judgement: Judgement

    @property
    def success(self) -> float:
        """On the task that the library grows by, the library alone."""
        return self.judgement.growth["success"]

    @property
    def rank(self) -> tuple[bool, float]:
        """One that nothing holds comes first, then that which does the new task best."""
        return self.judgement.growth["verdict"] == "accepted", self.success

    def good(self, settings: Settings) -> bool:
        """Whether no other one has to be made."""
        return self.rank >= (True, settings.enough)

    def summary(self) -> dict[str, Any]:
        """For `growth.json`."""
        return {"decoder": self.how} | {name: self.judgement.growth[name] for name in ("verdict", "reason", "success")}


class Growth:
    """One step.

    Args:
        space: the study.
        task: of its world.
        settings: how it decides.
        say: hears what is done.
    """

    def __init__(self, space: Workspace, task: Task, settings: Settings, say: Say) -> None:
        self.space, self.task, self.settings, self.say = space, task, settings, say
        self.versions = Versions(space.artifact("grown"))
        self.before = self.versions.current or first_version(space, self.versions)
        self.number = int(self.versions.next_folder().name)

    @cached_property
    def shown(self) -> Labelled:
        """What the version in use was made from."""
        return material.load(self.before.folder, self.space.study)

    def run(self, sources: Sequence[Source], lead: Playbook | None = None) -> Version:
        """Take in the task and episodes of it; the new version is in use afterwards, unless it is held.

        Args:
            sources: of episodes.
            lead: the plan that they follow, where it is another one than that of the task: it becomes the task's.

        Raises:
            TranscriptMissing: nobody has answered the task's request yet.
            PlanError: the answer is no valid plan.
            StudyError: the task is there already, and there are no new episodes.
            DataError: none of the episodes does what the plan says.
        """
        began = time.monotonic()
        plans = self._plans()
        sources = only_new(sources, self.shown.episodes.get(self.task.id, []))
        sources = bounded(sources, self.settings.most_episodes)
        led_otherwise = lead is not None and {**self.shown.books, **plans}[self.task.id] != lead
        if not plans and not led_otherwise and not any(source.episodes for source in sources):
            known = sum(source.repeated for source in sources)
            raise StudyError(
                f"found task {self.task.id!r}, which version {self.before.number} has a plan of already, and {f'{known} episodes that it has already' if known else 'no episodes'}; "
                "expected something new; add other --data, or --from-runs"
            )
        self._say_namesakes()
        planned = material.with_plans(self.shown, plans)
        if lead is not None:
            planned = material.led_by(planned, lead)
        old = load_bundle(self.before.folder, grounding=self.space.study.grounding)
        with closing(old.library):
            steps = matched(old, planned.books[self.task.id], planned.embeddings)
            for each in steps:
                self.say(each.line())
            growth: dict[str, Any] = {
                "number": self.number,
                "before": self.before.number,
                "task": self.task.id,
                "sentence": self.task.sentence,
                "plans": {name: {"model": b.model, "answer": b.transcript_key} for name, b in plans.items()},
                "steps": [asdict(each) for each in steps],
            }
            with tempfile.TemporaryDirectory(prefix="lago-grow-") as scratch, ExitStack() as libraries:
                taken, candidates = self._candidates(planned, sources, old, Path(scratch), libraries)
                best = max(candidates, key=lambda each: each.rank)
                if len(candidates) > 1:
                    self.say(f"of {' and '.join(each.how for each in candidates)}: {best.how}")
                growth |= {"sources": taken.sources, "refreshed": best.guide.decoder is not old.decoder}
                growth |= {
                    "decoder": best.how,
                    "tried": [each.summary() for each in candidates],
                    **best.judgement.growth,
                }
                growth |= {"skills": best.guide.library.n_active, "seconds": round(time.monotonic() - began, 1)}
                probes = material.load_probes(self.before.folder)
                folder = self.versions.next_folder()
                write_version(self.space, folder, best.guide, taken.shown, probes, growth, self.before)
        return self.versions.get(self.number) if growth["verdict"] == "held" else self.versions.use(self.number)

    def _candidates(
        self, planned: Labelled, sources: Sequence[Source], old: LibraryGuide, scratch: Path, libraries: ExitStack
    ) -> tuple[Taken, list[Candidate]]:
        """What was taken in, and versions by it: one, or as many as ways of training are tried until one is good."""
        taken, decoder = self._learned(planned, sources, old)
        ways = self.settings.ways
        first = ways[0] if decoder is not old.decoder else AS_IT_WAS
        candidates = [self._candidate(first, decoder, old, taken, scratch / "0", libraries)]
        for number, how in enumerate(ways[1:] if decoder is not old.decoder else (), start=1):
            if candidates[-1].good(self.settings):
                break
            decoder = self._trained(taken, old.decoder, how)
            known = candidates[-1].judgement.before
            candidates.append(self._candidate(how, decoder, old, taken, scratch / str(number), libraries, known))
        if len(candidates) > 1 and not candidates[-1].good(self.settings):
            known = candidates[-1].judgement.before
            candidates.append(self._candidate(AS_IT_WAS, old.decoder, old, taken, scratch / "as", libraries, known))
        return taken, candidates

    def _candidate(
        self,
        how: str,
        decoder: Decoder,
        old: LibraryGuide,
        taken: Taken,
        folder: Path,
        libraries: ExitStack,
        known: Outcomes | None = None,
    ) -> Candidate:
        folder.mkdir()
        library = libraries.enter_context(self._library(old, folder, decoder, taken))
        new = guide_of(self.space, decoder, library, taken.shown)
        changed = self._changes(old, new, taken.shown)
        judgement = judged(
            self.space.world,
            self.before.outcomes if known is None else known,
            (old, new),
            changed,
            self.task,
            self.settings,
            self.say,
        )
        return Candidate(how, new, judgement)

    def _say_namesakes(self) -> None:
        """Other tasks of the library that are asked for in the same words."""
        tasks, own = self.space.world.tasks, plain(self.task.sentence)
        others = {book.task_id for book in self.shown.books.values()} - {self.task.id}
        for name in sorted(each for each in others if each in tasks and plain(tasks[each].sentence) == own):
            self.say(f"task {name!r} has the same sentence: each of the two is known by its id alone")

    def _plans(self) -> dict[str, Playbook]:
        """The plans of the task that the version in use does not have: its own, and those of its portfolio where one is recorded."""
        if any(book.task_id == self.task.id for book in self.shown.books.values()):
            return {}
        study, task = self.space.study, self.task
        maker = plan.planner(self.space)
        try:
            books = maker.playbooks(plan.demonstrated(study), (task,))
        except TranscriptMissing as error:
            name = self.space.argument
            raise TranscriptMissing(
                f"no answer is recorded for the plan of task {task.id!r}; expected one, since nothing is asked here; ask a language model with: lago grow {name} --task {task.id} "
                f"--live, or lago grow {name} --task {task.id} --export requests.jsonl, then the same with --import responses.jsonl --model NAME"
            ) from error
        known = maker.plans(plan.demonstrated(study), (task,))[task.id]
        for finding in known.chosen.findings if known.chosen else ():
            self.say(f"lint: {finding.kind}: {finding.line()}")
        others = known.portfolio.alternatives if known.portfolio else ()
        portfolio = {plan_name(task.id, each.number): each.playbook for each in others if each.playbook is not None}
        return {task.id: books[task.id], **portfolio}

    def _learned(self, planned: Labelled, sources: Sequence[Source], old: LibraryGuide) -> tuple[Taken, Decoder]:
        """Episodes that do what the plan says, and the decoder that the new version has."""
        taken = self._taken(planned, sources, old.decoder, frozenset())
        if not self._has_to_learn(taken, planned, old):
            return taken, old.decoder
        how = self.settings.ways[0]
        decoder = self._trained(taken, old.decoder, how)
        if not taken.unknown:
            return taken, decoder
        first = len(planned.episodes.get(self.task.id, []))
        wrong = unlike_the_others(taken.shown, self.task.id, first, decoder)
        if not wrong:
            return taken, decoder
        without = frozenset(taken.numbers[number - first] for number in wrong)
        taken = self._taken(planned, sources, old.decoder, without)
        return taken, self._trained(taken, old.decoder, how)

    def _has_to_learn(self, taken: Taken, planned: Labelled, old: LibraryGuide) -> bool:
        """Whether the decoder is trained: where it is wanted, and has something to learn."""
        wanted = self.settings.refresh
        if wanted != "auto" or not taken.segments or taken.unknown:
            return wanted != "never" and bool(taken.segments)
        guide = guide_of(self.space, old.decoder, old.library, planned)
        spots, n_episodes = Spots(self.space.world, old, guide, {}, self.say), 2 * self.settings.episodes
        success = spots.success(self.task, n_episodes)
        enough = success >= self.settings.enough
        self.say(
            f"{self.task.id}: {success:.2f} of {n_episodes} episodes by the library as it is: the decoder {'has nothing' if enough else 'has something'} to learn"
        )
        return not enough

    def _taken(self, planned: Labelled, sources: Sequence[Source], decoder: Decoder, without: frozenset[int]) -> Taken:
        """Episodes that do what the plan says, as far as this decoder knows, `without` some that are known not to.

        Raises:
            DataError: there are episodes, and none of them does.
        """
        if not any(source.episodes for source in sources):
            return Taken(planned, (), counted(sources, frozenset()))
        task = self.task.id
        episodes = [episode for source in sources for episode in source.episodes]
        first = len(planned.episodes.get(task, []))
        checked = check(planned, material.with_episodes(planned, task, episodes, self.space.study), task, decoder)
        refused = without | {number - first for number in checked.refused}
        numbers = [number for number in range(len(episodes)) if number not in refused]
        rows = counted(sources, refused)
        for row in rows:
            self.say(
                f"{row['name']}: {row['accepted']} episodes taken, {row['refused']} refused, whose actions their sentences do not explain, {row['left_out']} without success, {row['repeated']} repeated, {row['surplus']} more than a step takes in"
            )
        if not numbers:
            raise DataError(
                f"task {task!r}: found {len(episodes)} successful episodes in {', '.join(s.name for s in sources)}, of which none does what its plan says; expected some; "
                "look at the plan (lago plan show) and at the episodes, and leave out what succeeded by accident"
            )
        shown = material.with_episodes(planned, task, [episodes[number] for number in numbers], self.space.study)
        new = [n for n, each in enumerate(shown.segments) if each.task_id == task and each.episode >= first]
        return Taken(shown, tuple(new), rows, tuple(numbers), checked.unknown)

    def _trained(self, taken: Taken, old: Decoder, how: Refresh) -> Decoder:
        return refreshed(self.space, self.task, taken.shown, taken.new, old, how, self.say)

    def _library(self, old: LibraryGuide, folder: Path, decoder: Decoder, taken: Taken) -> SkillLibrary:
        decoder.save(folder / DECODER_FILE)
        name = file_hash(folder / DECODER_FILE) if decoder is not old.decoder else old.library.decoder
        note = {
            "version": self.number,
            "task": self.task.id,
            "from": [row["name"] for row in taken.sources],
            "learned": sorted({row["learned"] for row in taken.sources}),
        }
        return grown_library(
            old.library, folder / "library", decoder, name, taken.segments, taken.shown.embeddings, note
        )

    def _changes(self, old: LibraryGuide, new: LibraryGuide, shown: Labelled) -> dict[str, float]:
        """How much what each old skill does has changed, by sentence."""
        embeddings = {sentence: shown.embeddings[sentence] for sentence in self.shown.skills}
        if new.decoder is old.decoder:
            return dict.fromkeys(embeddings, 0.0)
        return changes(old.decoder, new.decoder, embeddings, material.load_probes(self.before.folder))
