"""`lago grow STUDY --unnamed`: what the library's sentences do not explain gets names from a language model, recorded like plans."""

from __future__ import annotations

import argparse
import sys

from lago_skills.commands import plan_asking
from lago_skills.commands.grow import print_growth, settings_of
from lago_skills.errors import TranscriptMissing
from lago_skills.grow.unnamed import current_unnamed, lines_of, named, names_of
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.stages.workspace import Workspace, exclusive


def unnamed_command(space: Workspace, options: argparse.Namespace) -> int:
    """Ask for names, or take recorded ones and make a version; the exit code is 3 where that waits for a person.

    Raises:
        TranscriptMissing: an answer is not recorded yet.
        LagoError: what is wrong; nothing has changed then.
    """
    with exclusive(space):
        version, shown, found = current_unnamed(space)
        for line in lines_of(found):
            _say(line)
        naming = names_of(space, found)
        if options.live and naming.open is not None:
            _ask(space, options, naming.open)
            naming = names_of(space, found)
        elif options.export is not None:
            from lago_skills.llm.batch import export_requests, remember_exported

            requests = [naming.open] if naming.open is not None else []
            export_requests(requests, options.export, plan_asking.live_config(space, options))
            remember_exported(requests, space.transcripts)
            _say(f"{len(requests)} open requests written to {options.export}")
            return 0
        elif options.import_ is not None:
            from lago_skills.llm.batch import import_responses

            requests = [naming.open] if naming.open is not None else []
            transcripts = TranscriptFile(space.transcripts)
            done = import_responses(options.import_, requests, transcripts, options.model, options.source, [])
            _say(f"{done.n_recorded} answers recorded")
            naming = names_of(space, found)
        if naming.open is not None:
            fault = f" ({naming.fault})" if naming.fault else ""
            name = space.argument
            raise TranscriptMissing(
                f"no names are recorded for what nothing explains of {', '.join(found)}{fault}; expected an answer, since nothing is asked here; ask a language model with: lago "
                f"grow {name} --unnamed --live, or lago grow {name} --unnamed --export requests.jsonl, then the same with --import responses.jsonl --model NAME"
            )
        made = named(space, version, shown, found, naming, settings_of(options), _say)
    return print_growth([made], as_json=bool(options.json))


def _ask(space: Workspace, options: argparse.Namespace, request: plan_asking.Request) -> None:
    from lago_skills.llm.asker import ask

    config = plan_asking.live_config(space, options)
    ask(
        [request],
        config,
        space.transcripts,
        lambda event: _say(f"{event.kind:<9} {event.text}".rstrip()),
        {request.key: 1},
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
