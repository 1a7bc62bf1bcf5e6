"""Plans that a person changes on a page: checked, linted, tried, and kept as a version beside the model's answers."""

from __future__ import annotations

import json

from lago_skills.core import Playbook
from lago_skills.errors import PlanError, StudyError
from lago_skills.explorer.source import Json, Source
from lago_skills.planner.lint import lint_logic, lint_words_form
from lago_skills.playbook import read_playbook, write_playbook
from lago_skills.stages.plan_edits import record_edit
from lago_skills.stages.workspace import Workspace
from lago_skills.worlds.rollouts import rollouts
from lago_skills.worlds.seeds import EVAL_SEED

N_ROLLOUTS = 4


def changed(source: Source, name: str, text: str) -> Playbook:
    """The plan of that name with the steps of a JSON text, `{"steps": [...]}` as playbooks are written.

    Raises:
        StudyError: no such plan.
        PlanError: the text is no valid playbook.
    """
    if name not in source.guide.books:
        raise StudyError(f"found plan {name!r}; expected one of {sorted(source.guide.books)[:5]}; choose one of them")
    try:
        steps = json.loads(text)["steps"]
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(
            f"found a plan that is no JSON with steps ({error}); expected {{'steps': [...]}}; correct it"
        ) from error
    return read_playbook(
        {**write_playbook(source.guide.books[name]), "steps": steps}, source.guide.grounding.vocabulary
    )


def linted(source: Source, name: str, text: str) -> Json:
    """What logic says of the changed plan.

    Raises:
        PlanError: it is no valid playbook.
    """
    book, words = changed(source, name, text), source.guide.grounding.vocabulary
    found = lint_words_form(book, words) if book.form == "words" else lint_logic(book, words)
    return {"findings": [f"{each.kind}: {each.line()}" for each in found]}


def rolled_out(source: Source, name: str, text: str) -> Json:
    """What the library does with the changed plan, alone, beside what it does with the plan as it is: successes from the same start states.

    Raises:
        PlanError: it is no valid playbook.
        StudyError: the world cannot be made here.
    """
    book, world = changed(source, name, text), source.bundle.world
    if world is None:
        raise StudyError(
            "found a bundle of a world of one's own; expected one that can be made here; try the plan with lago evaluate"
        )
    task, seeds = world.tasks[book.task_id], [EVAL_SEED + i for i in range(N_ROLLOUTS)]
    rows: list[Json] = []
    for label, guide in (
        ("as it is", source.guide.following(name)),
        ("changed", source.guide.with_steps(book, source.guide.step_latents[name])),
    ):
        results = rollouts(
            world,
            task,
            lambda observations, guide=guide: guide.prior(observations, book.task_id).greedy(),
            seeds,
            lambda n: None,
        )
        rows.append(
            {
                "plan": label,
                "successes": sum(each.success for each in results),
                "episodes": len(results),
                "steps": [each.steps for each in results],
            }
        )
    return {"rows": rows}


def saved(space: Workspace, task: str, text: str, by: str) -> Json:
    """Put a person's version of a task's playbook on record; bundles that are built from then on have it.

    Raises:
        PlanError: no such task, or the text is no valid playbook.
    """
    record_edit(space, task, text, by)
    return {
        "task": task,
        "next": f"lago run {space.argument}",
    }
