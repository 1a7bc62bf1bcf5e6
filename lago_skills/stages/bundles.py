"""A study's bundle for somewhere else: the built one, with the wordings by which people ask for its tasks."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lago_skills.artifacts.folder import MANIFEST, read_manifest, verify, writing
from lago_skills.artifacts.tensors import load_arrays
from lago_skills.errors import ArtifactMissing, StudyError
from lago_skills.guide.any_words import MATCHER_FILE
from lago_skills.guide.bundle import load_bundle
from lago_skills.guide.bundle_file import packed
from lago_skills.guide.description import DESCRIPTION_FILE, describe, write_description
from lago_skills.guide.learned_policy import LearnedPolicy, PolicyFacts, save_policies
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner.wordings import NONE, read_wordings
from lago_skills.rl.config import PPOConfig, SACConfig
from lago_skills.stages import build, train
from lago_skills.stages.job import digest
from lago_skills.stages.planning.wording_search import trained
from lago_skills.stages.workspace import Workspace

VERSION = 1


@dataclass(frozen=True)
class Made:
    """A bundle that was written."""

    path: Path
    digest: str
    n_bytes: int
    n_tasks: int
    n_skills: int
    policies: dict[str, str]
    """Training runs whose policies are in it, by task."""


def make(space: Workspace, path: Path, *, trained: bool = False) -> Made:
    """Write the bundle of a study to a folder, or to one file where the name ends in `.zip`; what was there is replaced.

    With `trained`, the best finished run of each trained task is in it, and leads there.

    Raises:
        ArtifactMissing: the study's bundle is not built.
        ArtifactCorrupt: it is damaged.
        StudyError: there is something else at the path.
        DiskFull: no room.
    """
    built = space.artifact("bundle")
    verify(built)
    policies = best_policies(space) if trained else {}
    if path.suffix == ".zip":
        with tempfile.TemporaryDirectory(prefix="lago-bundle-") as scratch:
            made = _written(space, built, Path(scratch) / "bundle", policies)
            packed(made.path, path)
        return Made(path, made.digest, path.stat().st_size, made.n_tasks, made.n_skills, made.policies)
    if path.exists() and not (path / MANIFEST).is_file():
        raise StudyError(
            f"found {str(path)!r}, which is no bundle; expected a new path, or a bundle that may be replaced; choose another --to"
        )
    return _written(space, built, path, policies)


def _written(space: Workspace, built: Path, folder: Path, policies: dict[str, LearnedPolicy]) -> Made:
    recipe = {"stage": "bundle", "version": VERSION, "bundle": digest(built), **verify(built).recipe}
    recipe |= {"policies": {task: policy.facts.run for task, policy in policies.items()}} if policies else {}
    grounding = space.study.grounding
    with writing(folder, "bundle", recipe) as writer:
        shutil.copytree(built, writer.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        guide = load_bundle(built, grounding=grounding)
        with closing(guide.library):
            said = describe(space.world, guide.books, _wordings(space), _demonstrations(space))
            write_description(writer.path, said)
            if (matcher := trained(space)) is not None:
                shutil.copyfile(matcher, writer.path / MATCHER_FILE)
            writer.uncounted |= {DESCRIPTION_FILE, MATCHER_FILE}  # so that its digest is that of the built one
            build.summarise(writer, guide.library, guide.books)
            if policies:
                save_policies(writer.path, policies)
                writer.summary["policies"] = {task: policy.facts.run for task, policy in policies.items()}
            n_tasks, n_skills = len({book.task_id for book in guide.books.values()}), guide.library.n_active
    n_bytes = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    runs = {task: policy.facts.run for task, policy in policies.items()}
    return Made(folder, verify(folder).digest, n_bytes, n_tasks, n_skills, runs)


def _wordings(space: Workspace) -> dict[str, list[str]]:
    tasks = space.study.all_tasks
    known = read_wordings(TranscriptFile(space.transcripts), tasks)
    return {name: texts for name, texts in known.texts.items() if name != NONE}


def _demonstrations(space: Workspace) -> list[dict[str, Any]]:
    """What the study's skills were learned from; without what is no longer there."""
    known = {task: read_manifest(folder) for task, folder in space.collected.items()}
    return [
        {
            "task": task,
            "episodes": manifest.summary.get("episodes"),
            "steps": manifest.summary.get("steps"),
            "digest": manifest.digest,
            "recipe": manifest.recipe,
        }
        for task, manifest in known.items()
        if manifest is not None
    ]


def best_policies(space: Workspace) -> dict[str, LearnedPolicy]:
    """Of each task that was trained, the policy of the run that succeeded most in its last evaluation; of equal ones the study's first.

    Raises:
        ArtifactMissing: no run is finished.
        StudyError: the best run of a task follows a plan of another study, whose library is not in this bundle.
    """
    best: dict[str, tuple[float, train.TrainingRun]] = {}
    for run in train.training_runs(space.study):
        manifest = read_manifest(space.artifact("runs", run.name))
        if manifest is not None:
            success = float(manifest.summary["success"])
            if run.task.id not in best or success > best[run.task.id][0]:
                best[run.task.id] = success, run
    if not best:
        raise ArtifactMissing(
            f"study {space.study.name!r}: found no finished training run; expected some for --trained; run: lago train {space.argument}"
        )
    return {task: policy_of(space, run) for task, (_, run) in best.items()}


def policy_of(space: Workspace, run: train.TrainingRun) -> LearnedPolicy:
    """What a finished run has learned, as bundles hold it.

    Raises:
        ArtifactMissing: the run is not finished.
        StudyError: it follows a plan of another study.
    """
    folder, study = space.artifact("runs", run.name), space.study
    summary, config = verify(folder).summary, train.learner_config(study.train, run.algorithm)
    advised = train.is_advised(run)
    if advised:
        guide, plan = train.guide_of(space, run)
        if study.plan.beside and not plan.startswith(f"{study.name}: "):
            raise StudyError(
                f"run {run.name!r} follows {plan!r}, a plan of another study; expected one of {study.name!r}, whose library is in the bundle; make a bundle of that "
                "study, or leave --trained out"
            )
    else:
        guide = build.guide(space.artifact("bundle"), study.grounding)
    arrays = load_arrays(folder / train.ACTOR_FILE)
    if not config.normalize_states:
        arrays = {name: array for name, array in arrays.items() if not name.startswith("normalizer.")}
    facts = PolicyFacts(
        task=run.task.id,
        run=run.name,
        algorithm="ppo" if isinstance(config, PPOConfig) else "sac",
        leader=str(summary["leader"]) if advised else "policy",
        discrete=study.grounding.action_space.discrete,
        layer_norm=isinstance(config, SACConfig) and config.layer_norm,
        residual_scale=config.residual_scale if advised else None,
        spread_by_state=isinstance(config, PPOConfig) and config.std_by_state,
        success=float(summary["success"]),
        episodes=int(summary["episodes"]),
    )
    with closing(guide.library):
        return LearnedPolicy(facts, arrays, guide.books[run.task.id], guide.step_latents[run.task.id])
