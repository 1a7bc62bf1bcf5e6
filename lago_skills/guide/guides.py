"""The whole run-time contract: `prior(observations, task) -> Prior`."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Neighbors, Playbook
from lago_skills.decoder.trained_decoder import Decoder, DiscreteDecoderWeights
from lago_skills.errors import LibraryConflict, StudyError
from lago_skills.guide.retrieval import Answers, LookedUp, Retrieval, RetrievalConfig, between, paces, without
from lago_skills.guide.together import Lasting, Together, decode_together, renumbered, steps_together
from lago_skills.library import SkillLibrary
from lago_skills.playbook import CompiledPlaybook
from lago_skills.prior import Components, DiscreteComponents, Prior, uninformed
from lago_skills.query.query_network import LearnedQuery
from lago_skills.words.ends import Ends
from lago_skills.words.hindsight import hindsight_step
from lago_skills.words.order import Ordered, in_order
from lago_skills.words.relations_plan import RelationsPlan
from lago_skills.words.words_plan import WordsPlan
from lago_skills.worlds.grounding import AnchoredState, Grounding, RelatedState, State, anchored, check_actions, goals


class Guide(Protocol):
    """Anything that gives an action prior for a batch of observations of one task."""

    def prior(self, observations: NDArray[Any], task: str) -> Prior:
        """(B, S) observations -> prior over (B, A) actions, or over (B,) discrete ones."""
        ...


class NullGuide:
    """No guidance: the prior is uniform with full floor, so rho is exactly 0 everywhere."""

    def __init__(self, action_space: ActionSpace) -> None:
        self.action_space = action_space

    def prior(self, observations: NDArray[Any], task: str) -> Prior:
        """A prior that knows nothing."""
        return uninformed(len(observations), self.action_space)


class LibraryGuide:
    """Playbook step, learned query or both -> latent -> k nearest library skills -> decoder -> mixture.

    Raises:
        StudyError: a learned query is wanted and there is none, or the decoder gives other actions than the grounding declares.
        LibraryConflict: no skill is enabled.
    """

    def __init__(
        self,
        grounding: Grounding,
        decoder: Decoder,
        library: SkillLibrary,
        playbooks: dict[str, Playbook],
        step_latents: dict[str, NDArray[np.float32]],
        config: RetrievalConfig | None = None,
        learned: LearnedQuery | None = None,
        ends: Ends | None = None,
    ) -> None:
        acts = ActionSpace(decoder.action_size, discrete=isinstance(decoder, DiscreteDecoderWeights))
        check_actions("decoder", acts, grounding)
        self.grounding = grounding
        self.ends = ends
        self.decoder = decoder
        self.library = library
        self.config = config or RetrievalConfig()
        self.playbooks = {
            name: CompiledPlaybook(book, grounding.vocabulary)
            for name, book in playbooks.items()
            if book.form == "numbers"
        }
        self.corrections: dict[str, Ordered] = {}
        """Of plans in words: how they were brought into the order that demonstrations show."""
        self.step_latents = dict(step_latents)  # per task: (n_steps, Z)
        self.words = {name: self._in_words(name, book) for name, book in playbooks.items() if book.form == "words"}
        if self.words and self.config.query != "playbook":
            raise StudyError(
                f'found guide.query = {self.config.query!r} and plans in words; expected "playbook", since a learned query does not know when a step is over; '
                "correct guide.query"
            )
        self.learned = learned
        if self.config.query != "playbook" and learned is None:
            raise StudyError(
                f"found guide.query = {self.config.query!r} and no query network; expected one in the bundle; build it again with "
                "that setting, or look skills up by the playbook"
            )
        self._guard = threading.Lock()
        self._looked_up = self._look_up()

    @property
    def books(self) -> dict[str, Playbook]:
        """Every plan of the guide: that of a task by its id, those of its portfolio by `TASK/NUMBER`."""
        return {name: plan.playbook for name, plan in (*self.playbooks.items(), *self.words.items())}

    def plans(self, task: str) -> tuple[str, ...]:
        """The plans of a task, its own first and then those of its portfolio: each may be followed as if it were the task."""
        own = [name for name, book in self.books.items() if book.task_id == task]
        return tuple(sorted(own, key=lambda name: (name != task, len(name), name)))

    def following(self, plan: str) -> LibraryGuide:
        """The same guide with one of its plans as that of the plan's task, and no other.

        Raises:
            StudyError: there is no such plan.
        """
        if plan not in self.books:
            raise StudyError(
                f"found plan {plan!r}; expected one of {sorted(self.books)}; name one, or build the bundle again"
            )
        return self.with_steps(self.books[plan], self.step_latents[plan])

    def with_steps(self, book: Playbook, latents: NDArray[np.float32] | None = None) -> LibraryGuide:
        """The same guide with this plan, whose steps have these latents (n_steps, Z), as that of the plan's task, and no other.

        By default the latent of a step is that of the guide's own step, or else of the library's skill, with the same sentence.

        Raises:
            StudyError: nothing here has the sentence of a step.
        """
        only = {book.task_id: book}, {book.task_id: self._latents_of(book) if latents is None else latents}
        config = replace(self.config, correct_plans=False)  # it has been put in order
        return LibraryGuide(
            self.grounding, self.decoder, self.library, *only, config, learned=self.learned, ends=self.ends
        )

    def _latents_of(self, book: Playbook) -> NDArray[np.float32]:
        """(n_steps, Z): of the nearest step with the same sentence in the guide's own plan, else of the library's skill with it."""
        own, known = self.books.get(book.task_id, book), self.step_latents.get(book.task_id, ())
        skills = {skill.sentence: skill.id for skill in self.library.list()}
        latents: list[NDArray[np.float32]] = []
        for number, step in enumerate(book.steps):
            same = [place for place, each in enumerate(own.steps) if each.sentence == step.sentence and len(known)]
            if same:
                latents.append(known[min(same, key=lambda place: abs(place - number))])
            elif step.sentence in skills:
                latents.append(self.library.latents(np.array([skills[step.sentence]]))[0])
            else:
                raise StudyError(
                    f"step {number + 1} of a plan of {book.task_id!r}: found skill {step.sentence!r}, which neither the library nor the task's own plan has; expected "
                    "one of theirs; build the bundle again with that plan"
                )
        return np.stack(latents)

    def _in_words(self, name: str, book: Playbook) -> WordsPlan | RelationsPlan:
        if not self.grounding.vocabulary.acting:
            return RelationsPlan(book, self.grounding)
        if self.ends is None:
            raise StudyError(
                f"found a plan in words for task {book.task_id!r} and nothing that says what its words mean; expected learned ends in the bundle; "
                "segment and build again"
            )
        if self.config.correct_plans:
            book = self._corrected(name, book, self.ends)
        return WordsPlan(book, anchored(self.grounding), self.ends)

    def _corrected(self, plan: str, book: Playbook, ends: Ends) -> Playbook:
        """The plan in the order that demonstrations show, and its latents to match."""
        known = {self.label(skill.id): skill.id for skill in self.library.list()}
        names = [name for name in ends.skills if name in known]
        if not names:
            return book
        skills = self.library.latents(np.array([known[name] for name in names]))
        latents = self.step_latents[plan]
        alike = latents @ skills.T + self._unsupported(book, ends)[:, [ends.skills.index(name) for name in names]]
        nearest = [names[int(row)] for row in np.argmax(alike, axis=1)]
        ordered = in_order(book, nearest, ends.order, named_things=self.grounding.vocabulary.named_things)
        if ordered.changes:
            self.corrections[plan] = ordered
            own = {step.sentence: row for step, row in zip(book.steps, latents, strict=True)}
            own |= {name: row for name, row in zip(names, skills, strict=True) if name not in own}
            self.step_latents[plan] = np.stack([own[step.sentence] for step in ordered.playbook.steps])
        return ordered.playbook

    def _unsupported(self, book: Playbook, ends: Ends) -> NDArray[np.float32]:
        """(n_steps, n_skills) minus infinity for skills that were shown, but never with a step's thing; zeros where things have no names."""
        anchors = self.grounding.vocabulary.anchors
        shown = np.stack([ends.supported(anchors.index(step.about[0])) for step in book.steps])
        return np.where(shown, 0.0, -np.inf).astype(np.float32)

    @property
    def of_steps(self) -> LookedUp:
        """What answers the steps of the plans, whatever the state: looked up again when the library has changed, all of it at once."""
        if self.library.change != self._looked_up.change:
            with self._guard:
                if self.library.change != self._looked_up.change:
                    self._looked_up = self._look_up()
        return self._looked_up

    def _look_up(self) -> LookedUp:
        change = self.library.change
        answers = {name: self._lookup(latents, self._excluded(name)) for name, latents in self.step_latents.items()}
        meant = {name: self._skill_weights(answers[name].neighbors, answers[name].weights) for name in self.words}
        return LookedUp(change, answers, meant, self._lasting())

    def _lasting(self) -> Lasting:
        """Of each relation that some plan names: the skills that leave it as it is and that undo it, where both are enabled."""
        plans = [plan for plan in self.words.values() if isinstance(plan, RelationsPlan)]
        relations = {each.name: each for plan in plans for each in plan.relations}
        known = {self.label(skill.id): skill.id for skill in self.library.list(enabled=True)} if relations else {}
        found: dict[str, NDArray[np.float32]] = {}
        for name, relation in relations.items():
            sentences = [hindsight_step(relation, manner).sentence for manner in ("leave", "undo")]
            if all(sentence in known for sentence in sentences):
                found[name] = self.library.latents(np.array([known[sentence] for sentence in sentences]))
        return found

    def _excluded(self, task: str) -> list[frozenset[int]] | None:
        """Of each step, the skills that were shown, but never with its thing; None where things have no names."""
        if self.ends is None or task not in self.words or not self.grounding.vocabulary.named_things:
            return None
        shown = self._unsupported(self.words[task].playbook, self.ends) == 0.0
        numbers = {name: number for number, name in enumerate(self.ends.skills)}
        skills = {skill.id: numbers.get(self.label(skill.id)) for skill in self.library.list()}
        return [frozenset(i for i, number in skills.items() if number is not None and not row[number]) for row in shown]

    def _lookup(self, latents: NDArray[np.float32], excluded: list[frozenset[int]] | None = None) -> Answers:
        """(B, Z) -> the skills that answer each row; of each some may be excluded.

        Where nothing but excluded skills are enabled, they answer after all.
        """
        k = max(min(self.config.k, self.library.n_active), 1)
        if excluded is None:
            neighbors = self.library.search(latents, k)
        else:
            neighbors = without(self.library.search(latents, max(self.library.n_active, 1)), excluded, k)
        if (neighbors.ids[:, 0] < 0).any():
            raise LibraryConflict(
                "found no enabled skill in the library; expected at least one; enable one (lago skills enable), or build again"
            )
        logits = np.where(neighbors.ids >= 0, neighbors.scores / self.config.temperature, -np.inf)
        if self.config.support_weight:
            logits += self.config.support_weight * self._log_support(neighbors.ids)
        logits -= logits.max(axis=1, keepdims=True)
        weights = np.exp(logits)
        weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        return Answers(neighbors, weights, self.library.latents(neighbors.ids))

    def _log_support(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B, K) skill ids -> logarithms of their demonstrated steps."""
        unique, places = np.unique(ids, return_inverse=True)
        known = [self.library.get(n).support.get("steps", 0.0) if n >= 0 else 1.0 for n in unique.tolist()]
        return np.log(np.maximum(known, 1.0))[places].reshape(ids.shape)

    def _skill_weights(self, neighbors: Neighbors, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n_steps, n_skills) how much each demonstrated skill says of what a step's words mean."""
        if self.ends is None:  # of a world whose states tell which relations hold
            return np.zeros((len(weights), 0))
        meant = np.zeros((len(weights), len(self.ends.skills)))
        for row, ids in enumerate(neighbors.ids.tolist()):
            for number, weight in zip(ids, weights[row].tolist(), strict=True):
                label = self.label(number) if number >= 0 else ""
                if label in self.ends.skills:
                    meant[row, self.ends.skills.index(label)] += weight
        return meant

    def label(self, skill: int) -> str:
        """The sentence under which a skill was demonstrated, whatever it has been re-worded to since."""
        record = self.library.get(skill)
        return str(record.provenance.get("label", record.sentence))

    def neighbors(self, task: str) -> tuple[Neighbors, NDArray[np.float32]]:
        """Neighbours of each step of a task's playbook, and their (n_steps, K) weights."""
        answers = self.of_steps.answers[task]
        return answers.neighbors, answers.weights

    def retrieve(self, observations: NDArray[Any], task: str) -> Retrieval:
        """Which step is active in each state, where it heads, and which skills answer it.

        Raises:
            StudyError: the task has no playbook in this bundle.
            ShapeError: wrong observation size, or values that are not finite.
        """
        if task in self.words:
            return self._retrieve_words(observations, task)
        if task not in self.playbooks:
            raise StudyError(
                f"no playbook for task {task!r} in this bundle; expected one of {sorted((*self.playbooks, *self.words))}; "
                "plan the task and build the bundle again"
            )
        book, state = self.playbooks[task], self.grounding.read(observations)
        steps = book.active(state.values)
        if self.config.query == "playbook":
            queries = self.step_latents[task][steps]
            answers = self.of_steps.answers[task].of(steps)
        else:
            queries = self._learned(state, task)
            if self.config.query == "blend":
                queries = between(self.step_latents[task][steps], queries, self.config.blend)
            else:
                steps = book.answering(state.values, queries @ self.step_latents[task].T)
            answers = self._lookup(queries)
        targets = book.targets(steps, state.anchors)
        return Retrieval(
            state,
            queries,
            steps,
            targets,
            answers.neighbors,
            answers.weights,
            answers.latents,
            paces=paces(book.playbook, len(steps)),
        )

    def _retrieve_words(self, observations: NDArray[Any], task: str) -> Retrieval:
        plan, looked_up, together = self.words[task], self.of_steps, None
        if isinstance(plan, RelationsPlan):
            state = plan.grounding.read(np.asarray(observations, np.float64))
            reading, together = plan.read(state, looked_up.meant[task]), self._together(plan, state, task, looked_up)
        else:
            state = anchored(self.grounding).read(np.asarray(observations, np.float64))
            reading = plan.read(state, looked_up.meant[task])
        steps, answers = reading.steps, looked_up.answers[task].of(reading.steps)
        return Retrieval(
            state,
            self.step_latents[task][steps],
            steps,
            reading.targets,
            answers.neighbors,
            answers.weights,
            answers.latents,
            plan.subjects[steps],
            paces(plan.playbook, len(steps)),
            together,
        )

    @staticmethod
    def _together(plan: RelationsPlan, state: RelatedState, task: str, looked_up: LookedUp) -> Together:
        holding, answers = plan.holding(state), looked_up.answers[task]
        lasting = [looked_up.lasting.get(relation.name) for relation in plan.relations]
        return steps_together(holding, plan.at_work(holding), plan.subjects, answers.latents, answers.weights, lasting)

    def read_words(
        self, state: AnchoredState | RelatedState, task: str
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """B states -> (B,) active steps of a plan in words, and (B, D) where they head."""
        reading = self.words[task].read(state, self.of_steps.meant[task])  # pyright: ignore[reportArgumentType]  (a plan's states are its grounding's)
        return reading.steps, reading.targets

    def apart(self, state: AnchoredState | RelatedState, task: str) -> NDArray[np.float64]:
        """B states -> (B, n_steps) how far each is from where each step of a plan in words may begin, see `WordsPlan.apart`."""
        return self.words[task].apart(state, self.of_steps.meant[task])  # pyright: ignore[reportArgumentType]  (as in `read_words`)

    def _learned(self, state: State, task: str) -> NDArray[np.float32]:
        assert self.learned is not None  # refused at construction
        return self.learned(state.inputs(goals(self.grounding, state)), task)

    def prior(self, observations: NDArray[Any], task: str) -> Prior:
        """(B, S) observations -> mixture over the retrieved skills.

        Raises:
            StudyError: the task has no playbook in this bundle.
            ShapeError: wrong observation size, or values that are not finite.
        """
        return self.decode(self.retrieve(observations, task))

    def decode(self, retrieval: Retrieval) -> Prior:
        """The mixture of what was retrieved."""
        if retrieval.together is not None:
            state = cast("RelatedState", retrieval.state)
            size = self.grounding.vocabulary.target_size
            return decode_together(self.decoder, state, retrieval.together, size, self.config.floor)
        components = self.components(retrieval)
        if retrieval.paces is not None:
            components = components.paced(retrieval.paces)
        return components.flat(retrieval.weights, self.config.floor)

    def components(self, retrieval: Retrieval) -> Components | DiscreteComponents:
        """What each retrieved skill says, with actions numbered as in the environment."""
        components = self.decoder.decode(retrieval.inputs(), retrieval.latents)
        if retrieval.together is None or not isinstance(components, DiscreteComponents):
            return components
        own = cast("RelatedState", retrieval.state).own_actions(cast("NDArray[np.int64]", retrieval.subjects))
        return DiscreteComponents(renumbered(components.log_probs, own))
