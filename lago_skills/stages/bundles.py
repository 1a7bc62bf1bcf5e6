"""A study's bundle for somewhere else: the built one, with the wordings by which people ask for its tasks."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lago_skills.artifacts.folder import MANIFEST, verify, writing
from lago_skills.errors import StudyError
from lago_skills.guide.bundle import load_bundle
from lago_skills.guide.bundle_file import packed
from lago_skills.guide.description import DESCRIPTION_FILE, describe, write_description
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner.wordings import NONE, read_wordings
from lago_skills.stages import build
from lago_skills.stages.job import digest
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


def make(space: Workspace, path: Path) -> Made:
    """Write the bundle of a study to a folder, or to one file where the name ends in `.zip`; what was there is replaced.

    Raises:
        ArtifactMissing: the study's bundle is not built.
        ArtifactCorrupt: it is damaged.
        StudyError: there is something else at the path.
        DiskFull: no room.
    """
    built = space.artifact("bundle")
    verify(built)
    if path.suffix == ".zip":
        with tempfile.TemporaryDirectory(prefix="lago-bundle-") as scratch:
            made = _written(space, built, Path(scratch) / "bundle")
            packed(made.path, path)
        return Made(path, made.digest, path.stat().st_size, made.n_tasks, made.n_skills)
    if path.exists() and not (path / MANIFEST).is_file():
        raise StudyError(
            f"found {str(path)!r}, which is no bundle; expected a new path, or a bundle that may be replaced; choose another --to"
        )
    return _written(space, built, path)


def _written(space: Workspace, built: Path, folder: Path) -> Made:
    recipe = {"stage": "bundle", "version": VERSION, "bundle": digest(built), **verify(built).recipe}
    grounding = space.study.grounding
    with writing(folder, "bundle", recipe) as writer:
        shutil.copytree(built, writer.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        guide = load_bundle(built, grounding=grounding)
        with closing(guide.library):
            write_description(writer.path, describe(space.study.load_world(), guide.books, _wordings(space)))
            writer.uncounted.add(DESCRIPTION_FILE)  # so that its digest is that of the built one
            build.summarise(writer, guide.library, guide.books)
            n_tasks, n_skills = len({book.task_id for book in guide.books.values()}), guide.library.n_active
    n_bytes = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    return Made(folder, verify(folder).digest, n_bytes, n_tasks, n_skills)


def _wordings(space: Workspace) -> dict[str, list[str]]:
    tasks = space.study.all_tasks
    known = read_wordings(TranscriptFile(space.transcripts), tasks)
    return {name: texts for name, texts in known.texts.items() if name != NONE}
