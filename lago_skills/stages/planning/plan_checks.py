"""Lint playbooks against demonstrations and against rollouts of the library; the results are committed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode, Playbook, Task
from lago_skills.errors import ArtifactMissing, DataError
from lago_skills.guide.guides import LibraryGuide
from lago_skills.planner.ask import Plan
from lago_skills.planner.findings import Finding, LintRecord
from lago_skills.planner.lint import Trace, lint_alignment, lint_demonstrations, lint_rollouts, lint_words
from lago_skills.stages import build, collect, plan, pretrain, query, segment
from lago_skills.stages.workspace import Workspace
from lago_skills.study import Study
from lago_skills.words.relations_plan import RelationsPlan
from lago_skills.worlds.grounding import AnchoredState, Grounding, RelatedState, anchored
from lago_skills.worlds.seeds import LINT_SEED
from lago_skills.worlds.world import World

N_ROLLOUTS = 5
"""Rollouts of each decoder."""
FULFILLED = 0.9
"""In so many demonstrations a step's relation should hold at the end."""


def lint(space: Workspace, tasks: list[str], seeds: list[int], say: Callable[[str], None]) -> None:
    """Check every version of these tasks' playbooks that has not been checked yet, and keep the findings.

    Demonstrations are used where the study has some. Rollouts need the bundle; they are made for seen and unseen tasks,
    never for those that are only planned. Beside the bundle's decoder they use others, pretrained with `seeds`: a plan that
    only a lucky decoder can follow is not a good plan.

    Raises:
        PlanError: a task has no recorded playbook.
        ArtifactCorrupt: demonstrations or the bundle are damaged.
    """
    planner, study = plan.planner(space), space.study
    guides: list[LibraryGuide] | None = None
    for name in tasks:
        plan_of_task = plan.plan_of(name, plan.plans(space), study.name)
        for answer, book, which in _checkable(plan_of_task):
            if planner.lint.get(answer):
                continue
            guides = _guides(space, seeds, say) if guides is None else guides
            say(f"{name}: looking at {which}")
            shown = _shown(space.collected, plan_of_task.task)
            planner.lint.append(check(study, plan_of_task.task, answer, book, shown, guides))


def _checkable(plan_of_task: Plan) -> list[tuple[str, Playbook, str]]:
    """The playbooks of a task: what lint knows each by, and what people call it."""
    versions = [
        (each.transcript.id, each.playbook, f"version {number}")
        for number, each in enumerate(plan_of_task.versions, start=1)
    ]
    others = plan_of_task.portfolio.alternatives if plan_of_task.portfolio else ()
    versions += [(each.id, each.playbook, f"plan {each.number} of the portfolio") for each in others]
    return [(answer, book, which) for answer, book, which in versions if book is not None]


def _guides(space: Workspace, seeds: list[int], say: Callable[[str], None]) -> list[LibraryGuide]:
    """The bundle's guide, and the same library with decoders of other seeds, which are kept beside the study's own artifacts."""
    study = space.study
    try:
        guides = [build.guide(space.artifact("bundle"), study.grounding)]
    except ArtifactMissing:
        say(f"no bundle yet, so no rollouts; build it with: lago run {study.name}")
        return []
    for seed in seeds:
        if seed == study.seed:
            continue
        job = pretrain.job(space, seed, space.artifact("lint", f"decoder-{seed}"))
        if not job.done:
            say(f"pretraining a decoder with seed {seed}, to lint with")
            job.run(lambda done, note: None)
        decoder, learned = pretrain.load(job.folder), query.wanted(space, job.folder, seed)
        guides.append(build.assemble(segment.labelled(space), decoder, build.retrieval(study.guide), learned))
    return guides


def check(
    study: Study, task: Task, answer: str, book: Playbook, shown: list[Episode], guides: list[LibraryGuide]
) -> LintRecord:
    """What demonstrations of the task and rollouts of guides say about one of its playbooks, which lint will know by `answer`."""
    grounding = study.grounding
    rolled: list[Trace] = []
    if not study.gym and task not in study.planned:
        for number, guide in enumerate(guides):
            world = study.load_world()
            rolled += rollout_traces(world, with_playbook(guide, book), task, number * N_ROLLOUTS)
    findings = _against(grounding, book, shown)
    faults = lint_rollouts(book, grounding.vocabulary, rolled)
    if faults or not rolled:
        findings += _out_of_order(guides, book)
    findings += faults
    if guides and (faults or (book.form == "words" and not rolled)):
        findings += lint_words(book, _undemonstrated(guides[0], book))
    return LintRecord(
        answer=answer,
        task_id=task.id,
        findings=findings,
        demonstrations=len(shown),
        rollouts=len(rolled),
        solved=sum(trace.ended for trace in rolled),
        environment_steps=sum(len(trace.values) - 1 for trace in rolled),
    )


def _undemonstrated(guide: LibraryGuide, book: Playbook) -> dict[str, list[tuple[str, float]]]:
    """For each sentence that is not in the library: the learned ones that answer for it, and their weights.

    A skill that was learned with another ending is in the library.
    """
    sentences = {skill.id: skill.sentence for skill in guide.library.list(enabled=True)}
    known = {
        *sentences.values(),
        *(step.skill for steps in (guide.ends.order.plans if guide.ends else ()) for step in steps),
    }
    followed = with_playbook(guide, book)
    neighbors, weights = followed.neighbors(book.task_id)
    return {
        step.sentence: [
            (sentences[int(i)], round(float(weight), 2))
            for i, weight in zip(neighbors.ids[row], weights[row], strict=True)
            if i >= 0 and weight >= 0.1
        ]
        for row, step in enumerate(followed.books[book.task_id].steps)
        if not {step.sentence, step.skill} & known
    }


def _shown(folders: Mapping[str, Path], task: Task) -> list[Episode]:
    """The task's demonstrations, as far as the study's have been collected."""
    try:
        return collect.load(folders)[task.id] if task.id in folders else []
    except ArtifactMissing:
        return []


def _against(grounding: Grounding, book: Playbook, episodes: list[Episode]) -> tuple[Finding, ...]:
    """What demonstrations say: of plans in numbers when their conditions held, of plans in words how they can be laid over the episodes."""
    if not episodes:
        return ()
    if book.form == "numbers":
        traces = [
            Trace(grounding.read(e.observations[:-1].astype(np.float64)).values, ended=e.success) for e in episodes
        ]
        return lint_demonstrations(book, grounding.vocabulary, traces)
    if not grounding.vocabulary.acting:
        return _unfulfilled(grounding, book, episodes)
    from lago_skills.words.alignment import align

    try:
        alignment = align(episodes, book, anchored(grounding))
    except DataError as error:
        return (Finding("unaligned", 0, str(error)),)
    return lint_alignment(book, np.diff(np.array(alignment.ends), axis=1), np.array(alignment.scores))


def _unfulfilled(grounding: Grounding, book: Playbook, episodes: list[Episode]) -> tuple[Finding, ...]:
    """Steps whose relation does not hold where demonstrations of the task end, by which it was done."""
    ends = np.stack(
        [episode.observations[-1] for episode in episodes if episode.success] or [episodes[0].observations[-1]]
    )
    plan = RelationsPlan(book, grounding)
    holding = plan.holding(plan.grounding.read(ends.astype(np.float64))).mean(axis=0)
    return tuple(
        Finding(
            "unfulfilled",
            number + 1,
            f"found {plan.relations[number].name!r} at the end of {share:.0%} of the demonstrations; expected a relation that holds where the task is done",
        )
        for number, share in enumerate(holding.tolist())
        if share < FULFILLED
    )


def _out_of_order(guides: list[LibraryGuide], book: Playbook) -> tuple[Finding, ...]:
    """What is corrected of a plan in words before it is followed."""
    if book.form == "numbers" or not guides:
        return ()
    ordered = with_playbook(guides[0], book).corrections.get(book.task_id)
    return tuple(Finding("out-of-order", change.step, change.text) for change in ordered.changes) if ordered else ()


def with_playbook(guide: LibraryGuide, book: Playbook) -> LibraryGuide:
    """The same guide following another playbook for that task."""
    from lago_skills.text.embed import embed

    latents = guide.decoder.latents(embed([step.sentence for step in book.steps]))
    return LibraryGuide(
        guide.grounding,
        guide.decoder,
        guide.library,
        {book.task_id: book},
        {book.task_id: latents},
        guide.config,
        guide.learned,
        guide.ends,
    )


def rollout_traces(
    world: World, guide: LibraryGuide, task: Task, first: int, n_episodes: int = N_ROLLOUTS
) -> list[Trace]:
    """Episodes of the library alone, at start states that nothing else uses."""
    env = world.make(task.id)
    traces: list[Trace] = []
    for number in range(first, first + n_episodes):
        observation, _ = env.reset(seed=LINT_SEED + number)
        seen = [observation]
        ended = truncated = False
        while not (ended or truncated):
            action = guide.prior(observation[None], task.id).greedy()[0]
            observation, _, ended, truncated, _ = env.step(action)
            seen.append(observation)
        states = np.stack(seen)
        steps = _written_steps(guide, states, task.id) if task.id in guide.words else None
        traces.append(Trace(guide.grounding.read(states).values, ended, steps))
    env.close()
    return traces


def _written_steps(guide: LibraryGuide, states: NDArray[np.float64], task: str) -> NDArray[np.int64]:
    """(T,) which step of a plan in words was at work, as the plan was written."""
    read = guide.grounding.read(states)
    steps, _ = guide.read_words(cast("AnchoredState | RelatedState", read), task)
    ordered = guide.corrections.get(task)
    return np.array(ordered.written)[steps] if ordered else steps
