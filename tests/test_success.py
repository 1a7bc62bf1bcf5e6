"""Rules of success: one sentence that judges recorded data and running episodes alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lago_skills.data.config import SourceConfig
from lago_skills.data.read_source import read
from lago_skills.data.sources import episodes_of
from lago_skills.errors import DataError, StudyError
from lago_skills.worlds.success import EpisodeSoFar, success_rule


def late(so_far: EpisodeSoFar) -> bool:
    """A rule of one's own."""
    return len(so_far.rewards) >= 3


def fails(so_far: EpisodeSoFar) -> bool:
    raise ZeroDivisionError


def steps(text: str, *, terminated: bool = False, truncated: bool = True) -> list[int]:
    """Numbers of the steps at which an episode of five is solved: rewards 0, 2, -3, 1, 1."""
    infos = {"success": np.array([0, 1, 0, 0, 0]), "goal/near": np.array([0, 0, 1, 0, 1])}
    rewards = np.array([0.0, 2.0, -3.0, 1.0, 1.0])
    return np.flatnonzero(success_rule(text).steps(rewards, infos, terminated=terminated, truncated=truncated)).tolist()


@pytest.mark.parametrize(
    ("text", "solved"),
    [
        ("info.success", [1]),
        ("info.success at any step", [1]),
        ("info.success at the last step", []),
        ("info.goal.near", [2, 4]),
        ("info.goal.near at the last step", [4]),
        ("reward >= 1", [1, 3, 4]),
        ("reward > 1", [1]),
        ("reward >= 1 at the last step", [4]),
        ("return >= 1", [4]),
        ("return >= 2", []),
        ("return >= 2 at any step", [1]),
        ("return >= -1e-3", [4]),
        ("terminated", []),
        ("truncated", [4]),
        ("tests.test_success:late", [2, 3, 4]),
        ("tests.test_success:late at the last step", [4]),
    ],
)
def test_a_rule_says_at_which_steps_a_task_is_solved(text: str, solved: list[int]) -> None:
    assert steps(text) == solved


def test_a_fall_is_no_survival() -> None:
    assert steps("truncated", terminated=True, truncated=True) == []
    assert steps("terminated", terminated=True, truncated=False) == [4]


def test_a_recording_that_was_cut_off_was_neither_truncated_nor_terminated() -> None:
    assert [steps(text, truncated=False) for text in ("truncated", "terminated")] == [[], []]
    assert [steps(text, truncated=False) for text in ("reward >= 1 at the last step", "return >= 1")] == [[4], [4]]


@pytest.mark.parametrize(
    "text", ["", "info.", "success", "reward => 1", "return", "terminated at noon", "reward >= many"]
)
def test_what_is_no_rule_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(StudyError, match=r"'info\.NAME'"):
        success_rule(text)


def test_functions_that_cannot_be_used_are_named() -> None:
    with pytest.raises(StudyError, match="cannot be imported"):
        success_rule("no_such_module:rule")
    with pytest.raises(StudyError, match="no function"):
        success_rule("tests.test_success:__doc__")
    with pytest.raises(StudyError, match="ZeroDivisionError"):
        steps("tests.test_success:fails")


def test_an_entry_that_is_missing_or_no_flag_is_shown() -> None:
    so_far = EpisodeSoFar()
    so_far.add(0.0, {"is_success": 0.5, "x": 1}, terminated=False, truncated=False)
    with pytest.raises(StudyError, match="info with is_success, x"):
        success_rule("info.success").solved(so_far)
    with pytest.raises(StudyError, match=r"found 0\.5 as a record"):
        success_rule("info.is_success").solved(so_far)
    assert success_rule("info.x").solved(so_far)


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=8),
    st.sampled_from(["reward >= 1", "return >= 1", "return > 0 at any step", "terminated", "truncated"]),
    st.booleans(),
)
def test_an_episode_is_judged_alike_while_it_runs_and_when_it_is_read(
    rewards: list[float], text: str, ended: bool
) -> None:
    rule, so_far, live = success_rule(text), EpisodeSoFar(), list[bool]()
    for number, reward in enumerate(rewards):
        last = number == len(rewards) - 1
        so_far.add(reward, {}, terminated=last and ended, truncated=last and not ended)
        live.append(rule.solved(so_far))
    assert rule.steps(np.array(rewards), {}, terminated=ended, truncated=not ended).tolist() == live


def test_a_source_is_judged_by_the_rule_that_it_names(tmp_path: Path) -> None:
    arrays = {
        "observations": np.zeros((8, 2)),
        "actions": np.zeros((8, 1)),
        "rewards": np.array([0, 1, 0, 0, 0, 0, 0, 1.0]),
        "timeouts": np.array([0, 0, 0, 1, 0, 0, 0, 1]),
        "terminals": np.zeros(8),
        "infos/goal/near": np.array([0, 0, 1, 0, 0, 0, 0, 0]),
    }
    np.savez(tmp_path / "x.npz", **arrays)  # pyright: ignore[reportArgumentType]  (an array may not be called allow_pickle)

    def judged(rule: str) -> list[tuple[bool, int | None]]:
        source = SourceConfig(path=str(tmp_path / "x.npz"), task="go", success=rule)
        return [(e.success, e.success_step) for e in episodes_of(read(source, tmp_path), source, "go", None)]

    assert judged("reward >= 1") == [(True, 1), (True, 2)]  # of the last step's outcome nothing is known
    assert judged("info.goal.near") == [(True, 2), (False, None)]
    assert judged("truncated") == [(True, 2), (True, 2)]
    with pytest.raises(DataError, match=r"expected an entry 'success'"):
        judged("info.success")
    with pytest.raises(ValueError, match=r"'info\.NAME'"):
        judged("solved")
