"""Plan: recorded language-model answers become playbooks. Nothing is asked here; a missing answer is an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter, verify
from lago_skills.core import Playbook, Task, Vocabulary
from lago_skills.errors import LagoError, PlanError, TranscriptMissing
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner import scenes
from lago_skills.planner.ask import BEST, Plan, Planner
from lago_skills.planner.findings import LintFile
from lago_skills.planner.scenes import Scene
from lago_skills.playbook import plan_name, read_playbook, write_playbook
from lago_skills.stages.job import Job
from lago_skills.stages.planning import measured_motions
from lago_skills.stages.workspace import Workspace
from lago_skills.study import Study
from lago_skills.words.hindsight import hindsight_words

VERSION = 2
PLAYBOOKS_FILE, LINT_FILE, SAMPLES_FILE, PORTFOLIOS_FILE = (
    "playbooks.json",
    "lint.json",
    "samples.json",
    "portfolios.json",
)


def planner(space: Workspace) -> Planner:
    """The planner of a study: its grounding, scenes, transcripts and lint results.

    Raises:
        ArtifactCorrupt: the transcript file is damaged.
        PlanError: the scene or the lint file cannot be read.
        StudyError: the study's own grounding cannot be loaded.
    """
    grounding = space.study.grounding
    transcripts = TranscriptFile(space.transcripts)
    named = measured_motions.naming(space.study, measured_motions.load(space.motions), transcripts)
    known: dict[str, Scene] = {}
    if not space.study.gym or space.scenes.exists():
        known = scenes.load(space.scenes)
    for task in space.study.own_tasks:  # ranges from the study file, until they are measured
        bounds = {feature.name: (feature.low, feature.high) for feature in grounding.vocabulary.features}
        known.setdefault(task, Scene(task, bounds))
    seen_afterwards = _seen_afterwards(space.study)
    return Planner(
        study=space.argument,
        grounding=grounding,
        scenes=known,
        transcripts=transcripts,
        lint=LintFile(space.lint),
        model=space.study.plan.model,
        use_repairs=space.study.plan.repair,
        repairs=space.study.plan.repairs,
        brief=space.study.plan.prompt == "brief",
        form=space.study.plan.form,
        samples=space.study.plan.samples,
        portfolio=space.study.plan.portfolio,
        words=(*named.words, *seen_afterwards)
        if all(task.id in named.names for task in space.study.unplanned)
        else None,
        settled=bool(seen_afterwards),
    )


def _seen_afterwards(study: Study) -> tuple[str, ...]:
    """Sentences of what demonstrations bring about, whatever they are for: they are known before any plan."""
    vocabulary = study.grounding.vocabulary
    by_relations = study.plan.form == "words" and not vocabulary.acting
    return hindsight_words(vocabulary.relations) if by_relations and study.segment.hindsight else ()


def demonstrated(study: Study) -> tuple[Task, ...]:
    """Seen tasks that are planned: all but those whose data is cut by change points."""
    return tuple(task for task in study.seen if task not in study.unplanned)


def undemonstrated(study: Study) -> tuple[Task, ...]:
    """Unseen and merely planned tasks: asked with the words of all training tasks."""
    return (*study.unseen, *study.planned)


def plans(space: Workspace) -> dict[str, Plan]:
    """What is known about each task's playbook.

    Raises:
        ArtifactCorrupt: the transcript file is damaged.
        PlanError: the scene or the lint file cannot be read.
    """
    return planner(space).plans(demonstrated(space.study), undemonstrated(space.study))


def plan_of(task: str, known: Mapping[str, Plan], study: str) -> Plan:
    """One task's plan among those of a study, by task id.

    Raises:
        PlanError: there is none, or nobody has answered its request yet.
    """
    if task not in known or not known[task].versions:
        answered = sorted(name for name, plan in known.items() if plan.versions)
        raise PlanError(
            f"found no recorded playbook for task {task!r} in study {study!r}; expected one of {answered}; "
            "name one of them, or another study with --study"
        )
    return known[task]


def jobs(space: Workspace) -> list[Job]:
    """One job: all playbooks of the study.

    Raises:
        TranscriptMissing: an answer has not been recorded.
        PlanError: a recorded answer and its repair are not valid playbooks.
    """
    maker, study = planner(space), space.study
    measured_motions.complete(study, measured_motions.load(space.motions), maker.transcripts)
    books = maker.playbooks(demonstrated(study), undemonstrated(study))
    known = maker.plans(demonstrated(study), undemonstrated(study))
    lint = {name: summary(plan) for name, plan in known.items()}
    samples = {name: sampled(plan) for name, plan in known.items() if plan.samples}
    portfolios = {name: alternatives(plan) for name, plan in known.items() if plan.portfolio}
    if lacking := [plan for plan in known.values() if plan.portfolio and not plan.portfolio.playbooks]:
        raise _no_portfolio(lacking[0], maker)
    recipe = {
        "stage": "plan",
        "version": VERSION,
        "playbooks": {name: write_playbook(book) for name, book in books.items()},
        "lint": lint,
        **({"samples": samples} if samples else {}),
        **({"portfolios": portfolios} if portfolios else {}),
    }

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        save(books, lint, writer.path)
        if samples:
            write_json(writer.path / SAMPLES_FILE, samples)
        if portfolios:
            write_json(writer.path / PORTFOLIOS_FILE, portfolios)
        skills = {step.skill for book in books.values() for step in book.steps}
        progress(len(books), f"{len(skills)} skill sentences")
        models = sorted({book.model for book in books.values()})
        writer.summary = {"playbooks": len(books), "models": models, "skills": len(skills)}

    return [Job("plan", "playbooks", space.artifact("playbooks"), recipe, len(books), "playbooks", make)]


def save(books: Mapping[str, Playbook], lint: Mapping[str, dict[str, Any]], folder: Path) -> None:
    """Write playbooks, and what is kept beside each, by task id."""
    entries = {name: write_playbook(book) for name, book in books.items()}
    for name, values in ((PLAYBOOKS_FILE, entries), (LINT_FILE, lint)):
        write_json(folder / name, values)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file that people can read."""
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def sampled(plan: Plan) -> list[dict[str, Any]]:
    """All playbooks that a task's answers brought, oldest first: `playbook`, `model`, `findings`, `score`, `in_use`."""
    return [
        {
            "playbook": write_playbook(each.chosen.playbook),
            "model": each.chosen.transcript.model,
            "transcript": each.chosen.transcript.id,
            "findings": [asdict(finding) for finding in each.chosen.findings],
            "score": each.chosen.score,
            "in_use": each.chosen is plan.chosen,
        }
        for each in plan.samples
        if each.chosen is not None and each.chosen.playbook is not None
    ]


def _no_portfolio(lacking: Plan, maker: Planner) -> LagoError:
    """Why a task has no portfolio."""
    asked = lacking.portfolio
    assert asked is not None
    if asked.transcript is None:
        model = None if maker.model == BEST else maker.model
        try:
            maker.transcripts.replay(asked.request, maker.study, model)
        except TranscriptMissing as error:
            return error
    findings = [f.line() for f in asked.findings] + [f.line() for each in asked.alternatives for f in each.findings]
    return PlanError(
        f"task {lacking.task.id!r} has no portfolio: the answer holds no valid plan: {'; '.join(findings)}; ask again with: lago plan {maker.study} "
        f"--live --again portfolio/{lacking.task.id}, or set plan.portfolio = 0"
    )


def alternatives(plan: Plan) -> list[dict[str, Any]]:
    """The plans of a task's portfolio, in the order of the answer: `number`, `way`, `playbook` (none where it is not valid), `model`, `findings`, `score`."""
    return [
        {
            "number": each.number,
            "way": each.way,
            "playbook": each.playbook and write_playbook(each.playbook),
            "model": each.transcript.model,
            "transcript": each.transcript.id,
            "findings": [asdict(finding) for finding in each.findings],
            "score": each.score,
        }
        for each in (plan.portfolio.alternatives if plan.portfolio else ())
    ]


def load_portfolios(folder: Path, vocabulary: Vocabulary) -> dict[str, Playbook]:
    """The valid plans of all portfolios, by plan: `TASK/NUMBER`; empty where a study asks for none.

    Raises:
        ArtifactMissing: the stage has not run.
        ArtifactCorrupt: the file is damaged.
    """
    verify(folder)
    path = folder / PORTFOLIOS_FILE
    raw: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {
        plan_name(task, each["number"]): read_playbook(each["playbook"], vocabulary)
        for task, entries in raw.items()
        for each in entries
        if each["playbook"] is not None
    }


def load_samples(folder: Path, vocabulary: Vocabulary) -> dict[str, list[Playbook]]:
    """All playbooks of the tasks that have several, by task id, oldest first; empty where a study takes one answer each.

    Raises:
        ArtifactMissing: the stage has not run.
        ArtifactCorrupt: the file is damaged.
    """
    verify(folder)
    path = folder / SAMPLES_FILE
    raw: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: [read_playbook(each["playbook"], vocabulary) for each in entries] for name, entries in raw.items()}


def summary(plan: Plan) -> dict[str, Any]:
    """What is kept beside a playbook: who wrote which step, what lint found, whether it was repaired."""
    chosen = plan.chosen
    return {
        "version": plan.versions.index(chosen) + 1 if chosen else 0,
        "authors": list(chosen.authors) if chosen else [],
        "source": chosen.transcript.source if chosen else "",
        "findings": [asdict(finding) for finding in (chosen.findings if chosen else ())],
        "repaired": plan.repaired,
        "score": chosen.score if chosen else None,
    }


def load(folder: Path, vocabulary: Vocabulary) -> dict[str, Playbook]:
    """The playbooks of a folder, by task id.

    Raises:
        ArtifactMissing: the stage has not run.
        ArtifactCorrupt: the file is damaged.
    """
    verify(folder)
    raw: dict[str, dict[str, Any]] = json.loads((folder / PLAYBOOKS_FILE).read_text(encoding="utf-8"))
    return {name: read_playbook(entry, vocabulary) for name, entry in raw.items()}


def load_lint(folder: Path) -> dict[str, dict[str, Any]]:
    """What is kept beside each playbook of a folder, by task id: see `summary`.

    Raises:
        ArtifactMissing: the stage has not run.
    """
    verify(folder)
    return json.loads((folder / LINT_FILE).read_text(encoding="utf-8"))
