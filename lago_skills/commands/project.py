"""`lago init` without an environment: a new project with the studies and recorded answers that come with the package."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

import lago_skills
from lago_skills.errors import StudyError

FOLDERS = ("studies", "transcripts", "scenes", "lint", "matchers", "motions")
DEPLOYMENTS = "prefect.yaml"


def shipped() -> Path:
    """Where the package's own studies and answers lie: beside it in a clone, among the data of the installation else.

    Raises:
        StudyError: they are in neither place.
    """
    places = (
        Path(lago_skills.__file__).parent.parent / "data",
        Path(sysconfig.get_path("data")) / "share" / "lago-skills",
    )
    for place in places:
        if (place / "studies").is_dir():
            return place
    raise StudyError(
        f"found no studies of the package in {' or '.join(map(repr, map(str, places)))}; expected them, as pip installs them; install lago-skills again"
    )


def project(root: Path) -> list[Path]:
    """Put what is not there yet into a project folder; says what was. Nothing is overwritten.

    Raises:
        StudyError: the package's own files cannot be found.
    """
    source, made = shipped(), list[Path]()
    for path in (source / DEPLOYMENTS, source.parent / DEPLOYMENTS):  # of an installation, or of a clone
        if path.is_file() and not (root / DEPLOYMENTS).exists():
            shutil.copyfile(path, root / DEPLOYMENTS)
            made.append(root / DEPLOYMENTS)
    for folder in FOLDERS:
        for path in sorted((source / folder).rglob("*")):
            place = root / "data" / path.relative_to(source)
            if path.is_file() and "__pycache__" not in path.parts and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
                made.append(place)
    return made


def project_command(root: Path) -> None:
    """`lago init`.

    Raises:
        StudyError: the package's own files cannot be found.
    """
    made = project(root)
    print(  # noqa: T201
        f"{len(made)} files of studies and recorded answers are in {root / 'data'} now; next: lago demo, or a study of your own environment with: lago init --env ID"
        if made
        else f"all studies and recorded answers are in {root / 'data'} already; next: lago demo",
        file=sys.stderr,
    )
