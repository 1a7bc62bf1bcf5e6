"""What tables say of scores and of learning curves, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lago_skills.experiments.curves import improvements, reach, scores, sooner, steps_to, summary
from lago_skills.experiments.intervals import iqm, probability_of_improvement, stratified_iqm, stratified_mean
from tests.tables import curve_rows as rows_of

# Scores -----------------------------------------------------------------------------------------------------------------


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


def test_the_middle_half_by_hand() -> None:
    assert iqm(np.array([0.0, 1.0, 2.0, 9.0])) == 1.5
    assert iqm(np.array([5.0])) == 5.0
    # of six values 1.5 are cut at either end: half of the second, the third and fourth, half of the fifth
    assert iqm(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 50.0])) == pytest.approx((0.5 * 1 + 2 + 3 + 0.5 * 4) / 3)
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    assert iqm(values.reshape(20, 20)) == pytest.approx(np.sort(values)[100:300].mean())


def test_intervals_are_about_seeds_of_the_same_tasks() -> None:
    apart = [np.array([0.0, 0.0, 0.0]), np.array([1.0, 1.0, 1.0])]
    assert stratified_iqm(apart) == (0.5, (0.5, 0.5))
    assert stratified_iqm([np.array([0.3]), np.array([0.7])]) == (0.5, None)
    assert stratified_iqm([np.array([0.3, 0.3]), np.array([0.7])])[1] is None  # one task of one seed
    middle, interval = stratified_iqm([np.random.default_rng(i).uniform(size=5) for i in range(8)])
    assert interval is not None
    assert interval[0] < middle < interval[1]


def test_the_chance_of_a_better_run_by_hand() -> None:
    ours, theirs = [np.array([0.5, 1.0])], [np.array([0.5, 0.0])]
    assert probability_of_improvement(ours, theirs)[0] == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert probability_of_improvement([np.ones(3)] * 2, [np.zeros(3)] * 2) == (1.0, (1.0, 1.0))
    assert probability_of_improvement([np.ones(3)], [np.ones(3)])[0] == 0.5
    assert probability_of_improvement([np.ones(3)] * 2, [np.zeros(3), np.zeros(1)]) == (1.0, None)


ROWS = [
    row
    for seed in (0, 1)
    for task in ("reach", "push")
    for method, curve in (("library", {0: 0.6}), ("guided-sac", {5000: 0.5 + 0.5 * seed, 10000: 1.0}), ("sac", {5000: 0.0, 10000: 0.1}))
    for row in rows_of(method, task, seed, curve)
]  # fmt: skip


def test_what_tables_say_of_curves() -> None:
    entries = {(entry["method"], entry["steps"]): entry for entry in summary(ROWS, (5000, 10000))}
    assert set(entries) == {("library", 0), ("guided-sac", 5000), ("guided-sac", 10000), ("sac", 5000), ("sac", 10000)}
    assert entries["guided-sac", 5000]["iqm"] == 0.75
    assert entries["guided-sac", 5000]["low"] == entries["guided-sac", 5000]["mean_low"] == 0.5
    assert entries["guided-sac", 5000]["mean"] == 0.75
    assert (entries["guided-sac", 5000]["n_tasks"], entries["guided-sac", 5000]["n_seeds"]) == (2, 2)
    assert scores(ROWS, "library", 10000)["push"].tolist() == [0.6, 0.6]
    arrivals = steps_to(ROWS, 0.8)
    assert arrivals["guided-sac", "push", 0] == 10000
    assert arrivals["guided-sac", "push", 1] == 5000
    assert arrivals["sac", "push", 0] is None
    assert {entry["method"]: (entry["runs"], entry["reached"], entry["median_steps"]) for entry in reach(ROWS)} == {
        "library": (4, 0, None),
        "guided-sac": (4, 4, 7500.0),
        "sac": (4, 0, None),
    }
    chances = improvements(ROWS, "guided-sac", 10000)
    assert [(entry["over"], entry["probability"]) for entry in chances] == [("library", 1.0), ("sac", 1.0)]


def test_how_much_sooner_by_hand() -> None:
    rows = [
        *rows_of("guided-sac", "push", 0, {250: 0.9, 2500: 0.9, 5000: 1.0}),
        *rows_of("guided-sac", "push", 1, {2500: 0.1, 5000: 0.8}),
        *rows_of("guided-sac", "push", 2, {250: 0.1, 1000: 0.8, 5000: 0.8}),
        *rows_of("ppo", "push", 0, {2500: 0.5, 5000: 0.5, 7500: 0.9}),
        *rows_of("ppo", "push", 1, {2500: 0.5, 5000: 0.9}),
        *rows_of("sac", "push", 0, {2500: 0.9, 5000: 0.9}),
        *rows_of("sac", "push", 1, {2500: 0.5, 5000: 0.7}),
        *rows_of("sac", "push", 2, {2500: 0.5, 5000: 0.7}),
        *rows_of("ppo", "reach", 0, {2500: 1.0}),
        *rows_of("guided-sac", "reach", 0, {250: 0.0, 2500: 0.7}),
        *rows_of("sac", "reach", 0, {2500: 0.0}),
    ]
    entries = {(entry.pop("than"), entry.pop("task")): entry for entry in sooner(rows, "guided-sac", ["sac", "ppo"])}
    ours = {"our_runs": 3, "our_reached": 3, "our_steps": 1000.0}
    assert entries == {
        ("ppo", "push"): {"runs": 2, "reached": 2, "their_least": 3750, "their_steps": 6250, "times_fewer": 3.8} | ours,
        ("sac", "push"): {"runs": 3, "reached": 1, "their_least": 5000, "their_steps": None, "times_fewer": 5.0} | ours,
        ("ppo", "reach"): {
            "runs": 1,
            "reached": 1,
            "their_least": 0.0,
            "their_steps": 2500.0,
            "our_runs": 1,
            "our_reached": 0,
            "our_steps": None,
            "times_fewer": None,
        },
    }
