"""Stretches that no sentence explains are found, named by a recorded answer and become skills."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.core import Episode
from lago_skills.grow import material
from lago_skills.grow.making import write_version
from lago_skills.grow.unnamed import runs_below
from lago_skills.grow.versions import Versions
from lago_skills.guide.bundle import load_bundle
from lago_skills.library import SkillLibrary
from lago_skills.stages.workspace import Workspace
from lago_skills.worlds.rollouts import record
from tests.conftest import Lago
from tests.small_worlds import PlaneWorld
from tests.test_grow import built
from tests.test_small_worlds import NUMBERS, WORDS

WAIT = "stand still for a while"


def test_runs_below_zero_are_at_least_so_long() -> None:
    scores = np.array([1, 1, -3, -3, -3, 1, 1, 1, -9, 1, 1, 1, 1, 1, -1, -1, -1, -1], np.float64)
    assert runs_below(scores, 3) == [(2, 9), (14, 18)]
    assert runs_below(scores[:2], 3) == []
    assert runs_below(np.ones(9), 3) == []
    assert runs_below(np.array([1.0, 1.0, -9.0, 1.0, 1.0]), 3) == []  # one odd step is no motion


def waiting(n: int) -> list[Episode]:
    """Episodes of `visit` that stand still for eight steps on the way."""
    world = PlaneWorld()
    act, episodes = world.demonstrator("visit"), list[Episode]()
    for number in range(n):
        steps = 0

        def paused(observation: np.ndarray) -> Any:
            nonlocal steps
            steps += 1
            return np.int64(0) if 3 <= steps < 11 else act(observation)

        episodes.append(record(world.make("visit"), paused, "visit", 70_000 + number, 0.0, world))
    return [each for each in episodes if each.success and len(each.actions) > 18]


def taken_in(space: Workspace, episodes: list[Episode]) -> None:
    """A version more, which has these episodes of `visit` under its plan's one sentence."""
    assert len(episodes) >= 4
    versions = Versions(space.artifact("grown"))
    version, study = versions.get(0), space.study
    shown = material.with_episodes(material.load(version.folder, study), "visit", episodes, study)
    guide = load_bundle(version.folder, grounding=study.grounding)
    growth = {"number": 1, "before": 0, "task": "visit", "success": 1.0, "verdict": "accepted", "skills": 1}
    with guide.library:
        write_version(
            space, versions.next_folder(), guide, shown, material.load_probes(version.folder), growth, version
        )
    versions.use(1)


@pytest.mark.slow
def test_what_nothing_explains_is_named_and_becomes_a_skill(lago: Lago, tmp_path: Path) -> None:
    space = built(lago, tmp_path, "numbers", NUMBERS)
    code, _, err = lago("grow", "plane", "--unnamed")
    assert code == 2
    assert "found no task of version 0 with 3 stretches that its sentences do not explain" in err
    taken_in(space, waiting(20)[:8])
    code, _, err = lago("grow", "plane", "--unnamed")
    assert code == 2
    assert "lago grow plane --unnamed --export requests.jsonl" in err
    code, _, err = lago("grow", "plane", "--unnamed", "--export", str(tmp_path / "r.jsonl"))
    assert code == 0, err
    (request,) = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    kinds = str(request["body"]["messages"][0]["content"]).count("\nMotion ")
    names = [{"task": "visit", "motion": n, "skill": WAIT} for n in range(1, kinds + 1)]
    body = {"choices": [{"message": {"content": json.dumps({"names": names})}}]}
    (tmp_path / "a.jsonl").write_text(json.dumps({"custom_id": request["custom_id"], "response": {"body": body}}))
    code, out, err = lago("grow", "plane", "--unnamed", "--import", str(tmp_path / "a.jsonl"), "--model", "test")
    assert code == 0, err
    assert f"{kinds} kinds of motion named" in out
    versions = Versions(space.artifact("grown"))
    assert versions.current is not None
    assert versions.current.number == 2
    with SkillLibrary.open(versions.get(2).folder / "library", "frozen") as library:
        (skill,) = [each for each in library.list() if each.sentence == WAIT]
    assert skill.support["segments"] >= 3
    assert "kinds of motion named" in lago("grow", "plane", "--list")[1]


@pytest.mark.slow
def test_plans_in_words_say_what_is_not_there(lago: Lago, tmp_path: Path) -> None:
    built(lago, tmp_path, "words", WORDS)
    code, _, err = lago("grow", "plane", "--unnamed")
    assert code == 2
    assert "found plans in words; expected plans in numbers" in err
