"""Study files: where they lie, and how one is read. A misspelt key or an impossible value is refused with a sentence."""

from __future__ import annotations

import difflib
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from lago_skills.errors import StudyError
from lago_skills.study.checks import check_study, short
from lago_skills.study.study import KINDS_OF_WORLDS, Study
from lago_skills.worlds.config import WorldConfig

STUDIES_DIR = Path("data/studies")


def study_path(name: str, root: Path) -> Path:
    """The file of a study given by name (`demo`; those in folders of `data/studies` too) or path.

    Raises:
        StudyError: there is no such file.
    """
    path = Path(name) if name.endswith(".toml") else root / STUDIES_DIR / f"{name}.toml"
    if path.is_file():
        return path
    inside = {each.stem: each for each in sorted((root / STUDIES_DIR).glob("*/*.toml"))}
    if name in inside:
        return inside[name]
    known = sorted({*(each.stem for each in (root / STUDIES_DIR).glob("*.toml")), *inside})
    raise StudyError(
        f"no study {name!r} (looked for {str(path)!r}); expected one of {known} or the path of a TOML file; name one of them, put those of the package here "
        "with: lago init, or write one of an environment of your own with: lago init --env ID"
    )


def load_study(path: Path) -> Study:
    """Read and check a study file; Python that lies beside it can be imported from then on.

    Raises:
        StudyError: not TOML, a misspelt key, an impossible value, or an unknown task or algorithm.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"study {str(path)!r} cannot be read: {error}; expected TOML; correct that line") from error
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        raise StudyError(f"study {str(path)!r}: " + "; ".join(_explain(e) for e in error.errors()[:3])) from error
    if (beside := str(path.parent.resolve())) not in sys.path:
        sys.path.append(beside)
    check_study(study, path)
    return study


def _is_section(item: Any) -> bool:
    return isinstance(item, type) and issubclass(item, BaseModel)


def _explain(error: Any) -> str:
    loc = [part for number, part in enumerate(error["loc"]) if not (number == 1 and part in KINDS_OF_WORLDS)]
    where = ".".join(str(part) for part in loc)
    if error["type"] == "extra_forbidden":
        model: type[BaseModel] = Study
        for number, part in enumerate(error["loc"][:-1]):
            if number == 1 and part in KINDS_OF_WORLDS:
                model = KINDS_OF_WORLDS[str(part)]
            elif str(part) in model.model_fields:  # else a place in a list, or the name of a user's own
                annotation: Any = model.model_fields[str(part)].annotation
                inside = (item for item in (annotation, *get_args(annotation)) if _is_section(item))
                model = next(inside, model)
        near = difflib.get_close_matches(str(error["loc"][-1]), model.model_fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "remove it"
        if model is WorldConfig:
            hint += "; an environment is described with use = 'gym'"
        return f"found unknown key {where!r}; expected one of {sorted(model.model_fields)}; {hint}"
    problem = f"found {where} = {short(error['input'])}" if error["type"] != "missing" else f"found no {where!r}"
    said = error["msg"].removeprefix("Value error, ")
    said = said if error["type"] == "value_error" else said.lower()
    return f"{problem}; expected: {said}; correct that value"
