"""Altered Meta-World: what moves moves as said, who knows the benchmark fails, who looks at the scene succeeds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from lago_skills.commands.cli import main
from lago_skills.errors import StudyError
from lago_skills.stages import collect, plan
from lago_skills.stages.workspace import open_workspace
from lago_skills.study import load_study, study_path
from lago_skills.worlds.metaworld.tasks import GROUPS as METAWORLD_GROUPS
from lago_skills.worlds.metaworld.tasks import METAWORLD_TASKS
from lago_skills.worlds.metaworld.world import MetaWorld
from lago_skills.worlds.metaworld_altered.env import AlteredEnv
from lago_skills.worlds.metaworld_altered.mechanics import MECHANICS
from lago_skills.worlds.metaworld_altered.tasks import ALTERED_TASKS, ORIGINALS
from lago_skills.worlds.metaworld_altered.world import SCRIPT, STRAIGHT, AlteredMetaWorld
from lago_skills.worlds.rollouts import record
from lago_skills.worlds.world import find_world
from tests.conftest import ROOT
from tests.tables import never

STUDIES = ("metaworld-altered", "metaworld-altered-numbers")
SEEDS = (6_100_000, 6_100_001, 6_100_002)
WAYS = {
    "drawer-open-away": (0, 1, 0), "door-open-right-hinge": (1, -1, 0), "button-press-sideways": (-1, 0, 0), "handle-pull-out": (0, -1, 0),
    "plate-slide-back-far": (0, 1, 0), "door-unlock-clockwise": (-1, 0, 1), "faucet-close-far-lever": (1, -1, 0), "dial-turn-reversed": (1, 1, 0),
    "window-open-leftwards": (-1, 0, 0), "coffee-button-behind": (0, -1, 0),
}  # fmt: skip
"""Signs of where each object has to go: x to the right, y away from the robot, z up."""


@pytest.fixture(scope="module")
def world() -> AlteredMetaWorld:
    return AlteredMetaWorld()


@pytest.mark.parametrize("name", ALTERED_TASKS)
def test_what_is_shown_solves_the_task_and_moves_the_object_the_other_way(name: str, world: AlteredMetaWorld) -> None:
    env = world.make(name)
    assert isinstance(env, AlteredEnv)
    grounding = world.grounding
    bounds = np.array([(each.low, each.high) for each in grounding.vocabulary.features])
    for seed in SEEDS:
        run = record(env, world.demonstrator(name), name, seed, 0.0, world)
        assert run.success, seed
        assert run.rewards.sum() == 1.0
        first, last, goal = run.observations[0, 4:7], run.observations[-1, 4:7], run.observations[0, 36:39]
        np.testing.assert_array_equal(run.observations[:, 36:39], np.tile(goal, (len(run.observations), 1)))
        assert np.linalg.norm(last - goal) <= MECHANICS[name].near_m + 1e-6
        moved = np.where(np.abs(last - first) > 0.015, np.sign(last - first), 0)
        np.testing.assert_array_equal(moved, WAYS[name])
        assert abs(env.moved) > 0.015
        values = grounding.read(run.observations.astype(np.float64)).values
        assert (values >= bounds[:, 0] - 1e-9).all()
        assert (values <= bounds[:, 1] + 1e-9).all()
    env.close()


@pytest.mark.parametrize("name", ["drawer-open-away", "dial-turn-reversed", "window-open-leftwards"])
def test_who_knows_the_benchmark_fails(name: str, world: AlteredMetaWorld) -> None:
    env = world.make(name)
    script = world.rules(name)[SCRIPT]
    assert not any(record(env, script, name, seed, 0.0, world).success for seed in SEEDS)
    env.close()
    original = ORIGINALS[name]
    env = world.make(original)
    assert record(env, world.rules(original)[SCRIPT], original, SEEDS[0], 0.0, world).success
    env.close()


def test_a_joint_does_not_give_way_in_its_old_sense(world: AlteredMetaWorld) -> None:
    for name in ("dial-turn-reversed", "door-unlock-clockwise"):
        env = world.make(name)
        assert isinstance(env, AlteredEnv)
        record(env, world.rules(name)[SCRIPT], name, SEEDS[0], 0.0, world)
        assert abs(env.moved) < 0.05
        env.close()


def test_starts_depend_on_the_seed_alone(world: AlteredMetaWorld) -> None:
    one, two = world.make("plate-slide-back-far"), world.make("plate-slide-back-far")
    two.reset(seed=5)
    for _ in range(30):
        two.step(np.array([0.0, -0.3, -1.0, 1.0], np.float32))
    np.testing.assert_allclose(one.reset(seed=9)[0], two.reset(seed=9)[0], atol=1e-9)
    assert np.abs(one.reset(seed=10)[0] - two.reset(seed=9)[0])[4] > 1e-3
    one.close()
    two.close()


def test_other_tasks_are_meta_worlds_own(world: AlteredMetaWorld) -> None:
    known = set(METAWORLD_TASKS) - set(METAWORLD_GROUPS["twenty"])
    assert set(world.tasks) == known | set(ALTERED_TASKS)
    assert set(ORIGINALS.values()) <= known
    assert len(world.groups["altered"]) == len(set(ORIGINALS.values()))
    theirs, ours = MetaWorld().make("push"), world.make("push", reward="dense")
    np.testing.assert_array_equal(theirs.reset(seed=4)[0], ours.reset(seed=4)[0])
    theirs.close()
    ours.close()


def test_tasks_of_the_exam_are_refused(world: AlteredMetaWorld, tmp_path: Path) -> None:
    for name in ("twenty", "lever-pull"):
        with pytest.raises(
            StudyError, match=f"found task '{name}', which is one of the twenty .* use world 'metaworld'"
        ):
            world.find([name])
    assert MetaWorld().find(["lever-pull"])  # as the message says
    with pytest.raises(StudyError, match="found task 'drawer-open-sideways'; expected one of"):
        world.make("drawer-open-sideways")
    text = study_path(STUDIES[0], ROOT).read_text(encoding="utf-8").replace('"altered", ', '"altered", "twenty", ')
    path = tmp_path / f"{STUDIES[0]}.toml"
    path.write_text(
        text.replace('use = "metaworld-altered"', f'use = "{AlteredMetaWorld.__module__}:AlteredMetaWorld"')
    )
    with pytest.raises(StudyError, match="one of the twenty"):
        load_study(path)


def test_only_the_altered_goal_pays(world: AlteredMetaWorld) -> None:
    with pytest.raises(StudyError, match=r"found reward 'dense' of task 'drawer-open-away'; expected sparse"):
        world.make("drawer-open-away", reward="dense")
    world.make("drawer-open-away", reward="sparse").close()


def test_what_has_to_be_installed_is_said(world: AlteredMetaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "metaworld"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(StudyError, match=r"found no metaworld here .* pip install 'lago-skills\[metaworld\]'"):
        world.make("drawer-open-away")


def test_a_bundle_makes_the_world_again(world: AlteredMetaWorld) -> None:
    spec = {"use": f"{AlteredMetaWorld.__module__}:AlteredMetaWorld"}
    assert find_world(**spec).spec() == world.spec() == {"use": "metaworld-altered"}
    assert world.provenance("drawer-open-away").requirements == world.provenance("push").requirements


@pytest.mark.parametrize("name", STUDIES)
def test_the_library_is_that_of_the_demonstrated_ten(name: str) -> None:
    """Nothing about altered tasks is demonstrated, and every request but theirs is on record as Meta-World's studies have it."""
    space = open_workspace(ROOT, study_path(name, ROOT))
    known, study = plan.plans(space), space.study
    assert {task.id for task in study.seen} == set(METAWORLD_GROUPS["ten"])
    assert {task.id for task in (*study.seen, *study.unseen)} >= {*ALTERED_TASKS, *ORIGINALS.values()}
    other = open_workspace(ROOT, study_path("frontier-numbers" if "numbers" in name else "frontier", ROOT))
    assert [job.recipe for job in collect.jobs(space)] == [job.recipe for job in collect.jobs(other)]
    for section in ("seed", "collect", "segment", "weighting", "decoder", "guide"):
        assert getattr(study, section) == getattr(other.study, section)
    usual = plan.plans(other)
    for task in {*METAWORLD_GROUPS["ten"], *ORIGINALS.values()}:
        ours, theirs = known[task].chosen, usual[task].chosen
        assert ours is not None
        assert theirs is not None
        assert ours.playbook == theirs.playbook, task


def test_the_table_has_who_knows_the_benchmark_beside_who_looks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`lago table zero-shot`, with the rules of the world as rows, on a task and on that which it was made from."""
    path = tmp_path / "altered.toml"
    use = f"{AlteredMetaWorld.__module__}:AlteredMetaWorld"
    tasks = '[tasks]\nseen = ["reach"]\nunseen = ["dial-turn-reversed", "dial-turn"]\n'
    path.write_text(f'name = "altered"\n[world]\nuse = "{use}"\n{tasks}', encoding="utf-8")
    chosen = ["--methods", f"scripted,{SCRIPT}", "--tasks", "unseen", "--seeds", "1", "--episodes", "2", "--json"]
    assert main(["--root", str(tmp_path), "table", "zero-shot", str(path), *chosen], never) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {(row["method"], row["task"]): row["success_last"] for row in rows} == {
        ("scripted", "dial-turn-reversed"): 1.0,
        ("scripted", "dial-turn"): 1.0,
        (SCRIPT, "dial-turn-reversed"): 0.0,
        (SCRIPT, "dial-turn"): 1.0,
    }
    assert {row["demos"] for row in rows} == {0}
    assert main(["--root", str(tmp_path), "table", "zero-shot", str(path), "--methods", "aim"], never) == 2
    assert f"scripted, {SCRIPT}, {STRAIGHT}" in capsys.readouterr().err
