"""Asking language models in tests: the asker without its process, and the studies and servers of tests/field/llm."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lago_skills.artifacts.executor import Runner
from lago_skills.commands.cli import main
from lago_skills.errors import EndpointError
from lago_skills.llm import asker
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.live import Event
from lago_skills.llm.spending import Budget
from lago_skills.llm.transcripts import Request, TranscriptFile

FIELD = Path(__file__).parent / "field" / "llm"
MODULES = ("endpoint", "replies", "serving", "studies")
KEY = "sk-not-a-real-key-0123456789"
STEPS = ["push the cart under the pole", "let the cart roll"]


def ask_here(
    requests: list[Request],
    config: LiveConfig,
    transcripts: Path,
    report: Callable[[Event], None],
    wanted: Mapping[str, int] | None = None,
) -> None:
    """The asker's work without its process."""
    crashed: list[str] = []

    def events(event: Event) -> None:
        if event.kind == "crashed":
            crashed.append(event.text)
        elif event.kind != "done":
            report(event)

    asker.answer_job(json.loads(json.dumps(asker.job_of(requests, config, transcripts, wanted))), events, lambda: False)
    if crashed:
        raise EndpointError(crashed[0])


class Field:
    """One folder with the studies of a case, and commands in it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.endpoints: list[Any] = []

    def case(self, module: str, name: str) -> tuple[str, Any]:
        """The study file of a case, and the endpoint that it asks."""
        case = next(each for each in imported(module).CASES if each.name == name)
        endpoint = self.endpoint(case.behave)
        live_settings = {"max_wait_s": 1.0, "max_tries": 3, **case.live}
        study = imported("studies").write_study(
            self.folder, case.name, endpoint.url + case.path, case.n_tasks, **live_settings
        )
        return str(study), endpoint

    def study(self, name: str, url: str, n_tasks: int = 1, **settings: Any) -> str:
        """The study file of a case that brings its own endpoint."""
        return str(imported("studies").write_study(self.folder, name, url, n_tasks, **settings))

    def endpoint(self, behave: Callable[..., Any], port: int = 0, only: int | None = None) -> Any:
        """A server."""
        endpoint = imported("endpoint").Endpoint(behave, port, only)
        self.endpoints.append(endpoint)
        return endpoint

    def lago(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a command."""
        code = main(["--root", str(self.folder), *arguments], no_stages)
        printed = self._capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    def rows(self, study: str) -> dict[str, int]:
        """Number of steps of each playbook, by task."""
        _, out, _ = self.lago("plan", study, "--json")
        return {row["task"]: row["n_steps"] for row in json.loads(out)["rows"]}

    def budget(self, name: str) -> Budget:
        """What is spent and open of a study of that name."""
        return Budget.of(LiveConfig(model="m"), self.transcripts(name))

    def transcripts(self, name: str) -> TranscriptFile:
        """What is recorded of a study of that name."""
        return TranscriptFile(self.folder / f"data/transcripts/{name}.jsonl")


def no_stages(space: Any, stages: Sequence[str], runner: Runner) -> None:
    """Recorded answers are judged without the stage that follows."""


def imported(module: str) -> Any:
    """A module of the field's folder."""
    sys.modules.pop(module, None)
    return importlib.import_module(module)
