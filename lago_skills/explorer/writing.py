"""What people change from a page: a skill's words, whether it is used, what a plan compares, what is approved. Through the same methods as the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Skill, skill_name
from lago_skills.errors import ShapeError, SkillChanged, StudyError
from lago_skills.explorer import asking, latents, planning, preview
from lago_skills.explorer.source import Json, Source
from lago_skills.extras import missing
from lago_skills.library import SkillLibrary, edits
from lago_skills.library.duplicates import near_duplicates
from lago_skills.library.storage.checks import check_sentence
from lago_skills.stages import approval
from lago_skills.stages.workspace import Workspace

WHO = 80
"""Characters of a person's name, at most."""


class LibraryWriter:
    """Does what a page asks for. What a person looked at is named by its version: if that is another by now, nothing is done.

    Args:
        library: folder of the library that is changed; the guide follows it.
        space: the study behind it, if there is one.
    """

    def __init__(self, library: Path, space: Workspace | None = None) -> None:
        self._folder, self._space = library, space
        self._actions: dict[str, Callable[[Json, Source], Json]] = {
            "preview": self._preview,
            "consequences": self._consequences,
            "edit": self._edit,
            "disable": self._switch,
            "enable": self._switch,
            "merge": self._merge,
            "undo": self._undo,
            "search": self._search,
            "ask": self._ask,
            "plan": self._plan,
            "lint": self._lint,
            "rollout": self._rollout,
            "approve": self._approve,
        }

    def do(self, what: str, fields: Json, source: Source) -> Json:
        """Do one thing.

        Raises:
            SkillChanged: somebody else has changed the skill since.
            StudyError: nothing is called so, or a package is missing.
            LagoError: it cannot be done; says why.
        """
        if what not in self._actions:
            raise StudyError(f"found {what[:40]!r}; expected one of {', '.join(self._actions)}; correct it")
        try:
            return self._actions[what]({**fields, "action": what}, source)
        except ModuleNotFoundError as error:
            raise missing(error, f"what pages change ({what})") or error from error

    # -- skills --------------------------------------------------------------------------------------------------------

    def _preview(self, fields: Json, source: Source) -> Json:
        sentence = text(fields, "sentence")
        check_sentence(sentence)
        skill = source.library.get(number(fields, "id"))
        with SkillLibrary.open(self._folder) as library:
            embedding, latent = latents.encode_sentence(self._folder, library, sentence)
            behaviour = latents.behaviour_of(self._folder, library)
            alike = near_duplicates(
                library, sentence, latent, embedding=embedding, behaviour=behaviour, exclude_id=skill.id
            )
        return {
            **preview.effect(source, skill, latent),
            "version": skill.version,
            "alike": [
                {"id": each.id, "name": skill_name(each.id), "sentence": each.sentence, "near": each.near}
                for each in alike[:5]
            ],
        }

    def _consequences(self, fields: Json, source: Source) -> Json:
        skill_id = number(fields, "id")
        return preview.consequences(source, lambda library: library.disable(skill_id))

    def _edit(self, fields: Json, source: Source) -> Json:
        sentence, skill_id = text(fields, "sentence"), number(fields, "id")
        check_sentence(sentence)
        with SkillLibrary.open(self._folder, mode="write") as library:
            embedding, latent = latents.encode_sentence(self._folder, library, sentence)
            given = edits.Edit(sentence, latent, embedding)
            with library.changing("edit", who(fields), skill_name(skill_id)) as change:
                require(library, skill_id, number(fields, "version"))
                edits.edit(library.store, change, skill_id, given, library.latent_size)
            return outcome(library, [skill_id])

    def _switch(self, fields: Json, source: Source) -> Json:
        skill_id, action = number(fields, "id"), str(fields["action"])
        with SkillLibrary.open(self._folder, mode="write") as library:
            with library.changing(action, who(fields), skill_name(skill_id)) as change:
                require(library, skill_id, number(fields, "version"))
                edits.switch(library.store, change, skill_id, enabled=action == "enable")
            return outcome(library, [skill_id])

    def _merge(self, fields: Json, source: Source) -> Json:
        skill_id, into = number(fields, "id"), number(fields, "into")
        with SkillLibrary.open(self._folder, mode="write") as library:
            with library.changing("merge", who(fields), f"{skill_name(skill_id)} into {skill_name(into)}") as change:
                require(library, skill_id, number(fields, "version"))
                edits.merge(library.store, change, [skill_id], into)
            return outcome(library, [skill_id, into])

    def _undo(self, fields: Json, source: Source) -> Json:
        with SkillLibrary.open(self._folder, mode="write") as library:

            def encode(sentences: list[str], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
                return latents.decoder_of(self._folder, library).latents(embeddings)

            ids = library.undo(number(fields, "change"), who=who(fields), encode=encode)
            return outcome(library, ids)

    def _search(self, fields: Json, source: Source) -> Json:
        return {"skills": asking.by_meaning(source, self._folder, text(fields, "sentence"))}

    # -- plans and studies ---------------------------------------------------------------------------------------------

    def _ask(self, fields: Json, source: Source) -> Json:
        return asking.ask(source, self._folder, self._study(), text(fields, "sentence"))

    def _lint(self, fields: Json, source: Source) -> Json:
        return planning.linted(source, text(fields, "plan"), text(fields, "text"))

    def _plan(self, fields: Json, source: Source) -> Json:
        return planning.saved(self._study(), text(fields, "task"), text(fields, "text"), who(fields) or "")

    def _rollout(self, fields: Json, source: Source) -> Json:
        return planning.rolled_out(source, text(fields, "plan"), text(fields, "text"))

    def _approve(self, fields: Json, source: Source) -> Json:
        space, what = self._study(), text(fields, "what")
        held = [approval.held(space, each) for each in space.study.approve if each == what]
        waiting = held[0] if held else None
        if waiting is None:
            raise StudyError(f"found nothing called {what!r} that waits for approval; expected it to; look again")
        verdict = "approved" if fields.get("verdict") == "approved" else "rejected"
        by = who(fields) or "somebody"
        made = approval.decide(space, waiting, verdict, by, str(fields.get("comment", "")), text(fields, "digest"))
        return {"verdict": made.verdict, "by": made.by, "at": made.at}

    def _study(self) -> Workspace:
        if self._space is None:
            raise StudyError(
                "found no study beside the bundle; expected one, which has the recorded answers; start the service with --study STUDY"
            )
        return self._space


def require(library: SkillLibrary, skill_id: int, version: int) -> None:
    """Refuse to change a skill that is another than the one that was looked at. Called while nobody else may write.

    Raises:
        SkillChanged: it is.
        LibraryConflict: no such skill.
    """
    present = library.store.row(skill_id)
    if present.version != version:
        last = library.store.change(present.change)
        raise SkillChanged(
            f"{skill_name(skill_id)}: found version {present.version}, by {last.who} ({last.action}, {last.at}): {present.sentence[:200]!r}; expected "
            f"version {version}, which you looked at; nothing of yours is saved or lost: look at theirs, and save again if you still want to"
        )


def outcome(library: SkillLibrary, ids: list[int]) -> Json:
    """What a change left behind."""
    return {"change": library.store.state()[0], "skills": [_said(library.get(each)) for each in ids]}


def _said(skill: Skill) -> Json:
    return {"id": skill.id, "version": skill.version, "sentence": skill.sentence, "enabled": skill.enabled}


def text(fields: Json, name: str) -> str:
    """A text of a request.

    Raises:
        ShapeError: it is none.
    """
    value = fields.get(name)
    if not isinstance(value, str):
        raise ShapeError(f"{name}: found {type(value).__name__}; expected a text; send one")
    return value


def number(fields: Json, name: str) -> int:
    """A whole number of a request.

    Raises:
        ShapeError: it is none.
    """
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ShapeError(f"{name}: found {type(value).__name__}; expected a whole number; send one")
    return value


def who(fields: Json) -> str | None:
    """Who a person says they are; None where nobody does: then it is who runs the service."""
    said = "".join(each for each in str(fields.get("who") or "") if each.isprintable()).strip()[:WHO]
    return said or None
