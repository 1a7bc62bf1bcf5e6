"""The exact questions that a language model is asked: one playbook, its repair."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files

import jinja2

from lago_skills.core import PlanForm, Task
from lago_skills.errors import PlanError
from lago_skills.llm.transcripts import Request, Transcript
from lago_skills.planner.findings import Finding
from lago_skills.planner.scenes import COURSE_TIMES, Scene
from lago_skills.playbook import FORMS, strict_object
from lago_skills.worlds.grounding import Grounding

UNITS = {"m": "metres"}
"""How units are written out."""
NO_WORDS = "(none yet)"
"""What a request lists where no skill sentence is known."""
MARK = "\0"
"""Stands for the listed sentences where two requests are compared without them."""
ANSWER = "# Answer"
"""Under this heading a request says in which form it is answered."""
MAX_REPEATED_CHARS = 8_000
"""A repair request repeats at most so much of the answer that it is about."""


@cache
def template(name: str) -> jinja2.Template:
    """A prompt file of this package."""
    text = files("lago_skills.planner").joinpath(name).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=False,  # plain text for a model, not a page
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(text)


def _show(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:g}" if bounds[0] == bounds[1] else f"{bounds[0]:g}..{bounds[1]:g}"


def _rows(grounding: Grounding) -> list[tuple[str, ...]]:
    """Feature names, the components of a vector together: those of one unit whose sentences differ by the axis alone."""
    rows: list[tuple[str, ...]] = []
    before: tuple[str, str, str] | None = None
    for feature in grounding.vocabulary.features:
        stem, axis = feature.name[:-2], feature.name[-2:]
        told = (stem, feature.unit, feature.sentence.removesuffix(f", along {axis[1:]}"))
        if axis in ("_y", "_z") and told == before:
            rows[-1] = (*rows[-1], feature.name)
        else:
            rows.append((feature.name,))
            before = told if axis == "_x" else None
    return rows


def absent_anchors(grounding: Grounding, start: dict[str, tuple[float, float]]) -> tuple[str, ...]:
    """Optional anchors that a task does not have: all that is told of their position is 0 at every start."""
    ranges = {
        name: [value for axis in "xyz" for value in start.get(f"{name}_{axis}", ())]
        for name in grounding.vocabulary.optional
    }
    return tuple(name for name, values in ranges.items() if not any(values))


def _table(grounding: Grounding, scene: Scene, absent: tuple[str, ...]) -> str:
    by_name = {feature.name: feature for feature in grounding.vocabulary.features}
    lines: list[str] = []
    for names in _rows(grounding):
        if any(name in names[0] for name in absent):
            continue
        first = by_name[names[0]]
        cells = [", ".join(names), first.unit, ", ".join(_show(scene.start[name]) for name in names)]
        if scene.demonstrations is not None:
            cells.append(", ".join(_show(scene.demonstrations[name]) for name in names))
        lines.append(" | ".join([*cells, first.sentence.removesuffix(", along x")]))
    return "\n".join(lines)


def playbook_request(
    task: Task,
    grounding: Grounding,
    scenes: dict[str, Scene],
    known_skills: list[str],
    *,
    brief: bool = False,
    form: PlanForm = "numbers",
) -> Request:
    """The request for one task's playbook; depends on nothing but its arguments. A brief one has one sentence of instructions.

    Raises:
        PlanError: no scene is known for the task.
    """
    if task.id not in scenes:
        raise PlanError(
            f"no scene is known for task {task.id!r}; expected feature ranges for it; make them with: "
            "lago plan STUDY --scenes"
        )
    scene = scenes[task.id]
    if form == "words":
        return _words_request(task, grounding, scene, known_skills)
    absent = absent_anchors(grounding, scene.start)
    prompt = template("prompt_brief.md" if brief else "prompt.md").render(
        world=grounding.world,
        nouns=grounding.nouns,
        target_size=grounding.vocabulary.target_size,
        unit=UNITS.get(grounding.vocabulary.unit, grounding.vocabulary.unit),
        effector_anchor=next(iter(grounding.vocabulary.anchors), ""),
        sentence=task.sentence,
        demonstrated=scene.demonstrations is not None,
        features=_table(grounding, scene, absent),
        anchors=", ".join(f'"{name}"' for name in grounding.vocabulary.anchors if name not in absent),
        skills="\n".join(f"- {sentence}" for sentence in known_skills) or NO_WORDS,
        parts=task.parts,
    )
    return Request(name=f"plan/{task.id}", prompt=prompt, schema=FORMS["numbers"].schema(grounding.vocabulary))


def _words_request(task: Task, grounding: Grounding, scene: Scene, known_skills: list[str]) -> Request:
    absent = absent_anchors(grounding, scene.start)
    course = None
    if scene.course:
        shown = {name: values for name, values in scene.course.items() if not any(each in name for each in absent)}
        rows = [f"{name} | " + " | ".join(f"{value:g}" for value in values) for name, values in shown.items()]
        course = {"times": " | ".join(f"{round(100 * share)} %" for share in COURSE_TIMES), "rows": "\n".join(rows)}
    prompt = template("words.md").render(
        world=grounding.world,
        nouns=grounding.nouns,
        target_size=grounding.vocabulary.target_size,
        sentence=task.sentence,
        demonstrated=scene.demonstrations is not None,
        features=_table(grounding, scene, absent),
        course=course,
        solved=scene.solved,
        anchors=", ".join(f'"{name}"' for name in grounding.vocabulary.subjects if name not in absent),
        relations=grounding.vocabulary.relations,
        skills="\n".join(f"- {sentence}" for sentence in known_skills) or NO_WORDS,
        parts=task.parts,
    )
    return Request(name=f"plan/{task.id}", prompt=prompt, schema=FORMS["words"].schema(grounding.vocabulary))


def portfolio_request(
    task: Task,
    grounding: Grounding,
    scenes: dict[str, Scene],
    known_skills: list[str],
    n_plans: int,
    *,
    brief: bool = False,
    form: PlanForm = "numbers",
) -> Request:
    """The request for several plans of one task that differ in how it is done; it begins as that for its one playbook does.

    Raises:
        PlanError: no scene is known for the task.
    """
    one = playbook_request(task, grounding, scenes, known_skills, brief=brief, form=form)
    question, _, answer = one.prompt.partition(f"{ANSWER}\n")
    prompt = template("portfolio.md").render(
        question=question.strip(),
        n_plans=n_plans,
        nouns=grounding.nouns,
        anchors=grounding.vocabulary.anchors,
        target_size=grounding.vocabulary.target_size,
        in_words=form == "words",
        steps=answer.partition("{")[2].strip(),
    )
    plan = {"way": {"type": "string"}, "steps": one.schema["properties"]["steps"]}
    plans = {"type": "array", "items": strict_object(plan)}
    return Request(name=f"portfolio/{task.id}", prompt=prompt, schema=strict_object({"plans": plans}))


def same_but_words(earlier: Transcript, request: Callable[[list[str]], Request]) -> bool:
    """Whether an earlier request for the same is another one only by the skill sentences that it lists.

    Args:
        earlier: what was asked and answered.
        request: makes the request from the sentences that it lists.
    """
    marked = request([MARK])
    head, _, tail = marked.prompt.partition(f"- {MARK}")
    asked = str(earlier.request["messages"][0]["content"])
    listed = asked[len(head) : len(asked) - len(tail)]
    return (
        earlier.request["schema"] == marked.schema
        and len(asked) >= len(head) + len(tail)
        and asked.startswith(head)
        and asked.endswith(tail)
        and (listed == NO_WORDS or all(line.startswith("- ") for line in listed.split("\n")))
    )


def repair_request(request: Request, answer: str, findings: tuple[Finding, ...], form: PlanForm = "numbers") -> Request:
    """The one round of repair: the same question, the answer that was given, what is wrong with it, in one message."""
    if len(answer) > MAX_REPEATED_CHARS:
        answer = f"{answer[:MAX_REPEATED_CHARS]} [... {len(answer) - MAX_REPEATED_CHARS} more characters]"
    findings_lines = [finding.line() for finding in findings]
    prompt = template("repair.md").render(
        prompt=request.prompt, answer=answer, findings=findings_lines, in_words=form == "words"
    )
    return Request(name=request.name.replace("plan/", "repair/", 1), prompt=prompt, schema=request.schema)
