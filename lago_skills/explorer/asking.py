"""A new sentence: which playbook is near, how the library's skills would serve, and the request that a planner would get."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from lago_skills.errors import PlanError
from lago_skills.explorer import latents
from lago_skills.explorer.skills import embedded
from lago_skills.explorer.source import Json, Source, skill_row
from lago_skills.planner.requests import playbook_request
from lago_skills.stages import plan
from lago_skills.stages.planning.wording_search import trained
from lago_skills.stages.workspace import Workspace
from lago_skills.text.matcher import WordingMatcher

MOST_CHARS, N_SKILLS = 500, 8


def by_meaning(source: Source, folder: Path, sentence: str) -> list[Json]:
    """The enabled skills that would answer a sentence, best first: by the latent that the decoder gives it; each with how alike the words are.

    Raises:
        PlanError: no sentence, or an endless one.
    """
    embedding, latent = latents.encode_sentence(folder, source.library, _checked(sentence))
    neighbors = source.library.search(latent[None], N_SKILLS)
    ids, vectors = embedded(source.library, source.library.change)
    words = dict(zip(ids.tolist(), (vectors @ embedding).tolist(), strict=True)) if len(ids) else {}
    return [
        skill_row(source.library.get(number)) | {"score": round(score, 3), "words": round(words.get(number, 0.0), 3)}
        for number, score in zip(neighbors.ids[0].tolist(), neighbors.scores[0].tolist(), strict=True)
        if number >= 0
    ]


def ask(source: Source, folder: Path, space: Workspace, sentence: str) -> Json:
    """Nearest playbook and runner-up, the skills that a sentence would find, and the request for a planner.

    Raises:
        PlanError: no sentence, or an endless one; or nobody has measured the scene of the nearest task.
    """
    sentence = _checked(sentence)
    path = trained(space)
    nearest: Json | None = None
    if path is not None:
        match = WordingMatcher.load(path).match([sentence], source.bundle.tasks)[0]
        nearest = {
            "task": match.task,
            "nearest": match.nearest,
            "score": round(match.score, 3),
            "runner_up": match.runner_up,
            "runner_up_score": round(match.runner_up_score, 3),
            "steps": [step.sentence for step in source.guide.books[match.nearest].steps],
        }
    return {
        "sentence": sentence,
        "match": nearest,
        "skills": by_meaning(source, folder, sentence),
        "request": _request(source, space, sentence, nearest),
    }


def _request(source: Source, space: Workspace, sentence: str, nearest: Json | None) -> Json:
    """What a language model would be told about the sentence as a task, in the scene of the nearest known one."""
    like = nearest["nearest"] if nearest is not None else source.bundle.tasks[0]
    planner = plan.planner(space)
    task = replace(space.world.tasks[like], id=like, sentence=sentence)
    known = list(dict.fromkeys(skill.sentence for skill in source.library.list(enabled=True, limit=400)))
    request = playbook_request(task, planner.grounding, planner.scenes, known, form=planner.form)
    return {
        "like": like,
        "prompt": request.prompt,
        "schema": json.dumps(request.schema, indent=1, ensure_ascii=False),
    }


def _checked(sentence: str) -> str:
    said = " ".join(sentence.split())
    if not said or len(said) > MOST_CHARS:
        raise PlanError(
            f"found a sentence of {len(said)} characters; expected 1 to {MOST_CHARS}; say in one sentence what is to be done"
        )
    return said
