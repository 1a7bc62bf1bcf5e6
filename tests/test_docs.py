"""The code in the documents: each block is run, read by what would read it, or says why not."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.commands.cli import parser
from lago_skills.library import SkillLibrary
from lago_skills.study import Study
from scripts import study_reference
from tests.conftest import ROOT
from tests.doc_blocks import OUTSIDE, Block, blocks, blocks_in, commands_in, of
from tests.library_skills import Z
from tests.served import serving

CHECKED = ("bash", "python", "toml", "json")
NOT_CODE = ("text", "{toctree}", "{eval-rst}")
"""What a program printed, and what only the site reads: building it checks that."""
LEAST: dict[str, Any] = {"name": "mine", "tasks": {"seen": ["push"]}}
"""What a study has beside a part of one."""


def _named(chosen: list[Block]) -> list[Any]:
    return [pytest.param(block, id=block.name) for block in chosen]


def test_every_block_says_what_it_is() -> None:
    """A language that is checked here, or one that is none; and its mark names a test that is there."""
    faults: list[str] = []
    for block in blocks():
        if block.path.name != "README.md" and block.language not in (*CHECKED, *NOT_CODE):
            faults.append(f"{block.name}: found language {block.language!r}; expected one of {CHECKED} or {NOT_CODE}")
        if block.mark is not None and block.mark[0] == "run by":
            test = ROOT / block.mark[1].partition(":")[0]
            if not test.is_file() or block.path.name not in test.read_text(encoding="utf-8"):
                faults.append(f"{block.name}: found {block.mark[1]!r}; expected a test that names {block.path.name}")
    assert not faults, "\n".join(faults)


def test_a_block_without_a_language_or_an_end_is_found() -> None:
    page = ROOT / "docs/new.md"
    (bare, marked) = blocks_in(page, "```\nlago run x\n```\n<!-- not run: why -->\n  ```python\n  a = 1\n  ```\n")
    assert bare.language not in (*CHECKED, *NOT_CODE)
    assert (marked.language, marked.text, marked.mark) == ("python", "a = 1\n", ("not run:", "why"))
    with pytest.raises(ValueError, match=r"new.md:1: found a block of code without an end"):
        list(blocks_in(page, "```python\na = 1\n"))


# Shell ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", _named(of("bash")))
def test_command_lines_are_ones_that_the_program_reads(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands_in(block.text):
        check_command(words, capsys)


def check_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Refuse a command that could not be typed.

    Raises:
        AssertionError: says which, and what the parser says of it.
    """
    program = words[0]
    if program == "lago":
        try:
            parser().parse_args(words[1:])
        except SystemExit:
            pytest.fail(f"found {' '.join(words)!r}; expected a command that is read ({capsys.readouterr().err})")
    elif program == "python" and words[1] == "-m":
        assert importlib.util.find_spec(words[2]) is not None, f"found no module {words[2]!r}"
    elif program == "python":
        assert (ROOT / words[1]).is_file() or (ROOT / "examples/courier" / words[1]).is_file(), f"found no {words[1]!r}"
    elif program == "pytest":
        assert (ROOT / words[-1]).is_file(), f"found no {words[-1]!r}"
    elif re.fullmatch(r"\.servers/.*|python3\.11", program):
        assert "litellm" in " ".join(words) or "transformers" in " ".join(words), words
    else:
        assert program in OUTSIDE, f"found a command {program!r} that nobody checks; expected one of {sorted(OUTSIDE)}"


def test_a_command_that_cannot_be_typed_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    (first, second) = commands_in(
        "TOKEN=x lago serve a.zip --port 80  # a comment\nlago plan mine --no-such-option \\\n  x\n"
    )
    check_command(first, capsys)
    with pytest.raises(pytest.fail.Exception, match="no-such-option"):
        check_command(second, capsys)


# Data -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", _named(of("toml")))
def test_parts_of_studies_are_read(block: Block) -> None:
    """With what else a study needs; a misspelt key or an impossible value is refused."""
    said = tomllib.loads(block.text)
    Study.model_validate(LEAST | said | {"tasks": LEAST["tasks"] | said.get("tasks", {})})


@pytest.mark.parametrize("block", _named(of("json")))
def test_json_is_json(block: Block) -> None:
    for line in block.text.strip().split("\n"):
        json.loads(line)


def test_every_key_of_a_study_says_what_it_means() -> None:
    assert study_reference.unexplained() == []


def test_the_reference_has_what_a_study_may_say() -> None:
    """Names and defaults that a reader would look for, through aliases, lists, unions and inheritance."""
    page = study_reference.page()
    assert "## `[[data]]`" in page
    assert "## `[world.features.NAME]`" in page
    assert re.search(r"\| `import` \| list of: text \|", page)
    assert re.search(r"\| `n_steps` \| whole number; ≥ 1 \| `300_000` \|", page)
    assert re.search(r"\| `reward` \| `\"own\"` or `\"sparse\"` \| `\"own\"` \|", page)


# Python -----------------------------------------------------------------------------------------------------------------


RUN_HERE = (
    ("README.md", "lago_skills.load"),
    ("docs/serving.md", "lago_skills.load"),
    ("docs/how-to/deploy.md", "refuse"),
    ("docs/how-to/serve.md", "RemoteGuide"),
    ("docs/your-own-study.md", "load_bundle"),
    ("docs/skill-library.md", "SkillLibrary"),
    ("docs/ball-push.md", "BallPush"),
)
"""Blocks without a mark: their pages, and what is in no other block of these."""


def _python(page: str, part: str) -> str:
    assert (page, part) in RUN_HERE
    (block,) = _meant(page, part)
    return block.text


def _meant(page: str, part: str) -> list[Block]:
    return [block for block in of("python") if block.mark is None and block.path == ROOT / page and part in block.text]


def test_every_block_of_python_is_run() -> None:
    """By a test that its mark names, or by one here."""
    run = [block.name for page, part in RUN_HERE for block in _meant(page, part)]
    assert sorted(run) == sorted(block.name for block in of("python") if block.mark is None)


@pytest.fixture
def demo(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a bundle of random weights where documents have one."""
    (tmp_path / "checkpoints/demo").mkdir(parents=True)
    for name in ("checkpoints/demo/bundle", "demo.zip", "mine.zip"):
        (tmp_path / name).symlink_to(bundle)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_the_readme_shows_runs(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(_python("README.md", "lago_skills.load"), {})
    assert capsys.readouterr().out.startswith("[")


def test_what_serving_shows_runs(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states = np.zeros((3, 39))
    names: dict[str, Any] = {"observation": states[0], "observations": states}
    exec(_python("docs/serving.md", "lago_skills.load"), names)
    assert names["action"].shape == (4,)
    assert names["answer"].actions.shape == (3, 4)
    assert capsys.readouterr().out


def test_what_deploying_shows_runs(demo: Path) -> None:
    names: dict[str, Any] = {"observation": start()}
    exec(_python("docs/how-to/deploy.md", "refuse"), names)
    assert names["action"].shape == (4,)


def test_what_your_own_loop_shows_runs(demo: Path) -> None:
    names: dict[str, Any] = {"observations": np.zeros((3, 39)), "actions": np.zeros((3, 4))}
    exec(_python("docs/your-own-study.md", "load_bundle"), names)
    assert names["prior"].mean().shape == (3, 4)


def test_what_serve_shows_runs(demo: Path) -> None:
    """Of a service that is there, at its own port."""
    with serving(demo / "mine.zip", "--no-pages") as service:
        code = _python("docs/how-to/serve.md", "RemoteGuide").replace("http://127.0.0.1:8765", service.address)
        names: dict[str, Any] = {"observations": np.zeros((2, 39))}
        exec(code, names)
        names["guide"].close()
    assert names["action"].shape == (2, 4)


def test_what_the_library_page_shows_runs(
    library: SkillLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.close()
    (tmp_path / "data/libraries").mkdir(parents=True)
    (tmp_path / "data/libraries/demo").symlink_to(tmp_path / "library")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"latents": np.ones((1, Z), np.float32)}
    code = _python("docs/skill-library.md", "SkillLibrary").replace('tasks=["push"]', "tasks=None")
    exec(code, names)
    with SkillLibrary.open(tmp_path / "library") as after:
        assert not after.get(int(names["found"].ids[0, 0])).enabled


def test_what_ball_push_shows_runs() -> None:
    names: dict[str, Any] = {}
    exec(_python("docs/ball-push.md", "BallPush"), names)
    assert names["observation"].shape == (10,)


def start() -> Any:
    """A state that an episode begins in."""
    from lago_skills.worlds.metaworld.world import MetaWorld

    env = MetaWorld().make("push-wall")
    observation, _ = env.reset(seed=0)
    env.close()
    return observation
