"""Every document of the explorer by its name. The service answers with them when they are asked for; an export writes them all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from lago_skills.errors import LagoError, StudyError
from lago_skills.explorer import episodes, motions, plans, skills
from lago_skills.explorer.source import Json, Source

Whole = Callable[[Source], Json]
Part = Callable[[Source, str], Json]
WHOLE: dict[str, Whole] = {
    "home": skills.home,
    "map": skills.latent_map,
    "episodes": episodes.listed,
    "study": lambda source: source.records.study() if source.records is not None else {"study": None},
    "curves": lambda source: source.records.curves() if source.records is not None else {"runs": []},
}
PARTS: dict[str, Part] = {
    "skills": lambda source, rest: skills.part(source, skills.number_of(rest)),
    "skill": lambda source, rest: skills.card(source, skills.number_of(rest)),
    "motion": lambda source, rest: motions.motion(source, skills.number_of(rest)),
    "plan": plans.portfolio,
    "states": plans.states,
    "episode": episodes.timeline,
}
"""Documents of which there are many: `skill-42`."""
OF_A_STUDY = frozenset({"study", "curves"})
"""They change while the study runs, whatever the bundle does."""


def document(source: Source, name: str) -> Json:
    """The document of that name.

    Raises:
        StudyError: there is none.
        LagoError: what it is made of cannot be read.
    """
    if name in WHOLE:
        return WHOLE[name](source)
    kind, _, rest = name.partition("-")
    if kind not in PARTS or not rest:
        raise StudyError(
            f"found no document {name[:80]!r}; expected one of {', '.join(WHOLE)} or {', '.join(f'{kind}-...' for kind in PARTS)}; correct it"
        )
    return PARTS[kind](source, rest)


def names(source: Source) -> Iterator[str]:
    """The names of all documents that there are."""
    yield from WHOLE
    yield from (f"skills-{number}" for number in range(skills.home(source)["parts"]))
    for row in source.library.store.rows("ORDER BY id"):
        yield f"skill-{row.id}"
        if source.records is not None and source.records.segments:
            yield f"motion-{row.id}"
    for task in source.bundle.tasks:
        yield f"plan-{task}"
        yield f"states-{task}"
    for recorded in source.episodes:
        if recorded.episode.task_id in source.bundle.tasks:
            yield f"episode-{recorded.name}"


def written(source: Source, name: str) -> str:
    """The document as JSON in one line, or what is wrong with it as `{"error": ...}`."""
    try:
        said = document(source, name)
    except LagoError as error:
        said = {"error": str(error)}
    return compact(said)


def compact(said: Json) -> str:
    """JSON without spaces, that a script may hold as it is: no `<`, and no line ends that JavaScript sees and JSON does not."""
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
