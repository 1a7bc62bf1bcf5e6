"""What endpoints send back, read: objects in texts, completions in many wrappings, errors and what they ask for."""

from __future__ import annotations

import email.utils
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lago_skills.llm.batch import chat_body, export_requests
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.json_objects import MAX_DEPTH, read_objects
from lago_skills.llm.refusals import asked_wait, judge
from lago_skills.llm.reply import Completion, SaidError, Unreadable, ending, read_reply
from lago_skills.llm.spending import cost_of, prompt_tokens
from lago_skills.llm.transcripts import Request
from lago_skills.playbook import FORMS
from lago_skills.worlds.kitchen.grounding import KitchenGrounding
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding

PLAN = '{"steps": [{"skill": "a", "when": []}]}'


# Objects in a text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "n_plans"),
    [
        (PLAN, 1),
        (f"The tasks are {{t0, t1}}, 5\" wide, it's so.\n{PLAN} Done {{soon}}.", 1),
        (f"```json\n{PLAN}\n```", 1),
        (f"[{PLAN}, {PLAN}]", 2),
        (f'{{"plan": {PLAN}}}', 1),
        (f'{{"plans": [{PLAN}, {{"steps": [', 1),  # the outer one was cut off, the first inner one was not
        (f'He said {{"a: {PLAN}', 1),
        (PLAN.replace("[]}]}", "[],},],}"), 1),
        (PLAN.replace("[]}", "[] // nothing\n}").replace('"when"', '/* always */ "when"'), 1),
        (PLAN[:-1], 0),
        (PLAN.replace("[]", "True"), 0),
        (PLAN.replace("[]", "'x'"), 0),
        ("", 0),
    ],
)
def test_all_complete_objects_are_seen(text: str, n_plans: int) -> None:
    assert len(read_objects(text).with_key("steps")) == n_plans


@pytest.mark.parametrize(
    ("text", "in_reasoning"),
    [
        (f"<think>{PLAN}</think>{PLAN}", [True, False]),
        (f"{PLAN}</think>{PLAN}", [True, False]),  # the opening tag was part of the prompt
        (f"<THINKING>a</THINKING><reasoning>{PLAN}</reasoning>{PLAN}", [True, False]),
        (f"{PLAN}<think>{PLAN}", [False, True]),
        (f"<think>{PLAN}", [True]),
        (
            f"<|channel|>analysis<|message|>{PLAN}<|end|><|start|>assistant<|channel|>final<|message|>{PLAN}",
            [True, False],
        ),
    ],
)
def test_reasoning_is_told_apart(text: str, in_reasoning: list[bool]) -> None:
    assert [each.in_reasoning for each in read_objects(text).with_key("steps")] == in_reasoning


def test_a_flaw_has_its_place() -> None:
    whole = read_objects('Sure:\n{"steps": [1, 2\n "x"]}')
    (flaw,) = whole.flaws
    assert (whole.where(flaw.place), flaw.text, flaw.cut_off) == (
        "line 3, column 2",
        "found '\"'; expected a comma or ]",
        False,
    )
    assert read_objects('{"steps": [1, ').flaws[0].cut_off
    assert "deep" in read_objects('{"a":' * (MAX_DEPTH + 2)).flaws[0].text


@pytest.mark.parametrize(
    "junk",
    [
        "{" * 100_000,
        '{"steps":[' * 15_000,
        "{}" * 50_000,
        "{//" * 33_000,
        "{/*" * 33_000,
        '{"a": "' + "{ " * 50_000,
        '{"{":":",' * 12_000,
    ],
)
def test_junk_takes_linear_time_and_hides_no_answer(junk: str) -> None:
    def seconds(text: str) -> float:
        start = time.process_time()
        read_objects(text)
        return time.process_time() - start

    assert len(read_objects(f"{junk}\n\n{PLAN}").with_key("steps")) == 1
    assert seconds(junk) < 6 * seconds(junk[: len(junk) // 2]) + 0.2


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    ),
    st.text(alphabet="ab {}\n"),
    st.booleans(),
)
def test_what_json_writes_is_read_back(value: Any, prose: str, ascii_only: bool) -> None:
    text = f"{prose.replace('{', '')}{json.dumps({'steps': value}, ensure_ascii=ascii_only)} {prose}"
    found = read_objects(text).with_key("steps")
    assert found[0].value == {"steps": value}


# Replies ----------------------------------------------------------------------------------------------------------------


def body(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> bytes:
    return json.dumps({"choices": [{"finish_reason": finish, "message": message}], **more}).encode()


def streamed(*events: dict[str, Any], end: str = "data: [DONE]\n\n") -> bytes:
    return ("".join(f"data: {json.dumps(each)}\n\n" for each in events) + end).encode()


def piece(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"delta": delta, "finish_reason": finish}]}


@pytest.mark.parametrize(
    ("raw", "text", "part"),
    [
        (body({"content": "hi"}), "hi", "content"),
        (b"\xef\xbb\xbf" + body({"content": "hi"}) + b"\n\n--tail", "hi", "content"),
        (
            b": keep-alive comment\n\n" + streamed(piece(content="h"), piece(content="i"), piece("stop")),
            "hi",
            "content",
        ),
        (streamed(piece(reasoning_content="x"), piece(content="hi"), piece("stop"), end=""), "hi", "content"),
        (streamed({"choices": [{"delta": {"content": "hi"}, "finish_reason": ""}]}), "hi", "content"),
        (b"[" + body({"content": "hi"}) + b"]", "hi", "content"),
        (body({"content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}), "hi", "content"),
        (body({"content": [{"type": "thinking", "thinking": []}, "hi"]}), "hi", "content"),
        (body({"content": None, "tool_calls": [{"function": {"arguments": {"a": 1}}}]}), '{"a": 1}', "tool_calls"),
        (body({"content": "", "reasoning": "hi"}), "hi", "reasoning"),
        (body({"content": "", "reasoning": "hi"}, "length"), "", ""),
        (body({"content": None, "refusal": "no"}), "no", "refusal"),
        (json.dumps({"choices": [{"text": "hi", "finish_reason": "stop"}]}).encode(), "hi", "content"),
        (
            json.dumps({"message": {"role": "assistant", "content": "hi"}, "done_reason": "stop"}).encode(),
            "hi",
            "content",
        ),
        (body({"content": "a\ud800"}).replace(b"\\ud800", b"\xff"), "a\ufffd", "content"),
    ],
)
def test_an_answer_is_found_wherever_it_is(raw: bytes, text: str, part: str) -> None:
    reply = read_reply(raw)
    assert isinstance(reply, Completion)
    assert (reply.text, reply.part) == (text, part)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>login</html>",
        b"[]",
        b"3",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"id": 1}',
        streamed(piece(content="h"), end=""),
    ],
)
def test_what_is_no_reply_is_said(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        read_reply(raw)


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        ({"error": {"message": "slow", "code": 429}}, "slow", 429),
        (
            {"error": {"message": "Provider returned error", "code": "502", "metadata": {"raw": "down"}}},
            "Provider returned error: down",
            502,
        ),
        ({"error": "Unexpected endpoint or method."}, "Unexpected endpoint or method.", None),
        ({"object": "error", "message": "too long", "code": 400}, "too long", 400),
        ({"detail": "Not Found"}, "Not Found", None),
        ([{"error": {"message": "quota", "code": 429, "status": "RESOURCE_EXHAUSTED"}}], "quota", 429),
        ({"detail": [{"msg": "field required"}]}, '{"detail": [{"msg": "field required"}]}', None),
        ({"error": {"message": "x"}, "choices": []}, "x", None),
        (
            {
                "choices": [
                    {"error": {"message": "down", "code": 502}, "finish_reason": "error", "message": {"content": ""}}
                ]
            },
            "down",
            502,
        ),
    ],
)
def test_an_error_is_told_from_a_completion(error: Any, message: str, code: int | None) -> None:
    assert read_reply(json.dumps(error).encode()) == SaidError(message, code)


def test_how_an_answer_ended_is_said() -> None:
    def kind(raw: bytes) -> str:
        reply = read_reply(raw)
        assert isinstance(reply, Completion)
        ended = ending(reply.body, 100)
        return ended.kind if ended else ""

    assert kind(body({"content": "x"})) == ""
    assert kind(body({"content": "x"}, None)) == ""
    assert kind(body({"content": "x"}, "length")) == kind(body({"content": "x"}, "MAX_TOKENS")) == "cut off"
    assert kind(body({"content": ""}, "content_filter")) == "filtered"
    assert kind(body({"content": None, "refusal": "I will not"})) == "refused"


# Errors -----------------------------------------------------------------------------------------------------------------

SENT: dict[str, Any] = {"max_completion_tokens": 8192, "response_format": {}, "temperature": 0.0}


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (401, "bad key", "stop"),
        (402, "Insufficient credits", "stop"),
        (404, "model not found", "stop"),
        (405, "Method Not Allowed", "stop"),
        (429, "You exceeded your current quota, please check your plan", "stop"),
        (400, "Your credit balance is too low to access the API", "stop"),
        (400, "Unexpected endpoint or method. (POST /chat/completions)", "stop"),
        (429, "Rate limit reached", "again"),
        (500, "oops", "again"),
        (503, "model is loading", "again"),
        (308, "", "stop"),
        (
            400,
            "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.",
            "unknown parameter",
        ),
        (529, "overloaded", "again"),
        (
            400,
            "Unsupported parameter: 'max_completion_tokens' is not supported with this model. Use 'max_tokens' instead.",
            "unknown parameter",
        ),
        (400, "Unrecognized request argument supplied: max_completion_tokens", "unknown parameter"),
        (
            422,
            '[{"type":"extra_forbidden","loc":["body","max_completion_tokens"],"msg":"Extra inputs are not permitted"}]',
            "unknown parameter",
        ),
        (400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported", "unknown parameter"),
        (400, "'temperature' does not support 0 with this model", "unknown parameter"),
        (400, "the prompt was flagged", "refused"),
        (413, "body too large", "refused"),
    ],
)
def test_what_an_error_asks_for(status: int, text: str, kind: str) -> None:
    assert judge(status, text, {}, SENT).kind == kind


@pytest.mark.parametrize(
    ("text", "cap"),
    [
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum context length is 4096 tokens and your request has 900 input tokens (8192 > 4096 - 900).",
            3196,
        ),
        (
            "max_tokens is too large: 8192. This model supports at most 4096 completion tokens, whereas you provided 8192.",
            4096,
        ),
        (
            "This model's maximum context length is 4096 tokens. However, you requested 9092 tokens (900 in the messages, 8192 in the completion).",
            3196,
        ),
        ("max_tokens: 8192 > 4096, which is the maximum allowed number of output tokens", 4096),
        (
            "`max_tokens` must be less than or equal to `4096`, the maximum value for `max_tokens` is less than the context window",
            4096,
        ),
        (
            "Requested token count exceeds the model's maximum context length of 131072 tokens. You requested a total of 139000 tokens: 130808 tokens from the input messages and 8192 tokens for the completion.",
            264,
        ),
        ("the request exceeds the available context size", 4096),
        ("max_completion_tokens is too large", 4096),
    ],
)
def test_a_cap_that_is_too_large_is_lowered_to_what_fits(text: str, cap: int) -> None:
    refusal = judge(400, text, {}, SENT)
    assert (refusal.kind, refusal.cap) == ("cap too large", cap)


@pytest.mark.parametrize(
    ("headers", "text", "seconds"),
    [
        ({"retry-after": "7"}, "", 7.0),
        ({"retry-after": "0.5"}, "", 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, "", 1.5),
        ({"retry-after": "1m2s"}, "", 62.0),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "soon"}, "Please try again in 20s.", 20.0),
        ({}, "Rate limit reached. Please try again in 1m2.5s. Visit", 62.5),
        ({}, "Please try again in 350ms.", 0.35),
        ({}, "Please retry in 34.07 seconds", 34.07),
        ({}, 'quota {"@type": "RetryInfo", "retryDelay": "34s"}', 34.0),
        ({}, '{"retry_after": 3}', 3.0),
        ({}, '{"retry_after_ms": 300}', 0.3),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, "", 360.0),
        ({"x-ratelimit-remaining-tokens": "10", "x-ratelimit-reset-tokens": "6m0s"}, "", None),
        ({}, "slow down", None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], text: str, seconds: float | None) -> None:
    assert asked_wait(headers, text) == (None if seconds is None else pytest.approx(seconds))


def test_a_date_to_wait_for_is_understood() -> None:
    soon = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert asked_wait({"retry-after": soon}, "") == pytest.approx(30, abs=2)


# Money ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "prompt", "answer"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, 10, 5),
        ({"prompt_tokens": 10, "completion_tokens": 5}, 10, 5),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 100}, 10, 90),
        ({"prompt_tokens": 10, "total_tokens": 100}, 10, 90),
        ({"completion_tokens": 5, "total_tokens": 100}, 95, 5),
        ({"total_tokens": 100}, 0, 100),
        ({}, 0, 0),
    ],
)
def test_what_usage_leaves_out_is_the_dearer_kind(usage: dict[str, int], prompt: int, answer: int) -> None:
    dear_answers = LiveConfig(usd_per_million_prompt_tokens=1.0, usd_per_million_answer_tokens=8.0)
    paid = cost_of(dear_answers, usage)
    assert (paid.prompt, paid.answer) == (prompt, answer)
    assert paid.usd == pytest.approx((prompt + 8 * answer) / 1e6)
    dear_prompts = LiveConfig(usd_per_million_prompt_tokens=8.0, usd_per_million_answer_tokens=1.0)
    assert cost_of(dear_prompts, {"total_tokens": 100}).prompt == 100


@pytest.mark.parametrize("text", ["hello world", "推杆子到小车下面", "🤖🦾", "Ω≈ç√∫", "a" * 50])
def test_no_prompt_has_more_tokens_than_estimated(text: str) -> None:
    """Byte-level tokenizers have at most a token for each byte."""
    assert prompt_tokens(Request("x", text * 100)) >= len((text * 100).encode())


# What the API takes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["numbers", "words"])
def test_exported_requests_pass_the_apis_own_types(form: Any, tmp_path: Any) -> None:
    """As the `openai` package has them; and strict schemas name every property and no other."""
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
    from pydantic import TypeAdapter

    grounding = KitchenGrounding if form == "words" else MetaWorldGrounding
    request = Request("plan/push", "Plan.", FORMS[form].schema(grounding.vocabulary))
    export_requests([request, request], tmp_path / "r.jsonl", LiveConfig(model="gpt-x", temperature=0.5))
    first, second = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert first["custom_id"] != second["custom_id"]
    assert max(len(each["custom_id"]) for each in (first, second)) <= 512
    assert (first["method"], first["url"]) == ("POST", "/v1/chat/completions")
    sent = first["body"]
    assert sent["model"] == "gpt-x"
    assert sent["max_completion_tokens"] == 8192
    TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(sent)
    waiting = [sent["response_format"]["json_schema"]["schema"]]
    while waiting:
        schema = waiting.pop()
        if schema.get("type") == "object":
            assert schema["additionalProperties"] is False
            assert schema["required"] == list(schema["properties"])
            waiting += schema["properties"].values()
        waiting += [schema["items"]] if "items" in schema else []
        waiting += schema.get("anyOf", [])
    assert "response_format" not in chat_body(request, "none")
    assert chat_body(request, "object")["response_format"] == {"type": "json_object"}
