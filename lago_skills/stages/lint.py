"""Lint playbooks against demonstrations and against rollouts of the library; the results are committed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lago_skills.core import Playbook, Task
from lago_skills.errors import ArtifactMissing, PlanError
from lago_skills.guide.guides import LibraryGuide
from lago_skills.planner.ask import Plan, Version
from lago_skills.planner.findings import LintRecord
from lago_skills.planner.lint import Trace, lint_demonstrations, lint_rollouts, lint_words
from lago_skills.stages import build, collect, plan, pretrain, query
from lago_skills.stages.job import Workspace

N_ROLLOUTS = 5
"""Rollouts of each decoder."""


def lint(space: Workspace, tasks: list[str], seeds: list[int], say: Callable[[str], None]) -> None:
    """Check every version of these tasks' playbooks that has not been checked yet, and keep the findings.

    Demonstrations are used where the study has some. Rollouts need the bundle; they are made for seen and unseen tasks,
    never for those that are only planned. Beside the bundle's decoder they use others, pretrained with `seeds`: a plan that
    only a lucky decoder can follow is not a good plan.

    Raises:
        PlanError: a task has no recorded playbook.
        ArtifactCorrupt: demonstrations or the bundle are damaged.
    """
    if space.study.plan.form == "words":
        raise PlanError(
            f'study {space.study.name!r}: found plan.form = "words"; expected a study with plans in numbers, since demonstrations and rollouts are held against thresholds; '
            "plans in words are checked by logic whenever they are read (lago plan show)"
        )
    planner = plan.planner(space)
    guides: list[LibraryGuide] | None = None
    for name in tasks:
        found = plan.find_plan(space, name)
        for version in found.versions:
            if version.playbook is None or planner.lint.get(version.transcript.id):
                continue
            guides = _guides(space, seeds, say) if guides is None else guides
            say(f"{name}: looking at version {found.versions.index(version) + 1}")
            planner.lint.append(check(space, found, version, guides))


def _guides(space: Workspace, seeds: list[int], say: Callable[[str], None]) -> list[LibraryGuide]:
    """The bundle's guide, and the same library with decoders of other seeds."""
    try:
        bundle = build.guide(space)
    except ArtifactMissing:
        say(f"no bundle yet, so no rollouts; build it with: lago run {space.study.name}")
        return []
    guides = [bundle]
    for seed in seeds:
        if seed != space.study.seed:
            guides.append(_another(space, seed, say))
    return guides


def _another(space: Workspace, seed: int, say: Callable[[str], None]) -> LibraryGuide:
    """A guide whose decoder was pretrained with another seed; it is kept beside the study's own artifacts."""
    job = pretrain.job(space, seed, space.artifact("lint", f"decoder-{seed}"))
    if not job.done:
        say(f"pretraining a decoder with seed {seed}, to lint with")
        job.run(lambda done, note: None)
    return build.assemble(space, pretrain.load(job.folder), query.wanted(space, job.folder, seed))


def check(space: Workspace, found: Plan, version: Version, guides: list[LibraryGuide]) -> LintRecord:
    """What demonstrations and rollouts say about one version of a playbook."""
    book, grounding = version.playbook, space.study.grounding
    assert book is not None
    demonstrations: list[Trace] = []
    if found.task in space.study.seen:
        demonstrations = _demonstrations(space, found.task)
    rolled: list[Trace] = []
    if not space.study.environment and found.task not in space.study.planned:
        for number, guide in enumerate(guides):
            rolled += rollout_traces(with_playbook(guide, book), found.task, number * N_ROLLOUTS)
    findings = lint_demonstrations(book, grounding.vocabulary, demonstrations)
    if faults := lint_rollouts(book, grounding.vocabulary, rolled):
        findings += faults + lint_words(book, _undemonstrated(guides[0], book))
    return LintRecord(
        answer=version.transcript.id,
        task_id=found.task.id,
        findings=findings,
        demonstrations=len(demonstrations),
        rollouts=len(rolled),
        solved=sum(trace.ended for trace in rolled),
        environment_steps=sum(len(trace.values) - 1 for trace in rolled),
    )


def _undemonstrated(guide: LibraryGuide, book: Playbook) -> dict[str, list[tuple[str, float]]]:
    """For each sentence that is not in the library: the learned ones that answer for it, and their weights."""
    sentences = {skill.id: skill.sentence for skill in guide.library.list(enabled=True)}
    found, weights = with_playbook(guide, book).neighbors(book.task_id)
    return {
        step.skill: [
            (sentences[int(i)], round(float(weight), 2))
            for i, weight in zip(found.ids[row], weights[row], strict=True)
            if i >= 0 and weight >= 0.1
        ]
        for row, step in enumerate(book.steps)
        if step.skill not in sentences.values()
    }


def _demonstrations(space: Workspace, task: Task) -> list[Trace]:
    try:
        episodes = collect.episodes(space)[task.id]
    except ArtifactMissing:
        return []
    grounding = space.study.grounding
    return [Trace(grounding.values(e.observations[:-1].astype(np.float64)), ended=e.success) for e in episodes]


def with_playbook(guide: LibraryGuide, book: Playbook) -> LibraryGuide:
    """The same guide following another playbook for that task."""
    from lago_skills.embed import embed

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


def rollout_traces(guide: LibraryGuide, task: Task, first: int, n_episodes: int = N_ROLLOUTS) -> list[Trace]:
    """Episodes of the library alone, at start states that nothing else uses."""
    from lago_skills.envs.metaworld import LINT_SEED, MetaWorldEnv

    env = MetaWorldEnv(task)
    traces: list[Trace] = []
    for number in range(first, first + n_episodes):
        observation, _ = env.reset(seed=LINT_SEED + number)
        seen = [observation]
        ended = truncated = False
        while not (ended or truncated):
            action = guide.prior(observation[None], task.id).mean()[0]
            observation, _, ended, truncated, _ = env.step(action)
            seen.append(observation)
        traces.append(Trace(guide.grounding.values(np.stack(seen)), ended))
    env.close()
    return traces
