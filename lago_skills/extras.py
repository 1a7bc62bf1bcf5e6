"""Packages that not everybody needs: which extra brings one that is not installed."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires

from lago_skills.errors import StudyError

DISTRIBUTION = "lago-skills"
IMPORTED_AS = {"pillow": "PIL", "scikit-learn": "sklearn"}
"""Import names that are not the package's own name."""
_LINE = re.compile(r"(?P<name>[\w.-]+).*;.*extra == ['\"](?P<extra>[\w-]+)['\"]")
NOT_FOR_USERS = ("all", "dev", "examples")


def brought_by() -> dict[str, str]:
    """The extra that brings a package, by its import name; the smallest one, where several do."""
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return {}
    by_extra: dict[str, set[str]] = {}
    for line in lines:
        match = _LINE.match(line)
        if match is not None and match["extra"] not in NOT_FOR_USERS and match["name"] != DISTRIBUTION:
            name = match["name"].lower()
            by_extra.setdefault(match["extra"], set()).add(IMPORTED_AS.get(name, name.replace("-", "_")))
    smallest_last = sorted(by_extra.items(), key=lambda each: -len(each[1]))
    return {name: extra for extra, names in smallest_last for name in names}


def missing(error: ModuleNotFoundError, wanted: str) -> StudyError | None:
    """What to say of a package that is not here; None where no extra brings it, so that it is a fault of ours or of somebody's own module."""
    name = (error.name or "").partition(".")[0]
    extra = brought_by().get(name)
    if extra is None:
        return None
    return StudyError(
        f"found no package {name!r} here; expected it for {wanted}; install it with: pip install 'lago-skills[{extra}]', or all there is with: "
        "pip install 'lago-skills[all]'"
    )
