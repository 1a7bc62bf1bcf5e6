"""Servers that nobody here wrote: LiteLLM's proxy, and `transformers serve` with a tiny random model.

Both are started here. LiteLLM lives in an environment of its own (tests/servers/litellm.txt says how to make it); where a server is not there,
its tests are skipped with that sentence.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lago_skills.llm import asker, live
from tests.asking import ask_here
from tests.conftest import ROOT, Lago
from tests.endpoint import PLAYBOOK, Endpoint, Reply, study_toml

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]
LITELLM = Path(os.environ.get("LAGO_LITELLM", ROOT / ".servers/litellm/bin/litellm"))
EXTRA = ROOT / ".servers/transformers"
"""What `transformers serve` needs beside this environment."""
KEY = "sk-" + 8 * "0123abcd"
GOOD = json.dumps(PLAYBOOK)
ANSWERS = {
    "valid": GOOD,
    "fenced": f"Sure, {{here}} it is:\n```json\n{GOOD}\n```",
    "thinking": f'<think>\n{{"steps": []}} is too short.\n</think>\n{GOOD}',
    "garbage": "I would rather not {plan}.",
}
READY_S = 120.0


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(live, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(asker, "ask", ask_here)


def free_port() -> int:
    """One that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def server(command: list[str], ready: str, log: Path, **environment: str) -> Generator[None]:
    """A server process, once that address answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
        try:
            deadline = time.monotonic() + READY_S
            while not _answers(ready):
                assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-2000:]
                assert time.monotonic() < deadline, log.read_text(encoding="utf-8", errors="replace")[-2000:]
                time.sleep(0.5)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def write_study(folder: Path, name: str, url: str, model: str, **settings: Any) -> str:
    """A study that asks a server for one playbook."""
    text = study_toml(url, 1, **{"model": model, "max_tries": 2, "timeout_s": 60.0, **settings})
    path = folder / f"{name}.toml"
    path.write_text(text.replace('name = "cart"', f'name = "{name}"'), encoding="utf-8")
    return str(path)


# LiteLLM's proxy --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not LITELLM.exists(), reason="LiteLLM is not installed: tests/servers/litellm.txt says how")
def test_litellms_proxy(lago: Lago, tmp_path: Path) -> None:
    """In front of an endpoint of ours: valid, fenced, thinking and garbage answers, an error that it passes on, no server behind it."""

    def behave(before: int, body: dict[str, Any]) -> Reply:
        return (
            Reply(status=400, content="this prompt was flagged")
            if body["model"] == "flagged"
            else Reply(ANSWERS[body["model"]])
        )

    with Endpoint(behave) as endpoint:
        known = dict.fromkeys((*ANSWERS, "flagged"), endpoint.url) | {"nobody": "http://127.0.0.1:9/v1"}
        models = [
            {
                "model_name": name,
                "litellm_params": {"model": f"openai/{name}", "api_base": url, "api_key": "x", "max_retries": 0},
            }
            for name, url in known.items()
        ]
        config = tmp_path / "litellm.json"
        config.write_text(json.dumps({"model_list": models, "litellm_settings": {"num_retries": 0}}), encoding="utf-8")
        port = free_port()
        command = [str(LITELLM), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
        url = f"http://127.0.0.1:{port}"
        log = tmp_path / "litellm.log"
        environment = {"LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1"}
        with server(command, f"{url}/health/liveliness", log, **environment):
            for name in ANSWERS:
                code, out, err = lago("plan", write_study(tmp_path, name, url, name), "--live", "--json")
                assert code == (2 if name == "garbage" else 0), err
                assert "Traceback" not in err
                rows = {row["task"]: row["n_steps"] for row in json.loads(out)["rows"]}
                assert rows == ({} if name == "garbage" else {"task-0": 2})
            code, _, err = lago("plan", write_study(tmp_path, "flagged", url, "flagged"), "--live")
            assert code == 2
            assert "this prompt was flagged" in err
            code, _, err = lago("plan", write_study(tmp_path, "nobody", url, "nobody"), "--live")
            assert code == 2
            assert "HTTP 500" in err
            code, _, err = lago("plan", write_study(tmp_path, "unknown", url, "no-such-model"), "--live")
            assert code == 2
            assert "no-such-model" in err
            code, out, _ = lago("plan", write_study(tmp_path, "checked", url, "valid"), "--check")
            assert code == 0
            assert "response_format     taken" in out


# transformers serve -----------------------------------------------------------------------------------------------------


def tiny_model(folder: Path) -> None:
    """A language model with random weights, whose tokens are bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<s>", "</s>", *alphabet]
    tokenizer = Tokenizer(models.BPE(vocab={name: number for number, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(names),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16384,
        bos_token_id=0,
        eos_token_id=1,
    )
    model: Any = LlamaForCausalLM(config)
    model.save_pretrained(folder)


@pytest.mark.skipif(
    not EXTRA.exists(), reason="packages are missing: tests/servers/transformers.txt says how to get them"
)
def test_transformers_serve_with_a_tiny_random_model(lago: Lago, tmp_path: Path) -> None:
    """It answers with garbage, cut off at the cap: said, counted, and without a traceback."""
    model = tmp_path / "tiny"
    tiny_model(model)
    port = free_port()
    script = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
    command = [
        sys.executable,
        "-c",
        script,
        "serve",
        str(model),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--device",
        "cpu",
    ]
    url = f"http://127.0.0.1:{port}"
    environment = {"HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(EXTRA)}
    with server(command, f"{url}/health", tmp_path / "transformers.log", **environment):
        study = write_study(tmp_path, "tiny", f"{url}/v1", str(model), max_answer_tokens=32, response_format="none")
        code, out, err = lago("plan", study, "--check")
        assert code == 0, err
        assert "longest answer" in out
        code, out, err = lago("plan", study, "--live")
    assert code == 2
    assert "Traceback" not in err
    assert "task 'task-0' has no playbook" in err
