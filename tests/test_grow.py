"""A built library takes in a task and episodes, on a small world: what is taken, what is refused, what changed, and the way back."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lago_skills
from lago_skills.artifacts.folder import verify
from lago_skills.core import Episode, Skill
from lago_skills.data.episodes import load_episodes, save_episodes
from lago_skills.errors import ArtifactCorrupt
from lago_skills.grow import material
from lago_skills.grow.making import guide_of, write_version
from lago_skills.grow.versions import Versions
from lago_skills.guide.bundle import load_bundle
from lago_skills.library import SkillLibrary
from lago_skills.library.exchange import copy
from lago_skills.stages import collect
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.worlds.rollouts import record
from tests.conftest import Lago
from tests.small_worlds import PlaneWorld
from tests.test_small_worlds import DIAL, GO, NUMBERS, WORDS, answer, begin

pytestmark = pytest.mark.slow
BUILT = ("collect", "plan", "segment", "pretrain", "build")
Answers = dict[str, list[dict[str, Any]]]


def built(lago: Lago, folder: Path, form: str, answers: Answers) -> Workspace:
    """A study of one shown task and one that is not, up to its bundle."""
    path = begin(folder, "plane", "PlaneWorld", form, seen="visit", unseen="fetch-south", algorithms="ppo")
    code, _, err = lago("plan", "plane", "--scenes")
    assert code == 0, err
    answer(lago, folder, "plane", answers)
    for stage in BUILT:
        code, _, err = lago(stage, "plane")
        assert code == 0, (stage, err)
    return open_workspace(folder, path)


def answered(lago: Lago, folder: Path, task: str, answers: Answers) -> None:
    """Ask for the plan of a task that is not in the study, and record the answer."""
    code, _, err = lago("grow", "plane", "--task", task, "--export", str(folder / "r.jsonl"))
    assert code == 0, err
    (line,) = (folder / "r.jsonl").read_text().splitlines()
    request = json.loads(line)
    assert PlaneWorld().tasks[task].sentence in request["body"]["messages"][0]["content"]
    body = {"choices": [{"message": {"content": json.dumps({"steps": answers[task]})}}]}
    (folder / "a.jsonl").write_text(json.dumps({"custom_id": request["custom_id"], "response": {"body": body}}))
    code, _, err = lago("grow", "plane", "--task", task, "--import", str(folder / "a.jsonl"), "--model", "test")
    assert code == 0, err


def shown(task: str, n: int, first: int = 50_000) -> list[Episode]:
    world = PlaneWorld()
    act = world.demonstrator(task)
    return [record(world.make(task), act, task, first + i, 0.1, world) for i in range(n)]


def at_random(task: str, n: int) -> list[Episode]:
    """Episodes that act at random and are said to have succeeded."""
    rng, world = np.random.default_rng(0), PlaneWorld()

    def act(observation: np.ndarray) -> Any:
        return rng.integers(5)

    every = [record(world.make(task), act, task, 60_000 + i, 0.0, world) for i in range(n)]
    return [replace(each, success=True, terminated=True, truncated=False) for each in every]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(("form", "answers"), [("numbers", NUMBERS), ("words", WORDS)])
def test_a_plan_alone_and_then_episodes_make_versions_and_rollback_goes_back(
    lago: Lago, tmp_path: Path, form: str, answers: Answers
) -> None:
    space = built(lago, tmp_path, form, answers)
    before = bytes_of(space.artifact("bundle"))
    code, _, err = lago("grow", "plane", "--task", "fetch")
    assert code == 2
    assert "lago grow plane --task fetch --export requests.jsonl, then the same with --import" in err
    answered(lago, tmp_path, "fetch", answers)
    code, out, err = lago("grow", "plane", "--task", "fetch", "--json")
    assert code == 0, err
    grown = json.loads(out)
    assert grown["summary"]["verdict"] == "accepted"
    assert (grown["summary"]["number"], grown["summary"]["before"]) == (1, 0)
    assert not grown["summary"]["refreshed"]
    assert grown["rows"] == []  # nothing that the old task looks up has changed, so it is not played again
    assert bytes_of(space.artifact("bundle")) == before
    guide = lago_skills.load(space.artifact("grown", "current"), grounding=space.study.grounding, unfamiliar="answer")
    assert set(guide.tasks) == {"visit", "fetch", "fetch-south"}

    good = shown("fetch", 8)
    save_episodes(tmp_path / "fetch.npz", [*good, *at_random("fetch", 4), good[0]])
    code, out, err = lago("grow", "plane", "--task", "fetch", "--data", str(tmp_path / "fetch.npz"), "--json")
    assert code == 0, err
    summary = json.loads(out)["summary"]
    (source,) = summary["sources"]
    assert source["learned"] == "demonstrated"
    assert summary["refreshed"]
    assert summary["success"] >= 0.8
    assert [row["task"] for row in json.loads(out)["rows"]] == list(summary["touched"])
    assert source["repeated"] == 1
    assert source["refused"] >= 4  # of which four act at random
    assert source["accepted"] >= 6
    came_of_it(lago, space, form)


def came_of_it(lago: Lago, space: Workspace, form: str) -> None:
    """Three versions, the last in use; each may be gone back to."""
    versions = Versions(space.artifact("grown"))
    assert versions.current is not None
    taken = load_episodes(versions.current.folder / "episodes" / "fetch.npz")
    good = {each.observations.astype(np.float32).tobytes() for each in shown("fetch", 8)}
    assert {each.observations.astype(np.float32).tobytes() for each in taken} <= good  # none that acts at random
    save_episodes(space.root / "again.npz", taken)
    code, _, err = lago("grow", "plane", "--task", "fetch", "--data", str(space.root / "again.npz"))
    assert code == 2
    assert f"{len(taken)} episodes that it has already" in err
    assert [each.number for each in versions.all()] == [0, 1, 2]
    assert versions.current is not None
    assert versions.current.number == 2
    code, out, _ = lago("grow", "plane", "--list")
    assert code == 0
    assert [line[0] for line in out.splitlines()] == [" ", " ", "*"]
    story(lago, versions.current.folder, form)
    picture = space.root / "growth.svg"
    assert lago("picture", "growth", "plane", "--to", str(picture))[0] == 0
    assert "old tasks, after less before" in picture.read_text(encoding="utf-8")
    assert lago("skills", "rollback", "plane", "0")[0] == 0
    assert versions.current.number == 0
    code, _, err = lago("skills", "rollback", "plane", "7")
    assert code == 2
    assert "found no version 7" in err
    for each in versions.all():
        verify(each.folder)


def story(lago: Lago, folder: Path, form: str) -> None:
    """The skill that was learned from the new episodes tells where it comes from."""
    sentence = GO if form == "numbers" else "drive with the thing to the place, until the thing has come to the place"
    with SkillLibrary.open(folder / "library", "frozen") as library:
        (skill,) = [each for each in library.list() if each.sentence == sentence]
    assert skill.provenance["by"] == "grow"
    assert skill.provenance["tasks"] == ["fetch"]
    (note,) = skill.provenance["grown"]
    assert (note["version"], note["task"], note["learned"]) == (2, "fetch", ["demonstrated"])
    assert note["segments"] == skill.support["segments"] > 0
    code, out, _ = lago("skills", "history", str(folder), skill.name)
    assert code == 0
    (step,) = [
        n
        for n, each in enumerate((NUMBERS if form == "numbers" else WORDS)["fetch"], 1)
        if sentence.split(", until")[0] in str(each)
    ]
    assert f"planned: fetch, step {step}, by test" in out
    assert f"grown in version 2: {note['segments']} segments of fetch, demonstrated, from" in out
    assert "used by fetch: success" in out


def test_what_cannot_be_grown_is_refused_and_nothing_changes(
    lago: Lago, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = built(lago, tmp_path, "numbers", NUMBERS)
    refused: list[tuple[tuple[str, ...], str]] = [
        (("--task", "fly"), "found task 'fly'; expected the id or the sentence of one of ['fetch'"),
        ((), "found no task to grow by; expected --task"),
        (("--task", "visit"), "which version 0 has a plan of already, and no episodes"),
        (("--task", "visit", "--data", str(tmp_path / "no.npz")), "found no data at"),
        (("--task", "visit", "--from-runs"), "found no successful episodes of finished training runs"),
        (("--use", "3"), "found no version 3"),
    ]
    for arguments, message in refused:
        code, _, err = lago("grow", "plane", *arguments)
        assert (code, message in err) == (2, True), err
    save_episodes(tmp_path / "bad.npz", at_random("visit", 6))
    code, _, err = lago("grow", "plane", "--task", "visit", "--data", str(tmp_path / "bad.npz"))
    assert code == 2
    assert "of which none does what its plan says" in err
    versions = Versions(space.artifact("grown"))
    assert [each.number for each in versions.all()] == [0]
    collected = collect.load(space.collected)["visit"]
    save_episodes(tmp_path / "more.npz", shown("visit", 4))

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise OSError(28, "No space left on device")

    before = bytes_of(space.artifact("grown"))
    monkeypatch.setattr("lago_skills.grow.making.material.save", broken)
    code, _, err = lago("grow", "plane", "--task", "visit", "--data", str(tmp_path / "more.npz"), "--refresh", "always")
    assert code == 2
    assert "disk" in err
    assert bytes_of(space.artifact("grown")) == before
    assert len(collect.load(space.collected)["visit"]) == len(collected)


def spoil(monkeypatch: pytest.MonkeyPatch, which: Callable[[Any], bool]) -> None:
    """Decoders learn from actions that say nothing, where what they go on from is so."""
    from lago_skills.decoder import pretrain

    real = pretrain.pretrain

    def trained(steps: Any, *args: Any, start: Any = None, **kwargs: Any) -> Any:
        rng = np.random.default_rng(0)
        if which(start):
            steps = replace(steps, variant_actions=rng.permutation(steps.variant_actions))
        return real(steps, *args, start=start, **kwargs)

    monkeypatch.setattr(pretrain, "pretrain", trained)


def test_where_going_on_does_not_learn_the_task_the_decoder_is_trained_anew(
    lago: Lago, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = built(lago, tmp_path, "numbers", NUMBERS)
    answered(lago, tmp_path, "fetch", NUMBERS)
    save_episodes(tmp_path / "fetch.npz", shown("fetch", 4))
    spoil(monkeypatch, lambda start: start is not None)
    code, _, err = lago("grow", "plane", "--task", "fetch", "--data", str(tmp_path / "fetch.npz"))
    assert code == 0, err
    assert "of onward and anew: anew" in err
    version = Versions(space.artifact("grown")).get(1)
    onward, anew = version.growth["tried"]
    assert (onward["decoder"], anew["decoder"], anew["verdict"]) == ("onward", "anew", "accepted")
    assert onward["success"] < anew["success"]
    assert version.growth["decoder"] == "anew"


def test_a_version_that_makes_an_old_task_worse_is_held_until_somebody_says_so(
    lago: Lago, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = built(lago, tmp_path, "numbers", NUMBERS)
    answered(lago, tmp_path, "fetch", NUMBERS)
    save_episodes(tmp_path / "fetch.npz", shown("fetch", 4))

    spoil(monkeypatch, lambda start: True)
    arguments = (
        "--task",
        "fetch",
        "--data",
        str(tmp_path / "fetch.npz"),
        "--refresh-how",
        "anew",
        "--episodes-again",
        "20",
    )
    code, out, err = lago("grow", "plane", *arguments)
    assert code == 3, err
    assert "held: visit falls from" in out
    versions = Versions(space.artifact("grown"))
    assert versions.current is not None
    assert (versions.current.number, versions.get(1).verdict) == (0, "held")
    spots = {spot["task"]: spot["episodes"] for spot in versions.get(1).growth["spots"]}
    assert spots["visit"] == 20  # it seemed to fall, and was played again
    assert lago("grow", "plane", "--use", "1")[0] == 0
    assert versions.current.number == 1
    (versions.get(0).folder / "decoder.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactCorrupt, match="has hash"):
        versions.use(0)
    assert versions.current.number == 1


def test_a_task_is_guided_learned_harvested_and_grown_by_in_one_command(lago: Lago, tmp_path: Path) -> None:
    path = begin(tmp_path, "dial", "DialWorld", "numbers", seen="raise", unseen="set", algorithms="guided-sac")
    code, _, err = lago("plan", "dial", "--scenes")
    assert code == 0, err
    answer(lago, tmp_path, "dial", DIAL)
    for stage in BUILT:
        code, _, err = lago(stage, "dial")
        assert code == 0, (stage, err)
    space = open_workspace(tmp_path, path)
    tasks = ("--task", "raise", "--task", "set")
    code, out, err = lago("grow", "dial", *tasks, "--learn", "400", "--episodes", "5", "--json")
    assert code == 0, err
    versions = Versions(space.artifact("grown"))
    summary = json.loads(out)["summary"]
    assert summary["versions"] == [each.number for each in versions.all()][1:]
    (source,) = versions.get(1).growth["sources"]
    assert (source["name"], source["learned"]) == ("guided-sac, 400 steps with version 0", "online")
    assert source["accepted"] > 0
    assert source["accepted"] + source["refused"] == source["episodes"]
    with SkillLibrary.open(versions.get(1).folder / "library", "frozen") as library:
        notes = [note for skill in library.list() for note in skill.provenance.get("grown", [])]
    assert {(note["version"], note["task"], *note["learned"]) for note in notes} == {(1, "raise", "online")}
    code, _, err = lago("grow", "dial", "--task", "raise", "--learn", "1")
    assert code == 2
    assert "found no success in 1 steps of guided learning" in err


def test_a_library_is_tidied_and_nothing_is_lost(lago: Lago, tmp_path: Path) -> None:
    space = built(lago, tmp_path, "numbers", NUMBERS)
    code, out, err = lago("grow", "plane", "--tidy", "--dry-run")
    assert code == 0, err
    assert out == "nothing to tidy\n"
    code, _, err = lago("grow", "plane", "--tidy")
    assert code == 2
    assert "found nothing to tidy in version 0" in err
    library = space.artifact("grown", "current").resolve() / "library"
    with SkillLibrary.open(library, "frozen") as before:
        (known,) = before.list()
    add_beside(space, known)
    code, out, err = lago("grow", "plane", "--tidy", "--dry-run", "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [(row["what"], row["into"]) for row in rows] == [("merge", known.id), ("retire", None)]
    assert [each.number for each in Versions(space.artifact("grown")).all()] == [0, 1]
    code, out, err = lago("grow", "plane", "--tidy")
    assert code == 0, err
    assert "version 2: 1 skills, 2 skills less" in out
    versions = Versions(space.artifact("grown"))
    with SkillLibrary.open(versions.get(2).folder / "library", "frozen") as after:
        skills = after.list()
    assert [(skill.enabled, skill.merged_into) for skill in skills] == [(True, None), (True, known.id), (False, None)]
    assert "- 2 skills" in lago("grow", "plane", "--list")[1]
    assert lago("skills", "rollback", "plane", "1")[0] == 0


def add_beside(space: Workspace, known: Skill) -> None:
    """A version more, whose library also has the same skill in nearly the same words, and one of which no plan speaks."""
    versions = Versions(space.artifact("grown"))
    version, study = versions.get(0), space.study
    shown = material.load(version.folder, study)
    old = load_bundle(version.folder, grounding=study.grounding)
    with old.library, tempfile.TemporaryDirectory() as scratch:
        copy(old.library, Path(scratch) / "library")
        with SkillLibrary.open(Path(scratch) / "library", mode="write") as library:
            embedding = library.get(known.id).embedding
            library.add(f"{known.sentence}.", known.latent, embedding=embedding, who="grow")
            library.add("do nothing of the kind", -known.latent, who="grow")
            guide = guide_of(space, old.decoder, library, shown)
            growth = {"number": 1, "before": 0, "task": "visit", "success": 1.0, "verdict": "accepted", "skills": 3}
            write_version(
                space, versions.next_folder(), guide, shown, material.load_probes(version.folder), growth, version
            )
    versions.use(1)
