"""`lago report STUDY --site FOLDER`: the explorer's pages in a folder."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

from lago_skills.artifacts.folder import read_manifest
from lago_skills.artifacts.progress import StageProgress
from lago_skills.errors import ArtifactMissing
from lago_skills.stages.workspace import Workspace, exclusive


def site_command(space: Workspace, folder: Path, *, play: bool, as_json: bool) -> None:
    """Play some episodes, unless they are on record or not wanted, and write the pages.

    Raises:
        ArtifactMissing: there is no bundle yet.
        StudyError: the folder holds something else.
    """
    from lago_skills.explorer.records import StudyRecords
    from lago_skills.explorer.site import export
    from lago_skills.explorer.source import Source
    from lago_skills.guide.loaded import load

    bundle = space.artifact("bundle")
    if read_manifest(bundle) is None:
        raise ArtifactMissing(
            f"found no bundle of study {space.study.name!r}; expected one, whose library and plans the pages show; run: lago build {space.argument}"
        )
    if play:
        _play(space)
    with closing(load(bundle, grounding=space.study.grounding if space.study.gym else None)) as guide:
        source = Source(guide, StudyRecords(space))
        with StageProgress("site", 1, "pages") as progress:
            count = export(source, folder, lambda done, name: progress.update("site", 0, f"{done} {name}"))
    page = folder / "index.html"
    if as_json:
        print(json.dumps({"rows": [], "summary": {"page": str(page), "documents": count}}))  # noqa: T201
        return
    print(f"pages: {page} ({count} documents)", file=sys.stderr)  # noqa: T201


def _play(space: Workspace) -> None:
    from lago_skills.explorer.playing import jobs

    with exclusive(space):
        for job in jobs(space):
            if not job.done:
                with StageProgress("play", job.total, job.unit) as progress:
                    job.run(lambda done, note, progress=progress, name=job.name: progress.update(name, done, note))
