"""An environment of one's own, by the names of its numbers or by a class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lago_skills.core import ActionSpace, Feature, Playbook, Step, Task
from lago_skills.errors import StudyError
from lago_skills.planner.requests import playbook_request
from lago_skills.planner.scenes import Scene
from lago_skills.playbook import CompiledPlaybook
from lago_skills.worlds.gym.make import load_grounding
from lago_skills.worlds.own import NamedEntries

# Environments of one's own ---------------------------------------------------------------------------------------------


def entries(**changes: Any) -> NamedEntries:
    feature = Feature("angle", "rad", "angle of the pole", -0.4, 0.4)
    settings: dict[str, Any] = {
        "entries": {"angle": (2, feature)},
        "world": "w",
        "observation_size": 4,
        "action_space": ActionSpace(1),
    }
    return NamedEntries(**{**settings, **changes})


def test_named_entries_are_features_without_anchors() -> None:
    """Entries that nobody named are seen by the decoder all the same, on a logarithmic scale."""
    grounding = entries()
    rows = np.array([[0.0, 0.0, 0.2, 0.0], [0.0, 0.0, -0.4, 9.0]])
    np.testing.assert_allclose(grounding.read(rows).values, [[0.2], [-0.4]])
    np.testing.assert_allclose(
        grounding.read(rows).inputs(np.zeros((2, 0))), [[0.5, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, np.log(10.0)]], rtol=1e-6
    )
    assert grounding.read(rows).anchors.shape == (2, 0, 0)
    assert grounding.variation is None
    assert grounding.heading_size == 0
    prompt = playbook_request(
        Task("t", "keep it up", "CartPole-v1"), grounding, {"t": Scene("t", {"angle": (-0.4, 0.4)})}, []
    ).prompt
    for word in ("gripper", "robot", "target"):
        assert word not in prompt
    assert "angle | rad | -0.4..0.4 | angle of the pole" in prompt
    book = CompiledPlaybook(Playbook("t", (Step("hold", None),), "k", "m"), grounding.vocabulary)
    assert book.targets(np.zeros(2, np.int64), grounding.read(rows).anchors).shape == (2, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entries": {}}, "without features"),
        ({"observation_size": 2}, r"angle.index = 2; expected 0 to 1"),
        ({"entries": {"a": (0, Feature("a", "m", "s", 1.0, 1.0))}}, "smallest value first"),
        ({"entries": {n: (0, Feature(n, "m", "s", 0.0, 1.0)) for n in "ab"}}, "both with index 0"),
    ],
)
def test_inconsistent_names_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        entries(**changes)


def test_a_grounding_class_is_loaded_and_checked() -> None:
    assert load_grounding("lago_skills.worlds.metaworld.grounding:MetaWorldGrounding").observation_size == 39
    with pytest.raises(StudyError, match="cannot be imported"):
        load_grounding("no_such_module:Thing")
    with pytest.raises(StudyError, match="without observation_size"):
        load_grounding("collections:Counter")
