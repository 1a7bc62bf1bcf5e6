"""What an endpoint can do, found out with one small request: `lago plan STUDY --check`."""

from __future__ import annotations

from collections.abc import Callable

from lago_skills.errors import EndpointError
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.live import Event, LiveClient
from lago_skills.llm.reply import finish_reason, reasoning_tokens
from lago_skills.llm.transcripts import Request, TranscriptFile

MOST_TOKENS = 2048
"""A reasoning model thinks even about this."""
PROMPT = 'Answer with this JSON object and nothing else: {"word": "ready"}'
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["word"],
    "properties": {"word": {"type": "string"}},
}


async def check_endpoint(config: LiveConfig, transcripts: TranscriptFile, say: Callable[[str], None]) -> list[str]:
    """Ask once and say how the endpoint took it; it is counted in the budget and not recorded as an answer.

    Raises:
        EndpointError: there is no answer; says why.
    """
    config = config.model_copy(update={"max_answer_tokens": min(config.max_answer_tokens, MOST_TOKENS)})
    failed: list[str] = []

    def report(event: Event) -> None:
        if event.kind == "failed":
            failed.append(event.text)
        elif event.kind == "note":
            say(f"note      {event.text}")

    client = LiveClient(config, transcripts, report, lambda: False)
    reply = await client.try_out(Request("check/endpoint", PROMPT, SCHEMA))
    if reply is None:
        raise EndpointError(failed[-1] if failed else "found no answer; expected one; check plan.live")
    sent = client.body(Request("check/endpoint", PROMPT, SCHEMA))
    usage = reply.usage
    cap = next(name for name in ("max_completion_tokens", "max_tokens") if name in sent)
    missing = [name for name in ("prompt_tokens", "completion_tokens", "total_tokens") if name not in usage]
    without = ", ".join(missing)
    counts = ", ".join(f"{name} {count:,}" for name, count in usage.items())
    form = (
        "taken"
        if "response_format" in sent
        else 'not asked for, or refused: then set response_format = "none" under [plan.live]'
    )
    text, served = (
        client.secrets.removed_from(reply.text.strip()),
        client.secrets.removed_from(str(reply.body.get("model", "?"))),
    )
    lines = [
        f"endpoint            {client.host} answers as {served!r} (asked for {config.model!r})",
        f"response_format     {form}",
        f"longest answer      {cap} = {client.cap:,} taken",
        f"temperature         {'left to the endpoint' if config.temperature is None else 'taken' if 'temperature' in sent else 'refused'}",
        f"text                {reply.part or 'none'}; finish_reason {finish_reason(reply.body) or 'not said'}; {text[:80]!r}",
        f"usage               {counts or 'not said'}{f'; missing, and counted carefully: {without}' if missing else ''}",
    ]
    if thought := reasoning_tokens(reply.body):
        lines.append(
            f"reasoning           {thought:,} tokens, for a small question: max_answer_tokens must leave room for it"
        )
    return [*lines, client.budget.bill()]
