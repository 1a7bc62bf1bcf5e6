"""The zero-shot table: cells that are measured once, its baselines, both readings of success, and the command."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lago_skills.commands import evaluate as evaluate_command
from lago_skills.commands.cli import main, parser
from lago_skills.core import Condition, Episode, Playbook, Segment, Step, Target
from lago_skills.errors import ArtifactCorrupt, LagoError, StudyError
from lago_skills.experiments import cells
from lago_skills.experiments.baselines import cloning
from lago_skills.experiments.baselines.cloning_policies import ClonedTask, Demonstrated, Forgetful, Replay, Uniform
from lago_skills.experiments.cells import Cell, ResultFile, Row
from lago_skills.experiments.intervals import stratified_mean
from lago_skills.experiments.tables import zero_shot as zero_shot_table
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.worlds.metaworld.env import MetaWorldEnv, scripted
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import MetaWorld
from lago_skills.worlds.rollouts import full_rollouts, rollouts
from lago_skills.worlds.seeds import EVAL_SEED
from tests.conftest import ROOT, random_decoder

STUDY = """
name = "small"
[tasks]
seen = ["reach", "push"]
unseen = ["reach-wall"]
[collect]
episodes_per_task = 2
[decoder]
n_updates = 30
hidden_sizes = [16]
[zero_shot]
episodes = 2
"""


def row(cell: Cell, success: float = 0.5, **changes: Any) -> Row:
    made = Row(
        "zero-shot", cell.study, cell.task, "seen", cell.method, cell.demos, cell.seed,
        success, 0.25, 20, 71.5, 4000, 3.2, "abc1234+", "f00d",
    )  # fmt: skip
    return replace(made, **changes)


def never(space: Workspace, stages: list[str]) -> None:
    raise AssertionError("no stage should run")


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return study_in(tmp_path)


def study_in(folder: Path, text: str = STUDY) -> Workspace:
    for name in ("transcripts", "scenes", "lint"):
        shutil.copytree(ROOT / "data" / name, folder / "data" / name)
    (folder / "data/studies").mkdir()
    (folder / "data/studies/small.toml").write_text(text)
    return open_workspace(folder, folder / "data/studies/small.toml")


# -- cells -------------------------------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_and_a_measured_cell_stays(tmp_path: Path) -> None:
    file = ResultFile(tmp_path / "results/zero-shot.csv", Row)
    assert file.rows() == []
    one, two = Cell("small", "library", "push", 5, 0), Cell("small", "random", "push", 0, 0)
    file.add(row(one))
    file.add(row(two, bundle=""))
    file.add(row(one, 0.9))  # measured by two processes: the first counts
    assert file.rows() == [row(one), row(two, bundle="")]
    assert file.find(two) == row(two, bundle="")
    assert file.find(replace(two, seed=1)) is None
    assert file.path.read_text().startswith("table,study,task,level,method,demos,seed,success,success_last,episodes")


def test_an_interruption_while_a_row_is_written_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, cell = ResultFile(tmp_path / "zero-shot.csv", Row), Cell("small", "library", "push", 5, 0)
    file.add(row(cell))
    before = file.path.read_bytes()

    def cut(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", cut)
        with pytest.raises(KeyboardInterrupt):
            file.add(row(replace(cell, seed=1)))
    assert file.path.read_bytes() == before
    file.add(row(replace(cell, seed=1)))
    assert len(file.rows()) == 2


@pytest.mark.parametrize(
    "text", ["task,seed\npush,0\n", ",".join(field.name for field in fields(Row)) + "\n" + "x," * 14 + "x\n"]
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "zero-shot.csv"
    path.write_text(text)
    with pytest.raises(ArtifactCorrupt, match="restore the file"):
        ResultFile(path, Row).rows()


def test_only_what_is_missing_is_measured() -> None:
    wanted = [Cell("small", "library", "push", 5, seed) for seed in (0, 1)]
    other = row(replace(wanted[0], study="other"), episodes=7)
    assert cells.missing([other], wanted, None, 50) == [(wanted[0], 50), (wanted[1], 50)]
    assert cells.missing([other, row(wanted[0])], wanted, None, 50) == [(wanted[1], 20)]  # as many as the others have
    assert cells.missing([row(wanted[0])], wanted, 20, 50) == [(wanted[1], 20)]
    assert cells.missing([row(cell) for cell in wanted], wanted, None, 50) == []
    with pytest.raises(StudyError, match="library/push/5/0: found it measured with 20 episodes; expected 10"):
        cells.missing([row(wanted[0])], wanted, 10, 50)


def test_cells_come_by_method_then_seed_and_noise_needs_no_demonstrations(space: Workspace) -> None:
    found = zero_shot_table.cells(space, ["library", "random"], [0, 1], [5, 1], ["reach", "push"])
    assert [cell.name for cell in found[:5]] == [
        "library/reach/5/0", "library/push/5/0", "library/reach/5/1", "library/push/5/1", "random/reach/0/0"
    ]  # fmt: skip
    assert len(found) == 4 + 4 + 4  # random once for both numbers of demonstrations


# -- summaries ---------------------------------------------------------------------------------------------------------


def test_stratified_intervals_are_about_seeds_and_not_about_tasks() -> None:
    easy, hard = np.array([0.9, 0.9, 0.9]), np.array([0.1, 0.1])
    assert stratified_mean([easy, hard]) == (pytest.approx(0.5), (pytest.approx(0.5), pytest.approx(0.5)))
    assert stratified_mean([np.array([0.0, 1.0])] * 2) == (0.5, (0.0, 1.0))  # each end has 1 in 16 of the resamples
    mean, interval = stratified_mean([np.array([0.0, 1.0])] * 100)
    assert mean == 0.5
    assert interval is not None
    # The mean of 200 coins: 1.96 * sqrt(.25 / 200) = .069 to either side.
    assert interval == (pytest.approx(0.431, abs=0.012), pytest.approx(0.569, abs=0.012))
    assert stratified_mean([np.array([0.2]), np.array([0.4])]) == (pytest.approx(0.3), None)


def test_summaries_are_means_over_tasks_whatever_seeds_they_have() -> None:
    def at(task: str, seed: int, success: float, level: str = "seen", method: str = "library") -> Row:
        return row(Cell("small", method, task, 5, seed), success, level=level)

    few = [at("push", 0, 0.6), at("push", 1, 0.8), at("reach", 0, 0.1), at("door-lock", 0, 1.0, "unseen")]
    assert cells.summary(few)[0]["low"] is None  # a task of one seed says nothing of other seeds
    rows = [*few, at("reach", 1, 0.1)]
    found = cells.summary([at("push", 0, 0.0, method="bc-text"), *rows])
    assert [(e["method"], e["level"]) for e in found] == [
        ("library", "seen"),
        ("bc-text", "seen"),
        ("library", "unseen"),
    ]
    seen = found[0]
    assert seen["success"] == pytest.approx((0.7 + 0.1) / 2)
    assert seen["low"] == pytest.approx((0.6 + 0.1) / 2)
    assert seen["high"] == pytest.approx((0.8 + 0.1) / 2)
    assert (seen["tasks"], seen["seeds"], seen["episodes"], seen["success_last"]) == (2, 2, 80, 0.25)
    assert cells.mixed(rows) == []
    assert cells.mixed([*rows, replace(rows[0], task="door-open", bundle="beef")]) == ["library, 5, seed 0"]
    assert found[2]["low"] is None
    assert found[2]["high"] is None


# -- success, twice ----------------------------------------------------------------------------------------------------


def test_one_pass_to_the_horizon_gives_first_success_and_the_last_flag() -> None:
    task = replace(find_task("reach"), horizon_steps=90)
    expert, seeds = scripted(task), [EVAL_SEED, EVAL_SEED + 1, EVAL_SEED + 2]
    taken: list[int] = []
    counts: dict[int, int] = {}

    def towards(observations: NDArray[np.float64]) -> NDArray[np.float32]:
        return np.stack([expert(row) for row in observations]).astype(np.float32)

    def away_in_the_end(observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[np.float32]:
        actions = towards(observations)
        for number, episode in enumerate(episodes.tolist()):
            counts[episode] = counts.get(episode, 0) + 1
            if episode != 1 and counts[episode] > 70:
                actions[number] = (0.0, 0.0, 1.0, 0.0)
        return actions

    ended = rollouts(MetaWorld(), task, towards, seeds, lambda n: None)
    stayed = full_rollouts(MetaWorld(), task, Forgetful(towards), seeds, taken.append, n_envs=2)
    left = full_rollouts(MetaWorld(), task, away_in_the_end, seeds, lambda n: None, n_envs=2)
    assert [r.success for r in ended] == [True] * 3
    assert [(r.seed, r.success, r.steps) for r in stayed] == [(r.seed, r.success, r.steps) for r in ended]
    assert [(r.seed, r.success, r.steps) for r in left] == [(r.seed, r.success, r.steps) for r in ended]
    assert max(r.steps for r in ended) < 70
    assert [r.success_last for r in stayed] == [True] * 3
    assert [r.success_last for r in left] == [False, True, False]
    assert [r.success_last for r in ended] == [None] * 3  # what would have come later is not known
    assert sum(taken) == 3 * task.horizon_steps
    assert counts == {0: 90, 1: 90, 2: 90}
    kept = [MetaWorldEnv(task) for _ in range(5)]  # more than there are episodes
    for _ in range(2):  # whatever was played in them before
        assert rollouts(MetaWorld(), task, towards, seeds, lambda n: None, envs=kept) == ended
    still = full_rollouts(
        MetaWorld(), task, Forgetful(lambda o: np.zeros((len(o), 4), np.float32)), seeds[:1], lambda n: None
    )
    assert (still[0].success, still[0].steps, still[0].success_last) == (False, 90, False)


# -- baselines ---------------------------------------------------------------------------------------------------------


def observation(gripper: tuple[float, float, float], thing: tuple[float, float, float]) -> NDArray[np.float64]:
    made = np.zeros(39)
    for start in (0, 18):
        made[start : start + 3] = np.array(gripper) + np.array([0.0, 0.0, 0.045])
        made[start + 4 : start + 7] = thing
    made[36:39] = (0.0, 0.9, 0.2)
    return made


FAR, NEAR = "go to the object", "lift the object"


def books(skills: tuple[str, str] = (FAR, NEAR)) -> dict[str, Playbook]:
    """The second step is active within 5 cm of the object."""
    steps = (
        Step(skills[0], Target("object", (0.0, 0.0, 0.0)), (Condition("gripper_to_object", ">", 0.05),)),
        Step(skills[1], Target("goal", (0.0, 0.0, 0.0))),
    )
    return {name: Playbook(name, steps, "", "") for name in ("push", "other")}


def demonstrated(playbooks: dict[str, Playbook] | None = None) -> Demonstrated:
    """Two episodes that come from the left and from the right, three steps each, then two steps upwards."""
    runs: list[Episode] = []
    for side in (-1.0, 1.0):
        start = observation((0.3 * side, 0.6, 0.1), (0.0, 0.6, 0.1))
        there = observation((0.01 * side, 0.6, 0.1), (0.0, 0.6, 0.1))
        actions = np.array([[-side, 0.1 * i, 0.0, 0.0] for i in range(3)] + [[0.0, 0.0, side, 0.9]] * 2, np.float32)
        observations = np.stack([start] * 3 + [there] * 3).astype(np.float32)
        runs.append(Episode("push", 0, observations, actions, np.zeros(5, np.float32), True))
    found = [
        Segment("push", episode, *span, step, skill)
        for episode in (0, 1)
        for step, (span, skill) in enumerate((((0, 3), FAR), ((3, 5), NEAR)))
    ]
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
    sentences: list[str] = [FAR, NEAR, "raise it"]
    embeddings = dict(zip(sentences, vectors, strict=True))
    return Demonstrated(MetaWorldGrounding(), {"push": runs}, found, playbooks or books(), embeddings)


def test_replay_takes_the_segment_that_starts_nearest_and_plays_it_until_the_step_changes() -> None:
    policy = Replay(demonstrated(), "push")
    left, right = observation((-0.25, 0.62, 0.1), (0, 0.6, 0.1)), observation((0.2, 0.6, 0.1), (0, 0.6, 0.1))
    both, numbers = np.stack([left, right]), np.array([7, 3])
    first = policy(both, numbers)
    assert first[:, 0].tolist() == [1.0, -1.0]
    assert (policy.segment(7), policy.segment(3)) == (policy.demonstrated.segments[0], policy.demonstrated.segments[2])
    assert policy(both, numbers)[:, 1] == pytest.approx([0.1, 0.1])
    assert policy(both[::-1], numbers[::-1])[:, 1] == pytest.approx([0.2, 0.2])  # rows change places, episodes do not
    # They have run out: both look again, from where they are now.
    assert policy(np.stack([right, right]), numbers)[:, :2].tolist() == [[-1.0, 0.0], [-1.0, 0.0]]
    # The step changes in the middle of a segment.
    there = observation((0.012, 0.6, 0.1), (0.0, 0.6, 0.1))
    assert policy(np.stack([there, right]), numbers) == pytest.approx(np.array([[0, 0, 1, 0.9], [-1, 0.1, 0, 0]]))


def test_replay_uses_the_nearest_demonstrated_sentence_for_one_that_never_was() -> None:
    made = demonstrated(books((FAR, "raise it")))
    assert made.sentence("raise it") == NEAR
    assert made.sentence(FAR) == FAR
    there = observation((-0.012, 0.6, 0.1), (0.0, 0.6, 0.1))
    assert Replay(made, "other")(there[None], np.array([0]))[0].tolist() == pytest.approx([0, 0, -1, 0.9])


def test_uniform_actions_are_an_episodes_own() -> None:
    nothing = np.zeros((3, 39))
    one, two = Uniform(4, 0), Uniform(4, 0)
    together = np.stack([one(nothing, np.arange(3)) for _ in range(200)])  # (200, 3, 4)
    alone = np.stack([two(nothing[:1], np.array([2])) for _ in range(200)])
    assert (together[:, 2] == alone[:, 0]).all()
    assert np.abs(together).max() <= 1.0
    assert together.std() == pytest.approx(1 / np.sqrt(3), abs=0.02)
    assert not (Uniform(4, 1)(nothing, np.arange(3)) == together[0]).any()


def test_a_cloned_task_acts_by_its_text_towards_the_goal(grounding: MetaWorldGrounding) -> None:
    decoder = random_decoder()
    texts = np.random.default_rng(0).normal(size=(2, 384)).astype(np.float32)
    z = decoder.latents(texts)
    states = np.stack([observation((0.1, 0.6, 0.1), (0.0, 0.6, 0.1)), observation((0.0, 0.7, 0.2), (0.1, 0.6, 0.1))])
    one, two = (ClonedTask(grounding, decoder, latent, "goal") for latent in z)
    found = one(states, np.arange(2))
    targets = states[:, 36:39]
    wanted = decoder.decode(grounding.read(states).inputs(targets), np.broadcast_to(z[0], (2, 1, 8)))
    assert found == pytest.approx(np.einsum("bm,bma->ba", wanted.weights[:, 0], wanted.means[:, 0]), abs=1e-6)
    assert np.abs(found - two(states, np.arange(2))).max() > 1e-3


def test_tasks_are_cloned_as_one_step_towards_the_goal_with_all_demonstrations(space: Workspace) -> None:
    runs = demonstrated()
    episode = Episode(
        "push", 0, np.zeros((6, 39), np.float32), np.zeros((5, 4), np.float32), np.zeros(5, np.float32), True
    )
    made, found = cloning.one_step((find_task("push"),), {"push": [episode, episode]}, MetaWorldGrounding())
    assert made["push"].steps == (Step("push the puck to a goal", Target("goal", (0.0, 0.0, 0.0))),)
    assert [(s.episode, s.start, s.stop) for s in found] == [(0, 0, 5), (1, 0, 5)]
    assert len(runs.segments) == 4
    for kind in cloning.KINDS:
        config = cloning.config(space, kind)
        assert (config.n_updates, config.hidden_sizes) == (30, (16,))  # the decoder's
        assert (config.held_out_share, config.context_swap_share, config.hindsight_share) == (0.0, 0.0, 0.0)
    assert cloning.config(space, "bc-text").uses_phrases
    assert not cloning.config(space, "bc-onehot").uses_phrases


# -- measuring ---------------------------------------------------------------------------------------------------------


def test_an_interrupted_table_goes_on_where_it_stopped_and_a_row_can_be_checked(
    space: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real episodes, of the methods that need nothing made first."""
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            raise KeyboardInterrupt

    file = ResultFile(space.root / zero_shot_table.RESULTS, Row)
    chosen = zero_shot_table.cells(space, ["scripted", "random"], [3], [2], ["reach", "reach-wall"])
    with pytest.raises(KeyboardInterrupt):
        zero_shot_table.run(space, file, cells.missing(file.rows(), chosen, 1, 2), say)
    before = file.rows()
    assert [found.cell for found in before] == chosen[:2]  # what was measured before the interruption is there
    command = ["--root", str(space.root), "evaluate", str(space.study_file), "--table", "zero-shot", "--episodes", "1"]
    command += ["--methods", "scripted,random", "--seeds", "3", "--tasks", "reach,reach-wall"]
    assert main([*command, "--json"], never) == 0
    printed = json.loads(capsys.readouterr().out)
    assert file.rows()[:2] == before
    assert [(r["method"], r["task"], r["level"], r["demos"]) for r in printed["rows"]] == [
        ("scripted", "reach", "seen", 0), ("scripted", "reach-wall", "unseen", 0),
        ("random", "reach", "seen", 0), ("random", "reach-wall", "unseen", 0),
    ]  # fmt: skip
    assert [r["success"] for r in printed["rows"]] == [1.0, 1.0, 0.0, 0.0]
    assert {r["environment_steps"] for r in printed["rows"]} == {200}
    assert printed["rows"][0]["episode_steps"] < 200
    assert printed["rows"][0]["commit"] == zero_shot_table.commit()
    # Checking.
    assert main([*command, "--check"], never) == 0
    assert "the same" in capsys.readouterr().out
    text = file.path.read_text()
    file.path.write_text(text.replace("scripted,0,3,1.0", "scripted,0,3,0.0"))
    assert main([*command, "--check", "scripted/reach/0/3", "--json"], never) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["values"]["success"] == [0.0, 1.0]
    assert main([*command, "--check", "scripted/reach/0/3"], never) == 1
    assert "differs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json"], "found --json without --table"),
        (["--methods", "library"], "found --methods without --table"),
        (["--workers", "2"], "found --workers without --table"),
        (["--table", "zero-shot", "--methods", "magic"], "found method 'magic'; expected one of library, bc-text"),
        (["--table", "zero-shot", "--tasks", "hammer"], "found task 'hammer'; expected a seen or unseen task"),
        (["--table", "zero-shot", "--seeds", "100"], "found seed 100; expected a number from 0 to 99"),
        (["--table", "zero-shot", "--demos", "0"], "found number of demonstrations 0"),
        (["--table", "zero-shot", "--episodes", "0"], "found number of episodes 0"),
        (["--table", "zero-shot", "--workers", "0"], "found number of workers 0"),
        (["--table", "zero-shot", "--check"], "found no stored row of the chosen cells"),
        (["--table", "zero-shot", "--check", "library/x"], "found no stored row of cell 'library/x'"),
    ],
)
def test_mistakes_are_refused_with_a_sentence(
    space: Workspace, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(space.root), "evaluate", str(space.study_file), *arguments], never) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_without_a_table_the_command_is_the_stage(space: Workspace) -> None:
    stages: list[list[str]] = []
    assert not evaluate_command.wanted(parser().parse_args(["evaluate", "small"]))
    arguments = ["--root", str(space.root), "evaluate", str(space.study_file)]
    assert main(arguments, lambda space, names: stages.append(names)) == 0
    assert stages == [["evaluate"]]


def test_a_study_with_data_of_its_own_is_refused(tmp_path: Path) -> None:
    space = study_in(tmp_path, STUDY + '[[data]]\npath = "own.npz"\ntask = "push"\n')
    with pytest.raises(StudyError, match="expected Meta-World tasks with scripted demonstrations"):
        zero_shot_table.variant(space, 0, 5)


def test_the_commit_names_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(zero_shot_table.commit().rstrip("+")) >= 7
    monkeypatch.setattr("lago_skills.__file__", str(tmp_path / "__init__.py"))
    assert zero_shot_table.commit() == "unknown"


# -- the command, all of it --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_measures_every_method_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The recorded playbooks of unseen tasks know skills of all ten; three tasks are played.
    space = study_in(tmp_path, STUDY.replace('"reach", "push"', '"ten"').replace("per_task = 2", "per_task = 1"))
    command = ["--root", str(tmp_path), "evaluate", str(space.study_file), "--table", "zero-shot"]
    command += ["--tasks", "reach,push,reach-wall"]
    assert main([*command, "--seeds", "0,1", "--methods", "scripted,random", "--workers", "2"], never) == 0
    printed = capsys.readouterr().out
    assert "reach-wall" in printed
    assert "scripted" in printed
    assert len(ResultFile(tmp_path / zero_shot_table.RESULTS, Row).rows()) == 2 * 2 * 3
    assert main([*command, "--seeds", "0", "--json"], never) == 0
    found = json.loads(capsys.readouterr().out)
    assert {r["method"] for r in found["rows"]} == set(cells.METHODS)
    assert len(found["rows"]) == len(cells.METHODS) * 3
    assert all(0.0 <= r["success_last"] <= r["success"] <= 1.0 for r in found["rows"])
    assert all((r["bundle"] == "") == (r["method"] in ("random", "scripted")) for r in found["rows"])
    assert next(e["success"] for e in found["summary"] if e["method"] == "scripted") == 1.0
    results = tmp_path / zero_shot_table.RESULTS
    before = results.read_bytes()
    made = sorted(str(path) for path in (tmp_path / "checkpoints/small/table").glob("*/*/manifest.json"))
    assert any(path.endswith("s0-d1/bc-text/manifest.json") for path in made)
    assert main([*command, "--seeds", "0"], never) == 0
    assert results.read_bytes() == before
    capsys.readouterr()
    command += ["--seeds", "0"]
    for cell in ("library/reach-wall/1/0", "bc-text/push/1/0", "replay/reach/1/0"):
        assert main([*command, "--check", cell], never) == 0, capsys.readouterr().out
    _the_shuffled_library_asks_for_other_skills(space)
    reach, push = find_task("reach"), find_task("push")
    assert cloning.stand_in(find_task("reach-wall"), (push, reach)) == reach
    assert cloning.stand_in(push, (reach, push)) == push


def _the_shuffled_library_asks_for_other_skills(space: Workspace) -> None:
    said: list[str] = []
    made = zero_shot_table.Variant(zero_shot_table.variant(space, 0, 1), said.append)
    right, wrong = made.guide.step_latents, made.shuffled.step_latents
    assert said == []  # everything was made before
    known = {tuple(z) for latents in right.values() for z in latents.tolist()}
    for name, latents in right.items():
        assert (np.abs(latents - wrong[name]).max(axis=1) > 1e-4).all()
        assert {tuple(z) for z in wrong[name].tolist()} <= known


def _killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_an_error_that_says_so(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_shot_table, "_run_there", _killed)
    file = ResultFile(space.root / zero_shot_table.RESULTS, Row)
    chosen = [(Cell("small", "random", "reach", 0, 0), 1)]
    with pytest.raises(LagoError, match=r"was killed.*what is finished is kept"):
        zero_shot_table.run(space, file, chosen, lambda text: None, 2)
