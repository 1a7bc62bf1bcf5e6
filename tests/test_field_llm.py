"""Servers and files as people report them (tests/field/llm), each with what its user should end with, over real HTTP.

Commands run in this process and the asker too, so that a case takes a moment; tests/test_live.py has it in a process of its own.
"""

# pytest leaves some types partially unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from lago_skills.commands.cli import main
from lago_skills.flows.local_server.server import unusable_proxies
from lago_skills.llm import asker, live
from tests.asking import FIELD, KEY, MODULES, STEPS, Field, ask_here, imported, no_stages
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    others = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    monkeypatch.syspath_prepend(str(FIELD))
    monkeypatch.setattr(live, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(asker, "ask", ask_here)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    yield
    for name in MODULES:  # files of other fields have the same names
        sys.modules.pop(name, None)
    sys.modules.update(others)


@pytest.fixture
def field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Generator[Field]:
    here = Field(tmp_path, capsys)
    yield here
    for endpoint in here.endpoints:
        endpoint.stop()


# Answers ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["think-draft", "think-schema", "think-form"])
def test_the_plan_after_the_reasoning_is_the_answer(field: Field, name: str) -> None:
    study, endpoint = field.case("01_think_draft", name)
    assert field.lago("plan", study, "--live")[0] == 0
    assert len(endpoint.asked) == 1
    _, out, _ = field.lago("plan", "show", "t0", "--study", study)
    assert all(step in out for step in STEPS)
    if name == "think-draft":
        assert "passed over: line 2" in out
        assert "in its reasoning" in out
    assert "1. push the cart" in out


@pytest.mark.parametrize("name", ["reasoning-content", "tool-calls"])
def test_an_answer_in_another_field_is_read_and_said(field: Field, name: str) -> None:
    study, endpoint = field.case("02_reasoning_content", name)
    code, _, err = field.lago("plan", study, "--live")
    assert (code, len(endpoint.asked), field.rows(study)) == (0, 1, {"t0": 2})
    assert f"the answer came in {name.replace('-', '_')}, not in content" in err


@pytest.mark.parametrize("name", ["all-reasoning", "cut-answer"])
def test_a_cap_used_up_is_said_and_a_larger_one_asks_again(field: Field, name: str) -> None:
    study, endpoint = field.case("03_all_reasoning", name)
    code, _, err = field.lago("plan", study, "--live")
    assert code == 2
    assert "cut off after 8,192 tokens where max_answer_tokens = 8,192, 8,192 of them used up by reasoning" in err
    assert len(endpoint.asked) == 1
    assert field.lago("plan", study, "--live")[0] == 2
    assert len(endpoint.asked) == 1  # the same cap would do no better
    file = Path(study)
    text = file.read_text(encoding="utf-8").replace("max_wait_s", "max_answer_tokens = 32768\nmax_wait_s")
    file.write_text(text, encoding="utf-8")
    assert field.lago("plan", study, "--live")[0] == 0
    assert len(endpoint.asked) == 2
    assert field.rows(study) == {"t0": 2}
    assert field.budget(name).spent.tokens == 8892 + 760


def test_slips_are_read_or_named_and_nothing_is_called_cut_off(field: Field) -> None:
    study, endpoint = field.case("11_json_slips", "json-slips")
    code, _, err = field.lago("plan", study, "--live")
    assert code == 2
    assert field.rows(study) == {"t0": 2, "t1": 2, "t2": 2, "t4": 2}
    assert 'found no complete JSON object with "steps", for a slip at line 1, column' in err
    assert "found True; expected true" in err
    assert "cut off" not in err
    assert len(endpoint.asked) == 5 + 1
    repair = endpoint.asked[-1]["messages"][0]["content"]
    assert "found True; expected true" in repair


@pytest.mark.parametrize("name", ["wordings-think", "wordings-prose"])
def test_wordings_are_read_behind_reasoning_and_prose(field: Field, name: str) -> None:
    from lago_skills.planner.wordings import read_wordings
    from lago_skills.study import load_study

    study, _ = field.case("14_wordings_think", name)
    assert field.lago("plan", study, "--wordings", "--live")[0] == 0
    known = read_wordings(field.transcripts(name), load_study(Path(study)).all_tasks)
    assert {task: len(texts) for task, texts in known.texts.items()} == {"t0": 3, "t1": 3, "none": 3}
    assert known.terms == (("push", "shove"), ("pole", "stick"))


def test_wordings_that_cannot_be_read_are_an_error_and_can_be_asked_again(field: Field) -> None:
    module, replies = imported("14_wordings_think"), imported("replies")
    good = False

    def behave(n: int, body: dict[str, Any]) -> Any:
        prompt = body["messages"][0]["content"]
        if "playbook" in prompt[:200].lower() or good:
            return module.behave(n, body)
        return replies.completion("I cannot help with {that}.")

    endpoint = field.endpoint(behave)
    study = field.study("unreadable", endpoint.url + "/v1", 2)
    code, _, err = field.lago("plan", study, "--wordings", "--live")
    assert code == 2
    assert "found no wordings in the answers to wordings/" in err
    names = err.rpartition("--again ")[2].split()[0]
    good = True
    assert field.lago("plan", study, "--wordings", "--live", "--again", names)[0] == 0


# Errors -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tries", "said"),
    [
        ("limited", 3, "some-model is temporarily rate-limited upstream. Please retry shortly"),
        ("credits", 1, "Insufficient credits"),
        ("address", 1, "POST /chat/completions"),
    ],
)
def test_an_error_with_status_200_is_an_error(field: Field, name: str, tries: int, said: str) -> None:
    study, endpoint = field.case("04_error_with_200", name)
    code, _, err = field.lago("plan", study, "--live")
    assert code == 2
    assert len(endpoint.asked) == tries
    assert said in err
    assert name != "address" or ("check the key" in err.replace("\n", " ") and "plan.live.base_url" in err)
    budget = field.budget(name)
    assert (budget.spent.tokens, budget.open) == (0, {})


@pytest.mark.parametrize(("name", "most"), [("cap-vllm", 3196), ("cap-openai", 4096), ("cap-older", 3196)])
def test_a_cap_is_lowered_to_what_fits_and_never_dropped(field: Field, name: str, most: int) -> None:
    study, endpoint = field.case("05_cap_too_large", name)
    assert field.lago("plan", study, "--live")[0] == 0
    caps = [body.get("max_completion_tokens", body.get("max_tokens")) for body in endpoint.asked]
    assert caps[0] == 8192
    assert caps[1] <= most
    assert len(caps) == 2
    assert field.rows(study) == {"t0": 2}
    assert field.budget(name).spent.tokens <= 30_000


@pytest.mark.parametrize("name", ["cr", "lf", "space", "nbsp", "quotes"])
def test_a_key_is_stripped_or_refused_and_never_shown(field: Field, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = imported("06_key_with_cr")
    endpoint = field.endpoint(module.behave)
    study = field.study(f"key-{name}", endpoint.url + "/v1")
    monkeypatch.setenv("OPENAI_API_KEY", module.KEYS[name])
    code, out, err = field.lago("plan", study, "--live")
    assert KEY not in out + err
    assert all(KEY not in path.read_text(errors="replace") for path in field.folder.rglob("*") if path.is_file())
    if name == "quotes":
        assert (code, endpoint.asked) == (2, [])
        assert "U+201C as character 1 of the key in OPENAI_API_KEY" in err
        assert "try" not in err
    else:
        assert (code, endpoint.keys) == (0, [f"Bearer {KEY}"])


@pytest.mark.parametrize("value", ["ALL_PROXY=socks5://127.0.0.1:1080", "all_proxy=socks://127.0.0.1:1080/"])
def test_a_proxy_that_cannot_be_used_is_one_sentence(field: Field, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable, _, address = value.partition("=")
    monkeypatch.setenv(variable, address)
    study, endpoint = field.case("07_socks_proxy", "proxy-live")
    assert field.lago("plan", study, "--live")[0] == 0  # this machine itself is asked without a proxy
    elsewhere = field.study("elsewhere", "http://models.example.com/v1")
    code, _, err = field.lago("plan", elsewhere, "--live")
    assert code == 2
    assert f"found a proxy in {variable} that cannot be used" in err
    assert "NO_PROXY" in err
    monkeypatch.setenv("NO_PROXY", "models.example.com")
    monkeypatch.setattr(live, "FIRST_WAIT_S", 0.0)
    assert f"found a proxy in {variable}" not in field.lago("plan", elsewhere, "--live")[2]
    assert len(endpoint.asked) == 1


def test_a_server_that_is_not_running_costs_nothing(field: Field) -> None:
    module = imported("08_not_running")
    closed = field.endpoint(module.behave)
    closed.stop()
    study = field.study("not-running", closed.url + "/v1", budget_tokens=100_000, max_tries=3)
    for _ in range(3):
        code, _, err = field.lago("plan", study, "--live")
        assert code == 2
        assert f"nobody listens at 127.0.0.1:{closed.port}" in err
        budget = field.budget("not-running")
        assert (budget.spent.tokens, budget.reserved.tokens) == (0, 0)
    endpoint = field.endpoint(module.behave, closed.port)
    field.endpoints.remove(closed)
    assert field.lago("plan", study, "--live")[0] == 0
    assert len(endpoint.asked) == 1
    bare = field.study("no-scheme", closed.url.removeprefix("http://") + "/v1")
    code, _, err = field.lago("plan", bare, "--live")
    assert code == 2
    assert "begins with http:// or https://" in err
    assert "try" not in err


def test_hidden_reasoning_is_paid_for(field: Field) -> None:
    module = imported("09_hidden_reasoning")
    study, endpoint = field.case("09_hidden_reasoning", "hidden-reasoning")
    code, _, err = field.lago("plan", study, "--live")
    assert code == 2
    assert len(endpoint.asked) == 2
    assert f"{2 * module.bill():.4f} of 0.05 USD" in err
    assert "expected at most budget_usd = 0.05" in err


def test_a_server_that_stops_leaves_the_rest_open_and_unpaid(field: Field) -> None:
    module = imported("13_server_stops")
    first = field.endpoint(module.behave, only=1)
    field.endpoints.remove(first)
    study = field.study("server-stops", first.url + "/v1", 41, max_tries=2)
    code, _, _ = field.lago("plan", study, "--live")
    assert code == 2
    budget = field.budget("server-stops")
    assert (budget.spent.tokens, budget.reserved.tokens) == (760, 0)
    second = field.endpoint(module.behave, first.port)
    assert field.lago("plan", study, "--live")[0] == 0
    assert len(second.asked) == 40
    assert len(field.rows(study)) == 41


# Nothing is final -------------------------------------------------------------------------------------------------------


def test_an_edit_leaves_the_paid_answers_of_others_in_use(field: Field) -> None:
    study, endpoint = field.case("12_edit_then_replay", "edit-then-replay")
    (field.folder / "playbook.json").write_text(imported("replies").GOOD)
    code, _, err = field.lago("plan", study, "--live")
    assert code == 2
    assert f"ask again with: lago plan {study} --live --again t0" in err
    assert len(endpoint.asked) == 5
    assert field.lago("plan", "edit", "t0", "--study", study, "--file", str(field.folder / "playbook.json"))[0] == 0
    for command in (("plan", study), ("plan", study, "--live")):
        assert field.lago(*command)[0] == 0
    assert len(endpoint.asked) == 5
    assert set(field.rows(study)) == {"t0", "t1", "t2", "t3"}
    assert "skill sentences that have changed since" in field.lago("plan", "show", "t3", "--study", study)[1]


def test_a_bad_answer_can_be_asked_again_of_the_same_model_or_another(field: Field) -> None:
    good = False
    replies = imported("replies")

    def behave(n: int, body: dict[str, Any]) -> Any:
        way = "way 0" in body["messages"][0]["content"]
        return replies.completion("I would push it." if way and not good and body["model"] == "asked" else replies.GOOD)

    endpoint = field.endpoint(behave)
    study = field.study("again", endpoint.url + "/v1", 3)
    assert field.lago("plan", study, "--live")[0] == 2
    assert len(endpoint.asked) == 4
    assert field.lago("plan", study, "--live")[0] == 2
    assert len(endpoint.asked) == 4  # not without being told to
    good = True
    assert field.lago("plan", study, "--live", "--again", "t0")[0] == 0
    assert len(endpoint.asked) == 5
    code, _, err = field.lago("plan", study, "--live", "--again", "t9")
    assert code == 2
    assert "found --again 't9'" in err
    good = False
    other = field.study("other", endpoint.url + "/v1", 3)
    assert field.lago("plan", other, "--live")[0] == 2
    assert field.lago("plan", other, "--live", "--model", "another")[0] == 0
    assert len(endpoint.asked) == 5 + 4 + 1
    assert endpoint.asked[-1]["model"] == "another"


# Files ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_answers", "n_open", "said"),
    [
        ("error_line", 2, 1, r"request 'plan/t3' failed with status 400: max_tokens is too large"),
        ("bom", 1, 2, ""),
        ("line_separator", 2, 1, ""),
        ("duplicate", 1, 2, "line 2 of duplicate.jsonl: request 'plan/t1' is answered twice, in line 1 too"),
    ],
)
def test_batch_files_as_they_come_back(field: Field, name: str, n_answers: int, n_open: int, said: str) -> None:
    module = imported("10_batch_files")
    study = field.study("batch", "http://127.0.0.1:9/v1", 4)
    requests = field.folder / "requests.jsonl"
    answers = field.folder / "answers.jsonl"
    assert field.lago("plan", study, "--export", str(requests))[0] == 0
    (first,) = [json.loads(line)["custom_id"] for line in requests.read_text().splitlines()]
    answers.write_text(json.dumps(module.line(first)))
    code, _, err = field.lago("plan", study, "--import", str(answers))
    assert code == 0
    assert "1 answers recorded; 3 requests are open" in err
    assert field.lago("plan", study, "--export", str(requests))[0] == 0
    keys = [json.loads(line)["custom_id"] for line in requests.read_text().splitlines()]
    (field.folder / f"{name}.jsonl").write_bytes(module.files(keys)[name])
    code, _, err = field.lago("plan", study, "--import", str(field.folder / f"{name}.jsonl"))
    assert f"{n_answers} answers recorded; {n_open} requests are open" in err
    assert said in err
    assert code == (2 if said else 0)


def test_proxies_of_a_kind_that_prefect_does_not_speak_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setenv("https_proxy", "socks://127.0.0.1:1080/")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    assert unusable_proxies() == ["ALL_PROXY", "https_proxy"]


def test_the_committed_plans_replay_behind_any_proxy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    assert main(["--root", str(ROOT), "plan", "metaworld", "--json"], no_stages) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["summary"]["playbooks"] == 50
