"""A small project to be looked at, and a browser to look with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from lago_skills.artifacts.executor import Runner
from lago_skills.commands.cli import main
from lago_skills.commands.stages import STAGES
from lago_skills.core import Skill
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.stages.workspace import Workspace, open_workspace
from tests.conftest import ROOT
from tests.test_small_worlds import DIAL, NUMBERS, WORDS, Answers, begin, find_task

AXE = ROOT / "tests/browser/axe.min.js"
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
"""As root in a container, and with WebGL where there is no graphics card."""
BUILT = ("collect", "plan", "segment", "pretrain", "build", "evaluate")


def lago(root: Path, *arguments: str) -> None:
    """A command of the project, stages in this process; it has to succeed."""

    def stages(space: Workspace, names: Sequence[str], runner: Runner) -> None:
        for name in names:
            for job in STAGES[name](space):
                job.run(lambda done, note: None)

    code = main(["--root", str(root), *arguments], stages)
    assert code == 0, arguments


def project(root: Path, form: str = "numbers") -> Workspace:
    """A study of the plane, up to its evaluation: two shown tasks, one that is not."""
    return built(root, "plane", "PlaneWorld", form, NUMBERS if form == "numbers" else WORDS, "shown", "fetch-south")


def dial(root: Path) -> Workspace:
    """A study of a world without anchors, up to its evaluation."""
    return built(root, "dial", "DialWorld", "numbers", DIAL, "raise lower", "set")


def built(root: Path, name: str, use: str, form: str, answers: Answers, seen: str, unseen: str) -> Workspace:
    """A study with recorded answers, up to its evaluation."""
    path = begin(root, name, use, form, seen=seen, unseen=unseen, algorithms="ppo" if name == "plane" else "sac")
    lago(root, "plan", name, "--scenes")
    for _ in range(4):
        lago(root, "plan", name, "--export", str(root / "requests.jsonl"))
        lines: list[str] = []
        for line in (root / "requests.jsonl").read_text(encoding="utf-8").splitlines():
            request = json.loads(line)
            prompt = str(request["body"]["messages"][0]["content"])
            (task,) = [each for each in answers if f'"{find_task(name, each)}"' in prompt]
            body = {"choices": [{"message": {"content": json.dumps({"steps": answers[task]})}}], "model": "test"}
            lines.append(json.dumps({"custom_id": request["custom_id"], "response": {"body": body}}))
        if not lines:
            break
        (root / "responses.jsonl").write_text("\n".join(lines), encoding="utf-8")
        lago(root, "plan", name, "--import", str(root / "responses.jsonl"), "--source", "a test")
    for stage in BUILT:
        lago(root, stage, name)
    return open_workspace(root, path)


def copied(space: Workspace, root: Path) -> Workspace:
    """The same project at another place, for a test that changes it."""
    shutil.copytree(space.root, root)
    return open_workspace(root, root / space.study_file.relative_to(space.root))


def many_skills(folder: Path, n: int, like: Sequence[Skill]) -> None:
    """A library of n skills, whose sentences are as various as people's."""
    rng = np.random.default_rng(0)
    verbs, things = (
        ["push", "pull", "lift", "lower", "turn", "open", "close", "slide", "press", "carry"],
        ["drawer", "door", "puck", "mug", "lid"],
    )
    ways = ["slowly", "gently", "sideways", "upwards", "forward", "firmly", "by-its-handle", "to-the-goal"]
    latents = rng.normal(size=(n, len(like[0].latent))).astype(np.float32)
    latents /= np.linalg.norm(latents, axis=1, keepdims=True)
    skills = [
        NewSkill(
            f"{rng.choice(verbs)} the {rng.choice(things)} {i} {rng.choice(ways)} and {rng.choice(verbs)} the {rng.choice(things)} {rng.choice(ways)}",
            latent,
            provenance={"by": "test", "tasks": [f"task-{i % 12}"]},
            support={"steps": float(i % 900)},
        )
        for i, latent in enumerate(latents)
    ]
    with SkillLibrary.open(folder, mode="write") as library:
        library.add_many(skills)


def chromium() -> str:
    """The system's browser; where there is none, tests that need one are skipped, but not in CI."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("found no chromium; expected the package of that name; .ci/run installs it")
        pytest.skip("needs Debian's package chromium")
    return path


def browsing() -> Iterator[Browser]:
    """A headless browser."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def violations(page: Page) -> list[str]:
    """What axe finds wrong with a page as it is."""
    # Through the debugger's door: the page's own policy lets no script in.
    page.evaluate(AXE.read_text(encoding="utf-8") + "; undefined")
    found = page.evaluate("async () => (await axe.run(document)).violations")
    return [f"{each['id']}: {node['html'][:140]}" for each in found for node in each["nodes"]]
