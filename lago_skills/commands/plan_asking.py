"""`lago plan STUDY --live | --export | --import | --check | --unpaid`: what is asked of a language model, and what it costs."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter, defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from lago_skills.core import Task
from lago_skills.errors import PlanError
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.reply import CUT, ending
from lago_skills.llm.transcripts import Request, TranscriptFile
from lago_skills.planner.ask import BEST
from lago_skills.stages import plan
from lago_skills.stages.planning import measured_motions
from lago_skills.stages.workspace import Workspace
from lago_skills.study import Study

ANY_STUDY = "lago plan STUDY"
"""How those name a study who do not know which one it is."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _tasks(study: Study) -> tuple[tuple[Task, ...], tuple[Task, ...]]:
    return plan.demonstrated(study), plan.undemonstrated(study)


def live_config(space: Workspace, options: argparse.Namespace) -> LiveConfig:
    """How the endpoint is asked, with the model that the command names.

    Raises:
        PlanError: answers of that model would not be used.
    """
    config = space.study.plan.live
    if options.model:
        config = config.model_copy(update={"model": options.model})
    if space.study.plan.model not in (None, BEST, config.model):
        raise PlanError(
            f"found plan.model = {space.study.plan.model!r} and a live model {config.model!r}; expected the same, since answers "
            "of another model would not be used; correct the study or --model"
        )
    return config


# Live -----------------------------------------------------------------------------------------------------------------


def ask_all(space: Workspace, options: argparse.Namespace) -> list[str]:
    """Ask all open requests, round by round; returns what went wrong, a sentence per request.

    Raises:
        PlanError: `--again` names nothing that was asked.
        EndpointError: the endpoint's settings cannot be used.
    """
    from lago_skills.llm.asker import ask
    from lago_skills.llm.live import Event

    config = live_config(space, options)
    failed: dict[str, str] = {}

    def report(event: Event) -> None:
        text = event.text.replace(ANY_STUDY, f"lago plan {space.argument}")
        if event.kind == "failed":
            failed[event.name] = text
        tokens = f"{event.tokens:,} tokens" if event.tokens else ""
        name = f"{event.name} " if event.name else ""
        _say(f"{event.kind:<9} {name}{'; '.join(filter(None, (tokens, text)))}".rstrip())

    measured_motions.measure(space, _say, again=bool(options.segments))
    asked: set[str] = set()
    again = _again(space, options.again)
    while True:
        more = again + _playbooks(space, options, config)  # as many answers more as they are there times
        lacking = Counter(request.key for request in more)
        transcripts = TranscriptFile(space.transcripts)
        requests = {request.key: request for request in (*more, *_others(space, options)) if request.key not in asked}
        known = {key: len(transcripts.different(request, config.model)) for key, request in requests.items()}
        cut = {key: _is_cut(transcripts, request, config) for key, request in requests.items()}
        wanted = {key: known[key] + lacking[key] if lacking[key] else 1 + known[key] * cut[key] for key in requests}
        todo = [each for key, each in requests.items() if each.name not in failed and known[key] < wanted[key]]
        again = []
        if not todo:
            return _together(failed)
        asked |= {request.key for request in todo}
        _say(f"asking    {sum(wanted[each.key] - known[each.key] for each in todo)} requests of {config.model}")
        ask(todo, config, space.transcripts, report, wanted)


def _is_cut(transcripts: TranscriptFile, request: Request, config: LiveConfig) -> bool:
    """Whether the last answer of this model was cut off at a smaller cap than it may have now."""
    last = transcripts.get(request, config.model)
    ended = ending(last.reply, last.cap) if last is not None else None
    return last is not None and ended is not None and ended.kind == CUT and last.cap < config.max_answer_tokens


def _together(failed: Mapping[str, str]) -> list[str]:
    """A sentence for each thing that went wrong, with the requests that it befell."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for name, text in failed.items():
        names[text].append(name)
    shown = {
        text: ", ".join(each[:3]) + f" and {len(each) - 3} others" * (len(each) > 3) for text, each in names.items()
    }
    return [f"{shown[text]}: {text}" for text in names]


def _again(space: Workspace, names: Sequence[str] | None) -> list[Request]:
    """Requests that are to be asked once more, by their names or those of their tasks.

    Raises:
        PlanError: nothing of that name was asked.
    """
    planner = plan.planner(space)
    known = {request.name: request for _, request in planner.requests(*_tasks(space.study))}
    for transcript in planner.transcripts.all():
        prompt = str(transcript.request["messages"][0]["content"])
        known.setdefault(transcript.name, Request(transcript.name, prompt, transcript.request["schema"]))
    found: list[Request] = []
    for name in names or ():
        request = known.get(f"plan/{name}", known.get(name))
        if request is None:
            tasks = sorted(each.removeprefix("plan/") for each in known)
            raise PlanError(
                f"found --again {name!r}, which names nothing that can be asked now; expected one of {tasks[:8]}{' and others' * (len(tasks) > 8)}; "
                "correct it"
            )
        found.append(request)
    return found


def _missing(space: Workspace, options: argparse.Namespace, config: LiveConfig | None) -> list[Request]:
    """Every request that can be asked now."""
    return _playbooks(space, options, config) + _others(space, options)


def _playbooks(space: Workspace, options: argparse.Namespace, config: LiveConfig | None) -> list[Request]:
    """Requests for playbooks and repairs; one that lacks several answers is there as often."""
    return plan.planner(space).missing(
        *_tasks(space.study),
        repairs=options.repair,
        asked=config.model if config else None,
        cap=config.max_answer_tokens if config else None,
    )


def _others(space: Workspace, options: argparse.Namespace) -> list[Request]:
    """Requests for names of motions and, where wanted, for other words for the tasks and for whole motions."""
    from lago_skills.planner.wordings import read_wordings, wordings_requests

    planner, missing = plan.planner(space), list[Request]()
    names = measured_motions.naming(space.study, measured_motions.load(space.motions), planner.transcripts)
    if names.open is not None:
        missing.append(names.open)
    if options.wordings:
        tasks = space.study.all_tasks
        in_use = (*space.study.seen, *space.study.unseen)
        missing += wordings_requests(tasks, in_use, read_wordings(planner.transcripts, tasks))
    if options.direct:
        from lago_skills.experiments.baselines import direct

        missing += direct.missing(space.study, planner.transcripts)
    return missing


def wordings_problems(space: Workspace) -> list[str]:
    """Answers that hold no wordings although they were asked for some: a sentence, or none."""
    from lago_skills.planner.wordings import unreadable_wordings

    transcripts = TranscriptFile(space.transcripts)
    names = unreadable_wordings(transcripts)
    if not names:
        return []
    ends = [ending(each.reply, each.cap) for name in names for each in transcripts.named(name)[-1:]]
    why = "".join(sorted({f"; {each.text}" for each in ends if each is not None}))
    return [
        f"found no wordings in the answers to {', '.join(names)}{why}; expected the JSON object that was asked for; ask again with: lago plan "
        f"{space.argument} --wordings --live --again {','.join(names)}"
    ]


# Files ----------------------------------------------------------------------------------------------------------------


def export(space: Workspace, options: argparse.Namespace) -> None:
    """Write the open requests as a Batch API file.

    Raises:
        PlanError: the file cannot be written, or `--again` names nothing that was asked.
    """
    from lago_skills.llm.batch import export_requests, remember_exported

    measured_motions.measure(space, _say, again=bool(options.segments))
    config = live_config(space, options)
    missing = _again(space, options.again) + _missing(space, options, config)
    export_requests(missing, options.export, config)
    remember_exported(missing, space.transcripts)
    _say(f"{len(missing)} open requests written to {options.export}")
    if missing and not config.model:
        _say(
            "they name no model, which the Batch API wants: add --model NAME, or model under [plan.live]; by hand none is needed"
        )
    if space.study.gym is not None and not space.scenes.exists():
        _say(
            f"the ranges in them are those that the study declares; measured ones, of starts and demonstrations, come with: lago plan {space.study_file} --scenes, before --export"
        )


def import_answers(space: Workspace, options: argparse.Namespace) -> None:
    """Record the answers of a file; good ones although others are not.

    Raises:
        PlanError: the file cannot be read, or a line of it brought nothing.
    """
    from lago_skills.llm.batch import exported, import_responses

    planner, study = plan.planner(space), space.study.plan
    names = [name for name in (study.model, study.live.model) if name and name != BEST]
    todo = _again(space, options.again) + _missing(space, options, None)
    todo += [each for each in exported(space.transcripts) if planner.transcripts.get(each) is None and each not in todo]
    imported = import_responses(options.import_, todo, planner.transcripts, options.model, options.source, names)
    left = _missing(space, options, None)
    then = f"; next: lago plan {space.study_file}" if not left else ""
    _say(f"{imported.n_recorded} answers recorded; {len(left)} requests are open now{then}")
    for task_plan in plan.plans(space).values():
        if task_plan.versions and task_plan.open_repair is not None:
            wrong = "; ".join(finding.line() for finding in task_plan.versions[-1].findings)
            _say(f"{task_plan.task.id}: a repair is open: {wrong}")
    problems = [each.replace(ANY_STUDY, f"lago plan {space.argument}") for each in imported.problems]
    problems += wordings_problems(space) if options.wordings else []
    if problems:
        raise PlanError(" | ".join(problems))


# What a server can do, and what was paid ------------------------------------------------------------------------------


@contextmanager
def _alone(space: Workspace) -> Generator[TranscriptFile]:
    """The study's transcripts while no other command asks for them.

    Raises:
        PlanError: another one does, or nothing can be written there.
    """
    from filelock import FileLock, Timeout

    path = space.transcripts
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock"), timeout=0):
            yield TranscriptFile(path)
    except Timeout as error:
        raise PlanError(
            "found another command that is asking for this study; expected none, since its attempts have no outcome yet; wait for it"
        ) from error
    except OSError as error:
        raise PlanError(
            f"found {str(path.parent)!r}, where nothing can be written ({error}); expected a folder; free the place"
        ) from error


def check(space: Workspace, options: argparse.Namespace) -> None:
    """Send one small request and say what this endpoint can do.

    Raises:
        EndpointError: it does not answer.
    """
    from lago_skills.llm.check import check_endpoint

    with _alone(space) as transcripts:
        lines = asyncio.run(check_endpoint(live_config(space, options), transcripts, _say))
    for line in lines:
        print(line)  # noqa: T201


def forget_unpaid(space: Workspace) -> None:
    """Say of attempts without an outcome that they were not paid, as the provider's bill shows."""
    from lago_skills.llm.spending import Budget

    with _alone(space) as transcripts:
        budget = Budget.of(space.study.plan.live, transcripts)
        n, freed = len(budget.open), budget.forget_open()
    _say(
        f"{n - len(budget.open)} attempts without an outcome no longer count: {freed.tokens:,} tokens are free again; {budget.bill()}"
    )
