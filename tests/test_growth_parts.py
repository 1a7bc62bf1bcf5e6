"""Parts of growth by themselves: the metrics of a stream, which plan leads, which successes are taken, spot checks and their rounds."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lago_skills.core import Episode, Playbook, Task
from lago_skills.experiments.growth_metrics import matrix_of, metrics
from lago_skills.grow import comparing, material
from lago_skills.grow.comparing import Spots
from lago_skills.grow.judging import to_play
from lago_skills.grow.settings import Settings
from lago_skills.grow.sources import Source, bounded, counted, only_new, quickest
from lago_skills.stages.segment import Labelled
from tests.small_worlds import PlaneWorld

MATRIX = [  # tasks a (from the start), b, c; stages 0, 1 (b added), 2 (c added)
    (1.0, 0.2, 0.4),
    (0.9, 0.8, 0.5),
    (0.9, 0.6, 1.0),
]


def rows_of(matrix: list[tuple[float, ...]]) -> list[dict[str, Any]]:
    kinds = {0: "built"}
    return [
        {"stage": stage, "task": "abc"[n], "kind": kinds.get(n, "future"), "success": value}
        for stage, line in enumerate(matrix)
        for n, value in enumerate(line)
    ]


def test_metrics_are_those_of_the_papers() -> None:
    found = metrics(matrix_of(rows_of(MATRIX)))
    assert found["stages"] == 2
    assert found["fwt"] == pytest.approx((0.8 + 1.0) / 2)
    assert found["bwt"] == pytest.approx(0.6 - 0.8)
    assert found["auc"] == pytest.approx(((0.8 + 0.6) / 2 + 1.0) / 2)
    assert found["last"] == pytest.approx((0.9 + 0.6 + 1.0) / 3, abs=1e-4)
    assert found["least"] == 0.6
    assert found["fall"] == pytest.approx((0.1 + (0.0 + 0.2) / 2) / 2)
    assert found["fall_low"] <= found["fall"] <= found["fall_high"]
    assert found["next"] == pytest.approx((0.2 + 0.5) / 2)  # b before any growth, c after b
    assert found["next_before"] == pytest.approx((0.2 + 0.4) / 2)
    assert found["carried"] == pytest.approx(0.05)
    assert (found["carried_low"], found["carried_high"]) == pytest.approx((0.0, 0.1))


def test_a_stream_that_is_not_finished_is_summed_up_as_far_as_it_goes() -> None:
    found = metrics(matrix_of(rows_of(MATRIX[:2])))
    assert (found["stages"], found["fwt"], found["bwt"], found["auc"]) == (1, 0.8, None, 0.8)
    only = metrics(matrix_of(rows_of(MATRIX[:1])))
    assert (only["stages"], only["fwt"], only["fall_low"], only["last"]) == (0, None, None, 1.0)
    gap = [row for row in rows_of(MATRIX) if row["stage"] != 1]
    assert matrix_of(gap).stages == (0,)


def test_the_quickest_successes_are_taken_in_their_order() -> None:
    def lasting(steps: int) -> Episode:
        return Episode(
            "t",
            steps,
            np.zeros((steps + 1, 2), np.float32),
            np.zeros((steps, 1), np.float32),
            np.zeros(steps, np.float32),
            True,
        )

    every = [lasting(n) for n in (9, 3, 7, 3, 5)]
    assert [len(each.actions) for each in quickest(every, 3)] == [3, 3, 5]
    assert quickest(every[:2], 3) == every[:2]


def test_an_enormous_batch_of_near_duplicates_is_bounded_and_counted() -> None:
    rng = np.random.default_rng(0)
    states, actions = rng.normal(size=(6, 2)).round(2), rng.normal(size=(5, 1)).clip(-1, 1).round(2)

    def beside(number: int) -> Episode:
        noise = 0.001 * rng.standard_normal(states.shape)
        return Episode(
            "t", number, (states + noise).astype(np.float32), actions.astype(np.float32), np.zeros(5, np.float32), True
        )

    def other(number: int) -> Episode:
        return replace(beside(number), observations=rng.normal(size=(6, 2)).astype(np.float32))

    (source,) = only_new([Source("file", [beside(n) for n in range(1000)])], [])
    assert len(source.episodes) < 100  # alike but for numbers that lie between two roundings
    assert source.repeated == 1000 - len(source.episodes)
    tiny = [replace(each, observations=1e-6 * each.observations) for each in (other(n) for n in range(20))]
    assert only_new([Source("of small units", tiny)], [])[0].repeated == 0
    one, two = bounded([Source("a", [other(n) for n in range(300)]), Source("b", [other(n) for n in range(100)])], 200)
    assert (len(one.episodes), one.surplus, len(two.episodes), two.surplus) == (150, 150, 50, 50)
    assert bounded([one], 200) == [one]
    assert [row["surplus"] for row in counted([one, two], set())] == [150, 50]


def test_the_plan_that_leads_changes_places_with_the_one_before(playbooks: dict[str, Playbook]) -> None:
    own, other = playbooks["push"], replace(playbooks["push"], pace=1.5)
    shown = Labelled(PlaneWorld().grounding, {}, {"push": own, "push/2": other}, [], {}, None)
    assert material.led_by(shown, own) is shown
    assert material.led_by(shown, other).books == {"push": other, "push/2": own}
    third = replace(own, pace=1.25)
    assert material.led_by(shown, third).books == {"push": third, "push/2": other, "push/1": own}


def test_old_tasks_that_fail_now_and_then_are_played_first() -> None:
    amounts, before = {"a": 0.9, "b": 0.5, "c": 0.1, "d": 0.05}, {"a": "11", "c": "10"}
    assert to_play(amounts, before, Settings(spot_tasks=2)) == ["c", "a"]
    assert to_play(amounts, before, Settings(spot_tasks=2, old_tasks=frozenset("bd"))) == ["b", "d"]


def test_a_spot_check_goes_on_only_where_a_task_seems_to_fall_and_plays_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    played: list[tuple[str, str, int]] = []

    class Guide:
        def __init__(self, name: str, fails: set[str]) -> None:
            self.name, self.fails = name, fails

        def prior(self, states: Any, task: str) -> Any:
            raise AssertionError("nothing is really played")

    def rollouts(world: Any, task: Task, policy: Any, seeds: list[int], report: Any) -> list[Any]:
        guide = next(cell.cell_contents for cell in policy.__closure__ if isinstance(cell.cell_contents, Guide))
        played.append((guide.name, task.id, len(seeds)))
        return [SimpleNamespace(success=task.id not in guide.fails) for _ in seeds]

    monkeypatch.setattr(comparing, "rollouts", rollouts)
    world = PlaneWorld()
    fetch, visit = world.find(["fetch", "visit"])
    before: Any = Guide("before", set())
    after: Any = Guide("after", {"visit"})
    spots = Spots(world, before, after, {"fetch": "1" * 10, "visit": "1" * 15}, lambda text: None)
    rows = spots.check([fetch, visit], 0.05, Settings(episodes=10, episodes_again=100).spot_rounds)
    assert [(row.task, row.before, row.after, row.episodes) for row in rows] == [
        ("fetch", 1.0, 1.0, 10),
        ("visit", 1.0, 0.0, 100),
    ]
    assert played == [
        ("after", "fetch", 10),
        ("after", "visit", 10),
        ("before", "visit", 5),
        ("after", "visit", 10),
        ("before", "visit", 80),
        ("after", "visit", 80),
    ]
