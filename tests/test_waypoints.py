"""The language model as direct controller: what it is asked, what is read of its answers, how they are followed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lago_skills.commands.cli import main
from lago_skills.errors import PlanError, StudyError, TranscriptMissing
from lago_skills.experiments.baselines import direct
from lago_skills.experiments.tables import latent as latent_table
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner.waypoints import MOST, PATIENCE, Waypoint, read_waypoints, waypoints_request
from lago_skills.stages.workspace import open_workspace
from lago_skills.worlds.metaworld.env import MetaWorldEnv
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import MetaWorld
from lago_skills.worlds.rollouts import full_rollouts
from lago_skills.worlds.seeds import EVAL_SEED
from tests.conftest import ROOT

GROUNDING = MetaWorldGrounding()
POINT = {"position": [0.1, 0.6, 0.2], "fingers": "open", "wait": 3}


def answer(*points: object) -> str:
    return json.dumps({"waypoints": points})


def test_a_request_tells_the_start_state_and_no_seed() -> None:
    env = MetaWorldEnv(find_task("push-wall"))
    observation, _ = env.reset(seed=EVAL_SEED)
    env.close()
    request = waypoints_request(find_task("push-wall"), GROUNDING, observation, EVAL_SEED)
    gripper, thing = GROUNDING.read(observation[None]).anchors[0, :2]
    assert f"gripper_x | m | {gripper[0]:.3f} |" in request.prompt
    assert f"object_y | m | {thing[1]:.3f} |" in request.prompt
    assert "object2" not in request.prompt
    assert str(EVAL_SEED) not in request.prompt
    assert "bypass a wall and push a puck to a goal" in request.prompt


def test_an_answer_is_read_whatever_is_around_it() -> None:
    text = "Here it is:\n```json\n" + answer(POINT, POINT | {"fingers": "closed", "wait": 900}) + "\n```"
    first, second = read_waypoints(text, "direct/push-wall/1")
    assert first == Waypoint((0.1, 0.6, 0.2), closed=False, wait=3)
    assert second.closed
    assert second.wait == PATIENCE


@pytest.mark.parametrize(
    "text",
    [
        "I cannot do that",
        answer(),
        answer(*[POINT] * (MOST + 1)),
        answer(POINT | {"position": [0.1, 0.2]}),
        answer(POINT | {"position": [0.1, 0.2, float("nan")]}),
        answer(POINT | {"fingers": "half"}),
        answer("up"),
        '{"waypoints": [{"position": [0.1, 0.6',
    ],
)
def test_what_is_no_motion_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(PlanError, match=r"direct/push-wall/1.*record it again"):
        read_waypoints(text, "direct/push-wall/1")


def test_a_motion_is_followed_point_by_point() -> None:
    """Reach in numbers: up, aside, then to the goal, on which the episode ends; a point out of reach is given up."""
    task, seeds = find_task("reach"), [EVAL_SEED, EVAL_SEED + 1]
    motions: list[tuple[Waypoint, ...]] = []
    for seed in seeds:
        env = MetaWorldEnv(task)
        observation, _ = env.reset(seed=seed)
        env.close()
        x, y, z = (float(value) for value in GROUNDING.read(observation[None]).anchors[0, -1])
        far, aside = Waypoint((3.0, 0.6, 0.2), True, 0), Waypoint((x, y - 0.1, z), False, 5)
        motions.append((far, aside, Waypoint((x, y, z), False, 0)))
    results = full_rollouts(
        MetaWorld(), task, direct.WaypointController(motions, GROUNDING, 10.0), seeds, lambda n: None
    )
    assert [result.success for result in results] == [True, True]
    assert min(result.steps for result in results) > PATIENCE + 5


def test_fingers_wait_where_they_are_asked_to() -> None:
    states = np.zeros((1, 39))
    states[0, :3] = (0.0, 0.6, 0.2)
    motion = (Waypoint((0.0, 0.6, 0.2), True, 2), Waypoint((0.0, 0.6, 0.2), False, 0))
    at = GROUNDING.read(states).anchors[0, 0]
    motion = tuple(Waypoint((float(at[0]), float(at[1]), float(at[2])), p.closed, p.wait) for p in motion)
    controller = direct.WaypointController([motion], GROUNDING, 10.0)
    fingers = [float(controller(states, np.zeros(1, np.int64))[0, 3]) for _ in range(4)]
    assert fingers == [1.0, 1.0, -1.0, -1.0]


def test_cells_of_motions_are_of_the_tasks_that_were_asked_about() -> None:
    chosen = latent_table.cells(["waypoints/controller-10"], [0], ["push", *direct.TASKS])
    assert [cell["task"] for cell in chosen] == list(direct.TASKS)
    for method in ("waypoints/library", "waypoints/controller-10+sac", "waypoints/controller-10/dropped"):
        with pytest.raises(StudyError, match="waypoints/ and a controller"):
            latent_table.cells([method], [0], ["push-wall"])


def test_what_is_not_recorded_is_named_with_its_remedy() -> None:
    space = open_workspace(ROOT, ROOT / "data/studies/metaworld.toml")
    with pytest.raises(TranscriptMissing, match=rf"direct/push-wall/{EVAL_SEED + 77}.*--direct"):
        direct.motions(space.study, TranscriptFile(space.transcripts), find_task("push-wall"), [EVAL_SEED + 77])


def test_start_states_are_exported_answered_and_followed(tmp_path: Path) -> None:
    for name in ("studies/metaworld.toml", "scenes/metaworld.json"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "data" / name, tmp_path / "data" / name)
    requests, responses = tmp_path / "requests.jsonl", tmp_path / "responses.jsonl"

    def lago(*arguments: str) -> None:
        code = main(
            ["--root", str(tmp_path), "plan", "metaworld", "--direct", *arguments], lambda space, names, runner: None
        )
        assert code == 0

    def asked() -> list[str]:
        lago("--export", str(requests))
        ids = [json.loads(line)["custom_id"] for line in requests.read_text().splitlines()]
        return [name for name in ids if name.startswith("direct/")]

    ours = asked()
    assert len(ours) == direct.STARTS * len(direct.TASKS)
    assert ours[0].startswith(f"direct/{direct.TASKS[0]}/{EVAL_SEED}#")
    body = {"choices": [{"message": {"content": answer(POINT)}}]}
    responses.write_text("".join(json.dumps({"custom_id": name, "response": {"body": body}}) + "\n" for name in ours))
    lago("--import", str(responses), "--model", "someone")
    assert asked() == []
    space = open_workspace(tmp_path, tmp_path / "data/studies/metaworld.toml")
    transcripts = TranscriptFile(space.transcripts)
    recorded = direct.motions(space.study, transcripts, find_task(direct.TASKS[1]), [EVAL_SEED])
    assert recorded == [(Waypoint((0.1, 0.6, 0.2), False, 3),)]
