"""What was paid is counted and what came back is used, however strangely it came; and nothing secret is in anything."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from lago_skills.errors import EndpointError
from lago_skills.llm import asker, live
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.connection import open_connection
from lago_skills.llm.live import Event, LiveClient
from lago_skills.llm.spending import Budget
from lago_skills.llm.transcripts import Request, TranscriptFile
from tests.asking import ask_here
from tests.conftest import Lago
from tests.endpoint import PLAYBOOK, USAGE, Endpoint, Reply, study_toml

KEY = "sk-secret-0123456789"
GOOD = json.dumps(PLAYBOOK)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(live, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(asker, "ask", ask_here)


class Asked:
    """One run of a few small requests, and what is left of it."""

    def __init__(self, folder: Path, url: str, n: int = 1, **settings: Any) -> None:
        self.events: list[Event] = []
        self.config = LiveConfig.model_validate({"model": "m", "base_url": url, "max_tries": 2, **settings})
        self.path = folder / "t.jsonl"
        client = LiveClient(self.config, TranscriptFile(self.path), self.events.append, lambda: False)
        asyncio.run(client.ask([Request(f"plan/{number}", f"hello {number}") for number in range(n)]))

    @property
    def said(self) -> str:
        return " ".join(event.text for event in self.events)

    @property
    def budget(self) -> Budget:
        return Budget.of(self.config, TranscriptFile(self.path))

    @property
    def answers(self) -> list[str]:
        return [each.response for each in TranscriptFile(self.path).all()]


def completion(content: str | None = GOOD, **more: Any) -> dict[str, Any]:
    return {"choices": [{"finish_reason": "stop", "message": {"content": content}}], "usage": USAGE, **more}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=201),
        Reply(raw=json.dumps(completion(error={"code": 0, "message": ""})).encode()),
        Reply(raw=json.dumps(completion(error={"code": None, "message": None})).encode()),
        Reply(short=True),
    ],
)
def test_an_answer_that_came_strangely_is_used_and_paid_once(reply: Reply, tmp_path: Path) -> None:
    with Endpoint(lambda before, body: reply) as endpoint:
        run = Asked(tmp_path, endpoint.url)
        assert sum(endpoint.asked.values()) == 1
    assert run.answers == [GOOD]
    assert (run.budget.spent.tokens, run.budget.open) == (100, {})


def test_what_broke_off_midway_counts_until_it_is_settled_whatever_is_run_meanwhile(tmp_path: Path) -> None:
    half = b'data: {"choices": [{"delta": {"content": "x"}}], "usage": {"total_tokens": 3070}}\n\n'
    with Endpoint(lambda before, body: Reply(raw=half)) as endpoint:
        run = Asked(tmp_path, endpoint.url)
        held = run.budget.reserved.tokens
        assert held > 2 * 8192
        run = Asked(tmp_path, endpoint.url, n=0)
        assert run.budget.reserved.tokens == held
        assert run.budget.forget_open().tokens == held
    assert run.budget.open == {}


def test_errors_with_a_bill_are_paid_and_gateways_that_waited_no_longer_perhaps(tmp_path: Path) -> None:
    with Endpoint(
        lambda before, body: Reply(raw=json.dumps({"error": "flagged", "usage": USAGE}).encode())
    ) as endpoint:
        assert Asked(tmp_path / "bill", endpoint.url).budget.spent.tokens == 100
    for status, n_open in ((504, 2), (524, 2), (502, 0), (500, 0)):
        with Endpoint(lambda before, body, status=status: Reply(status=status, content="late")) as endpoint:
            assert len(Asked(tmp_path / str(status), endpoint.url).budget.open) == n_open


def test_a_server_that_counts_nothing_is_counted_carefully(tmp_path: Path) -> None:
    message = {"content": "", "reasoning_content": "x" * 27_000}
    cut = {"choices": [{"finish_reason": "length", "message": message}]}
    with Endpoint(lambda before, body: Reply(raw=json.dumps(cut).encode())) as endpoint:
        assert Asked(tmp_path / "cut", endpoint.url).budget.spent.answer == 8192
    whole = {
        "choices": [{"finish_reason": "stop", "message": {**message, "content": "hi"}}],
        "usage": dict.fromkeys(USAGE, 0),
    }
    with Endpoint(lambda before, body: Reply(raw=json.dumps(whole).encode())) as endpoint:
        assert Asked(tmp_path / "zero", endpoint.url).budget.spent.answer > 27_000


def test_what_was_paid_stays_paid_when_prices_change(tmp_path: Path) -> None:
    with Endpoint(lambda before, body: Reply()) as endpoint:
        run = Asked(tmp_path, endpoint.url, usd_per_million_answer_tokens=10.0)
    cheaper = LiveConfig(usd_per_million_answer_tokens=0.1)
    assert Budget.of(cheaper, TranscriptFile(run.path)).spent.usd == pytest.approx(30 * 10.0 / 1e6)


def test_those_on_their_way_are_waited_for_before_a_budget_is_called_spent(tmp_path: Path) -> None:
    with Endpoint(lambda before, body: Reply(delay_s=0.1)) as endpoint:
        run = Asked(tmp_path, endpoint.url, n=4, concurrency=4, budget_tokens=12_000)
    assert len(run.answers) == 4
    assert "budget" not in run.said.replace("bill", "")


def test_brackets_without_end_harm_no_later_run(tmp_path: Path) -> None:
    deep = b'{"choices": [{"message": {"content": "x"}}], "x": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    with Endpoint(lambda before, body: Reply(raw=deep)) as endpoint:
        assert "not a chat completion" in Asked(tmp_path, endpoint.url).said
    with Endpoint(lambda before, body: Reply()) as endpoint:
        assert Asked(tmp_path, endpoint.url).answers == [GOOD]


# Waiting ----------------------------------------------------------------------------------------------------------------


def test_a_wait_is_read_from_all_of_the_reply_and_what_is_too_long_names_the_setting(tmp_path: Path) -> None:
    error = {"error": {"message": "Resource has been exhausted", "details": [{"retryDelay": "34s"}]}}
    with Endpoint(lambda before, body: Reply(status=429, raw=json.dumps(error).encode())) as endpoint:
        run = Asked(tmp_path, endpoint.url, max_wait_s=5)
    assert "it asks to wait for 34 s: wait, or raise plan.live.max_wait_s" in run.said
    quota = Reply(status=429, content="You exceeded your current quota. Please retry in 0.02s")
    with Endpoint(lambda before, body: Reply() if before else quota) as endpoint:
        assert Asked(tmp_path, endpoint.url).answers == [GOOD]


# Secrets ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["sk-1234", "sk-abc/def-0123", 'sk-"quoted"-0123', KEY])
def test_a_key_that_is_echoed_is_nowhere(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    escaped = json.dumps(completion(f"your key is {key}")).replace("/", "\\/")
    for raw, status in ((escaped, 200), (json.dumps({"error": {"message": f"bad key {key}"}}), 401)):
        with Endpoint(lambda before, body, raw=raw, status=status: Reply(raw=raw.encode(), status=status)) as endpoint:
            run = Asked(tmp_path / str(status), endpoint.url)
        stored = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / str(status)).iterdir())
        for form in (key, json.dumps(key)[1:-1], key.replace("/", "\\/")):
            assert form not in stored + run.said


def test_words_of_a_header_a_query_and_an_address_are_secret_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", "Bearer tok-0123456789")
    monkeypatch.setenv("GEMINI", "gemini-secret-123")
    moved = Reply(status=401, content="no tok-0123456789", headers={"Location": "https://x/v1?key=gemini-secret-123"})
    with Endpoint(lambda before, body: moved) as endpoint:
        run = Asked(tmp_path, endpoint.url, headers={"Authorization": "$MINE"}, query={"key": "$GEMINI"})
    assert endpoint.paths == ["/v1/chat/completions?key=gemini-secret-123"]
    stored = "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
    assert "tok-0123456789" not in run.said + stored
    assert "gemini-secret-123" not in run.said + stored
    for address in ("ftp://user:pa/ssw0rd-long@host/v1", "user:hunter2222@host/v1"):
        with pytest.raises(EndpointError) as caught:
            open_connection(LiveConfig(base_url=address))
        assert "ssw0rd" not in str(caught.value)
        assert "hunter" not in str(caught.value)


def test_a_check_shows_no_key(lago: Lago, tmp_path: Path) -> None:
    study = tmp_path / "echo.toml"
    with Endpoint(
        lambda before, body: Reply(raw=json.dumps(completion(f"ready {KEY}", model=KEY)).encode())
    ) as endpoint:
        study.write_text(study_toml(endpoint.url, 1).replace('name = "cart"', 'name = "echo"'))
        code, out, err = lago("plan", str(study), "--check")
    assert code == 0
    assert KEY not in out + err


# Answers that stay ------------------------------------------------------------------------------------------------------


def study_of(folder: Path, name: str, url: str, n_tasks: int = 1, **settings: Any) -> Path:
    study = folder / f"{name}.toml"
    study.write_text(study_toml(url, n_tasks, **settings).replace('name = "cart"', f'name = "{name}"'))
    return study


def test_a_bad_later_answer_does_not_take_the_place_of_a_good_one(lago: Lago, tmp_path: Path) -> None:
    bad = False
    with Endpoint(lambda before, body: Reply("Sorry, no." if bad else GOOD)) as endpoint:
        study = study_of(tmp_path, "stays", endpoint.url)
        assert lago("plan", str(study), "--live")[0] == 0
        bad = True
        assert lago("plan", str(study), "--live", "--again", "task-0")[0] == 0
        assert lago("plan", str(study))[0] == 0
        assert "a later answer holds no playbook" in lago("plan", "show", "task-0", "--study", str(study))[1]


def test_an_answer_that_the_server_cuts_is_not_paid_for_at_every_run(lago: Lago, tmp_path: Path) -> None:
    cut = {"choices": [{"finish_reason": "length", "message": {"content": GOOD[:90]}}]}
    usage = {"prompt_tokens": 100, "completion_tokens": 4096, "total_tokens": 4196}

    def behave(before: int, body: dict[str, Any]) -> Reply:
        if body["max_completion_tokens"] > 4096:
            return Reply(
                status=400, content="max_tokens is too large: this model supports at most 4096 completion tokens"
            )
        return Reply(raw=json.dumps({**cut, "usage": usage}).encode())

    with Endpoint(behave) as endpoint:
        study = study_of(tmp_path, "cut", endpoint.url, max_answer_tokens=32768)
        said = [lago("plan", str(study), "--live") for _ in range(3)]
        assert sum(endpoint.asked.values()) == 2
    code, _, err = said[-1]
    assert code == 2
    assert "cut off after 4,096 tokens where max_answer_tokens = 32,768 (the server allowed no more)" in err


def test_exported_requests_may_be_answered_although_words_have_changed(lago: Lago, tmp_path: Path) -> None:
    study = study_of(tmp_path, "exported", "http://127.0.0.1:9/v1", 3)
    requests, answers = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"

    def answer(content: str) -> None:
        lines = [
            {
                "custom_id": json.loads(line)["custom_id"],
                "response": {"body": {"model": "x", "choices": [{"message": {"content": content}}]}},
            }
            for line in requests.read_text().splitlines()
        ]
        answers.write_text("\n".join(map(json.dumps, lines)))

    assert lago("plan", str(study), "--export", str(requests))[0] == 0
    answer(GOOD)
    assert lago("plan", str(study), "--import", str(answers))[0] == 0
    assert lago("plan", str(study), "--export", str(requests))[0] == 0  # of the two others, with task-0's words
    answer(GOOD.replace("let the", "Let the"))
    (tmp_path / "book.json").write_text(GOOD.replace("push the cart", "shove the cart"))
    assert lago("plan", "edit", "task-0", "--study", str(study), "--file", str(tmp_path / "book.json"))[0] == 0
    again = tmp_path / "again.jsonl"
    assert lago("plan", str(study), "--export", str(again), "--again", "task-0")[0] == 0
    code, _, err = lago("plan", str(study), "--import", str(answers))
    assert (code, "2 answers recorded" in err) == (0, True)
    assert lago("plan", str(study))[0] == 0


def test_only_a_version_of_a_model_is_taken_for_it(lago: Lago, tmp_path: Path) -> None:
    for number, (served, said, recorded) in enumerate(
        [
            ("m-2026-01-01", None, "m"),
            ("m-0613", None, "m"),
            ("m:latest", None, "m"),
            ("m-mini", None, "m-mini"),
            ("x", "m-2026-01-01", "m-2026-01-01"),
        ]
    ):
        study = study_of(tmp_path, f"alias{number}", "http://127.0.0.1:9/v1", model="m")
        requests, answers = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
        assert lago("plan", str(study), "--export", str(requests))[0] == 0
        key = json.loads(requests.read_text())["custom_id"]
        answers.write_text(json.dumps({"custom_id": key, "response": {"body": {"model": served, **completion()}}}))
        assert lago("plan", str(study), "--import", str(answers), *(["--model", said] if said else []))[0] == 0
        (answer,) = TranscriptFile(tmp_path / f"data/transcripts/alias{number}.jsonl").all()
        assert answer.model == recorded


def test_a_place_where_nothing_can_be_written_is_one_sentence(lago: Lago, tmp_path: Path) -> None:
    study = study_of(tmp_path, "nowhere", "http://127.0.0.1:9/v1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/transcripts").write_text("a file")
    for way in ("--check", "--unpaid", "--live"):
        code, _, err = lago("plan", str(study), way)
        assert code == 2
        assert "data/transcripts" in err
        assert "Traceback" not in err
