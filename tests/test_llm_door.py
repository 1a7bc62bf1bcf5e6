"""Settings, certificates, many answers, what is on disk when, and budgets: over real HTTP, in this process."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lago_skills.errors import EndpointError
from lago_skills.llm import asker, live
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.live import Event, LiveClient
from lago_skills.llm.spending import Budget
from lago_skills.llm.transcripts import Request, TranscriptFile
from lago_skills.stages import plan
from lago_skills.stages.workspace import open_workspace
from tests.asking import ask_here
from tests.conftest import Lago
from tests.endpoint import PLAYBOOK, Endpoint, Reply, study_toml
from tests.llm_kills import Killed

pytestmark = pytest.mark.timeout(300)
KEY = "sk-secret-0123456789"
GOOD = json.dumps(PLAYBOOK)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(live, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(asker, "ask", ask_here)


def asked(folder: Path, url: str, n: int = 1, **settings: Any) -> list[Event]:
    """Ask n small requests."""
    events: list[Event] = []
    config = LiveConfig.model_validate({"model": "m", "base_url": url, "max_tries": 3, **settings})
    client = LiveClient(config, TranscriptFile(folder / "t.jsonl"), events.append, lambda: False)
    asyncio.run(client.ask([Request(f"plan/{number}", f"hello {number}") for number in range(n)]))
    return events


def failure(events: list[Event]) -> str:
    return next(event.text for event in events if event.kind == "failed")


# Settings ---------------------------------------------------------------------------------------------------------------


def test_headers_query_and_path_are_sent_and_secrets_stay_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_KEY", "azure-secret-42")
    with Endpoint(lambda before, body: Reply(status=400, content="bad azure-secret-42")) as endpoint:
        events = asked(
            tmp_path,
            endpoint.url,
            headers={"api-key": "$AZURE_KEY", "X-Title": "lago"},
            query={"api-version": "2026-01-01"},
            path="/deployments/d/chat/completions",
        )
    headers = {name.lower(): value for name, value in endpoint.headers[0].items()}
    assert (headers["api-key"], headers["x-title"]) == ("azure-secret-42", "lago")
    assert "authorization" not in headers
    assert endpoint.paths[0] == "/v1/deployments/d/chat/completions?api-version=2026-01-01"
    assert "[key removed]" in failure(events)
    assert "azure-secret-42" not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    for wrong, message in (
        ({"a": "$NOT_SET"}, "no such environment variable"),
        ({"a b": "x"}, "cannot have"),
        ({"a": "ü"}, "cannot have"),
    ):
        with pytest.raises(EndpointError, match=message):
            asked(tmp_path, endpoint.url, headers=wrong)


def test_how_json_is_asked_for_and_the_caps_name_are_settings(tmp_path: Path) -> None:
    with Endpoint(lambda before, body: Reply()) as endpoint:
        client = LiveClient(
            LiveConfig(
                model="m", base_url=endpoint.url, response_format="object", cap_parameter="max_tokens", temperature=0.3
            ),
            TranscriptFile(tmp_path / "t.jsonl"),
            lambda event: None,
            lambda: False,
        )
        asyncio.run(client.ask([Request("plan/x", "hello", {"type": "object"})]))
    (body,) = endpoint.bodies
    assert body["response_format"] == {"type": "json_object"}
    assert (body["max_tokens"], body["temperature"], body["stream"]) == (8192, 0.3, False)
    assert "max_completion_tokens" not in body


def test_a_server_that_takes_no_cap_is_not_asked_without_one(tmp_path: Path) -> None:
    def behave(before: int, body: dict[str, Any]) -> Reply:
        names = [name for name in ("max_completion_tokens", "max_tokens") if name in body]
        return Reply(status=400, content=f"Unknown parameter: {names[0]}") if names else Reply()

    with Endpoint(behave) as endpoint:
        events = asked(tmp_path, endpoint.url)
    assert "name it under [plan.live] as cap_parameter" in failure(events)
    assert all("max_tokens" in body or "max_completion_tokens" in body for body in endpoint.bodies)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:11434/v1", "begins with http:// or https://"),
        ("ftp://host/v1", "begins with http:// or https://"),
        ("http:///v1", "begins with http:// or https://"),
        ("http://host:99999/v1", "a possible port"),
    ],
)
def test_an_address_that_is_none_is_refused_at_once(url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match=said):
        asked(tmp_path, url)


def test_tls_where_there_is_none_and_certificates_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Endpoint(lambda before, body: Reply()) as endpoint:
        events = asked(tmp_path, endpoint.url.replace("http://", "https://"), max_tries=1)
        assert "certificate or encryption is not accepted" in failure(events)
        assert Budget.of(LiveConfig(), TranscriptFile(tmp_path / "t.jsonl")).open == {}
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
    with pytest.raises(EndpointError, match=r"SSL_CERT_FILE=.*expected a file of PEM certificates"):
        asked(tmp_path, "https://models.example.com/v1")


def test_an_endpoint_is_checked_with_one_small_request(lago: Lago, tmp_path: Path) -> None:
    with Endpoint(lambda before, body: Reply('{"word": "ready"}', usage={"total_tokens": 9})) as endpoint:
        study = tmp_path / "checked.toml"
        study.write_text(study_toml(endpoint.url, 1).replace('name = "cart"', 'name = "checked"'))
        code, out, _ = lago("plan", str(study), "--check")
    assert (code, len(endpoint.bodies)) == (0, 1)
    assert "answers as 'served' (asked for 'test-model')" in out
    assert "max_completion_tokens = 2,048 taken" in out
    assert "missing, and counted carefully: prompt_tokens, completion_tokens" in out
    assert "this run: 0 prompt and 9 answer tokens" in out
    with Endpoint(lambda before, body: Reply(status=401, content=f"no {KEY}")) as endpoint:
        study.write_text(study_toml(endpoint.url, 1).replace('name = "cart"', 'name = "checked"'))
        code, _, err = lago("plan", str(study), "--check")
    assert code == 2
    assert "HTTP 401" in err
    assert KEY not in err


# Everything is on disk --------------------------------------------------------------------------------------------------


def test_the_whole_reply_is_recorded(tmp_path: Path) -> None:
    message = {"content": GOOD, "reasoning_content": "first this, then that"}
    raw = json.dumps(
        {"choices": [{"finish_reason": "stop", "message": message}], "model": "served-2", "system_fingerprint": "f"}
    )
    with Endpoint(lambda before, body: Reply(raw=raw.encode())) as endpoint:
        asked(tmp_path, endpoint.url)
    (recorded,) = TranscriptFile(tmp_path / "t.jsonl").all()
    assert recorded.reply == json.loads(raw)
    assert (recorded.model, recorded.response, recorded.cap) == ("m", GOOD, 8192)
    assert recorded.usage["estimated"] == 1


def test_what_came_back_before_a_crash_is_recorded_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(self: TranscriptFile, transcript: Any) -> None:
        raise Killed

    with Endpoint(lambda before, body: Reply()) as endpoint:
        with monkeypatch.context() as patch:
            patch.setattr(TranscriptFile, "append", kill)
            with pytest.raises((Killed, BaseExceptionGroup)):
                asked(tmp_path, endpoint.url)
        assert len(TranscriptFile(tmp_path / "t.jsonl")) == 0
        asked(tmp_path, "http://127.0.0.1:9/v1", n=0)
    assert sum(endpoint.asked.values()) == 1
    (recorded,) = TranscriptFile(tmp_path / "t.jsonl").all()
    assert recorded.response == GOOD
    budget = Budget.of(LiveConfig(), TranscriptFile(tmp_path / "t.jsonl"))
    assert (budget.spent.tokens, budget.open) == (100, {})


def test_a_budget_spent_by_attempts_without_an_outcome_is_freed_by_a_person(lago: Lago, tmp_path: Path) -> None:
    with Endpoint(lambda before, body: Reply(reset=True)) as endpoint:
        study = tmp_path / "broken.toml"
        text = study_toml(endpoint.url, 1, max_tries=3, budget_tokens=20_000).replace(
            'name = "cart"', 'name = "broken"'
        )
        study.write_text(text)
        code, _, err = lago("plan", str(study), "--live")
    assert code == 2
    assert "attempts without an outcome count as spent" in err
    assert f"lago plan {study} --unpaid" in err
    code, _, err = lago("plan", str(study), "--unpaid")
    assert code == 0
    assert "no longer count" in err
    with Endpoint(lambda before, body: Reply()) as endpoint:
        study.write_text(text.replace(text.split('base_url = "')[1].split('"')[0], endpoint.url))
        assert lago("plan", str(study), "--live")[0] == 0


def test_a_prompt_that_a_server_cut_is_said_and_so_is_where_it_has_moved(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}
    with Endpoint(lambda before, body: Reply(usage=usage)) as endpoint:
        config = LiveConfig(model="m", base_url=endpoint.url)
        events: list[Event] = []
        client = LiveClient(config, TranscriptFile(tmp_path / "t.jsonl"), events.append, lambda: False)
        asyncio.run(client.ask([Request("plan/x", "a long prompt, of many words")]))
    assert any("it may have cut it (Ollama: num_ctx)" in event.text for event in events)
    moved = Reply(status=308, content="", headers={"Location": "https://elsewhere/v1"})
    with Endpoint(lambda before, body: moved) as endpoint:
        assert "it has moved to https://elsewhere/v1" in failure(asked(tmp_path, endpoint.url))
    assert len(endpoint.bodies) == 1


def test_attempts_of_an_older_version_are_freed_too(lago: Lago, tmp_path: Path) -> None:
    study = tmp_path / "older.toml"
    study.write_text(study_toml("http://127.0.0.1:9/v1", 1).replace('name = "cart"', 'name = "older"'))
    journal = tmp_path / "data/transcripts/older.jsonl.asked"
    journal.parent.mkdir(parents=True)
    lines = [{"event": "sent", "attempt": f"a{n}", "prompt": 700, "answer": 8192} for n in range(224)]
    journal.write_text("".join(json.dumps(each) + "\n" for each in lines))
    code, _, err = lago("plan", str(study), "--live")
    assert code == 2
    assert "attempts without an outcome count as spent" in err
    code, _, err = lago("plan", str(study), "--unpaid")
    assert code == 0
    assert "224 attempts without an outcome no longer count: 1,991,808 tokens are free again" in err


def test_a_fault_of_ours_is_shown_without_the_key(lago: Lago, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: LiveClient, *_: Any) -> None:
        raise RuntimeError(f"something about {KEY}")

    monkeypatch.setattr(LiveClient, "ask", fail)
    study = tmp_path / "faulty.toml"
    study.write_text(study_toml("http://127.0.0.1:9/v1", 1).replace('name = "cart"', 'name = "faulty"'))
    code, out, err = lago("plan", str(study), "--live")
    assert code == 2
    assert "RuntimeError: something about [key removed]" in err
    assert KEY not in out + err


# Many answers -----------------------------------------------------------------------------------------------------------


def sampled(n: int) -> str:
    """A good answer that differs from the others by its number."""
    return GOOD.replace("let the cart roll", f"let the cart roll, way {n}")


def test_several_answers_are_asked_recorded_and_compared(lago: Lago, tmp_path: Path) -> None:
    counts: Counter[str] = Counter()

    def behave(before: int, body: dict[str, Any]) -> Reply:
        return Reply(
            "no plan" if before == 1 and "# An earlier" not in body["messages"][0]["content"] else sampled(before)
        )

    with Endpoint(behave) as endpoint:
        study = tmp_path / "many.toml"
        text = study_toml(endpoint.url, 2, concurrency=1).replace('name = "cart"', 'name = "many"')
        study.write_text(text.replace("[plan.live]", "[plan]\nsamples = 3\n[plan.live]"))
        code, out, err = lago("plan", str(study), "--live", "--json")
    assert code == 0, err
    assert {row["task"] for row in json.loads(out)["rows"]} == {"task-0", "task-1"}
    counts.update(endpoint.asked)
    assert sorted(counts.values()) == [1, 1, 3, 3]  # three answers of each, one repair of each
    keys = [
        dict(each)["Idempotency-Key"] if "Idempotency-Key" in each else each["idempotency-key"]
        for each in endpoint.headers
    ]
    assert len(set(keys)) == len(keys), "a gateway must not answer the second from its memory of the first"
    space = open_workspace(tmp_path, study)
    plans = plan.plans(space)
    assert [len(each.samples) for each in plans.values()] == [3, 3]
    (job,) = plan.jobs(space)
    job.run(lambda done, note: None)
    books = plan.load_samples(space.artifact("playbooks"), space.study.grounding.vocabulary)
    assert {name: len(each) for name, each in books.items()} == {"task-0": 3, "task-1": 3}
    _, out, _ = lago("plan", "show", "task-0", "--study", str(study))
    assert "answer 3 of 3" in out
    assert out.count("<- in use") == 2


def test_a_model_with_nothing_more_to_say_is_asked_a_bounded_number_of_times(lago: Lago, tmp_path: Path) -> None:
    with Endpoint(lambda before, body: Reply()) as endpoint:
        study = tmp_path / "same.toml"
        text = study_toml(endpoint.url, 1).replace('name = "cart"', 'name = "same"')
        study.write_text(text.replace("[plan.live]", "[plan]\nsamples = 4\n[plan.live]"))
        code, _, err = lago("plan", str(study), "--live")
    assert code == 0
    assert "1 different answers; a temperature above 0" in err
    assert sum(endpoint.asked.values()) == 4 + 3


def test_several_answers_go_through_files_too(lago: Lago, tmp_path: Path) -> None:
    study = tmp_path / "filed.toml"
    text = study_toml("http://127.0.0.1:9/v1", 1).replace('name = "cart"', 'name = "filed"')
    study.write_text(text.replace("[plan.live]", "[plan]\nsamples = 3\n[plan.live]"))
    requests, answers = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    assert lago("plan", str(study), "--export", str(requests))[0] == 0
    ids = [json.loads(line)["custom_id"] for line in requests.read_text().splitlines()]
    assert len(set(ids)) == 3
    lines = [
        {
            "custom_id": each,
            "response": {"body": {"model": "test-model-2026-01-01", "choices": [{"message": {"content": sampled(n)}}]}},
        }
        for n, each in enumerate(ids)
    ]
    answers.write_bytes("\r\n".join(map(json.dumps, lines[::-1])).encode())
    code, _, err = lago("plan", str(study), "--import", str(answers))
    assert code == 0
    assert "3 answers recorded; 0 requests are open" in err
    recorded = list(TranscriptFile(open_workspace(tmp_path, study).transcripts).all())
    assert {each.model for each in recorded} == {"test-model"}, "an alias and its dated name are one model"
    code, _, err = lago("plan", str(study), "--import", str(answers))
    assert code == 2
    assert "is answered already, by test-model" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--export", "no/such/folder/r.jsonl"), "cannot be written"),
        (("--import", "absent.jsonl"), "cannot be read"),
    ],
)
def test_files_that_are_not_there_are_one_sentence(
    lago: Lago, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    study = tmp_path / "files.toml"
    study.write_text(study_toml("http://127.0.0.1:9/v1", 1).replace('name = "cart"', 'name = "files"'))
    code, _, err = lago("plan", str(study), arguments[0], str(tmp_path / arguments[1]))
    assert code == 2
    assert said in err
