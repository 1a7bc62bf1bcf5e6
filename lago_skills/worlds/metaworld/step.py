"""Parts of Meta-World's step that take longer in its Python than the simulation does, with the same answers to the last bit.

Put in place on one environment object; the package itself and other environments of the process stay as they are.
`tests/test_metaworld_step.py` holds each beside the package's own.
"""

# Meta-World ships no types; its values are wrapped in typed arrays here and in `lago_skills.worlds.metaworld.env` and nowhere else.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import numpy as np
from numpy.typing import NDArray


def quicken(env: Any) -> None:
    """Put all of them in place on one environment of the package."""
    env.touching_object = _touching_object(env)
    env._get_curr_obs_combined_no_goal = _frame(env)
    plain = type(env)._get_quat_objects
    if "Rotation" in plain.__globals__:  # the same method, where `Rotation` is ours
        quick = FunctionType(plain.__code__, {**plain.__globals__, "Rotation": RotationMatrix})
        env._get_quat_objects = MethodType(quick, env)


def _touching_object(env: Any) -> Callable[[int], bool]:
    """Whether both finger pads press on a geometry. The package loops over all contacts twice."""
    pads = [env.model.geom(name).id for name in ("leftpad_geom", "rightpad_geom")]

    def touching_object(object_geom_id: int) -> bool:
        contacts = env.data.contact
        geoms = contacts.geom  # (n, 2)
        of_object = (geoms == object_geom_id).any(axis=1)
        if not of_object.any():
            return False
        addresses, forces = contacts.efc_address, env.data.efc_force
        return all(forces[addresses[of_object & (geoms == pad).any(axis=1)]].sum() > 0 for pad in pads)

    return touching_object


def _frame(env: Any) -> Callable[[], NDArray[np.float64]]:
    """One frame of the observation (18,): hand, opening, then position and quaternion of each object. The package splits and stacks arrays of three."""
    hand, right, left = (env.model.body(name).id for name in ("hand", "rightclaw", "leftclaw"))

    def frame() -> NDArray[np.float64]:
        places = env.data.xpos
        things, turns = env._get_pos_objects(), env._get_quat_objects()
        numbers = np.zeros(4 + env._obs_obj_max_len)
        numbers[:3] = places[hand]
        apart = places[right] - places[left]
        numbers[3] = min(max(math.sqrt(apart.dot(apart)) / 0.1, 0.0), 1.0)
        for number in range(len(things) // 3):
            start = 4 + 7 * number
            numbers[start : start + 3] = things[3 * number : 3 * number + 3]
            numbers[start + 3 : start + 7] = turns[4 * number : 4 * number + 4]
        return numbers

    return frame


class RotationMatrix:
    """What the package uses of `scipy.spatial.transform.Rotation`: one matrix to one quaternion, scalar last.

    SciPy goes through its layer for any array library, and checks first that the matrix is orthogonal; the simulator's are.
    Source: Markley (2008), "Unit Quaternion from Rotation Matrix", as SciPy writes it.
    """

    def __init__(self, matrix: NDArray[np.float64]) -> None:
        self._matrix = matrix

    @staticmethod
    def from_matrix(matrix: NDArray[np.float64]) -> RotationMatrix:
        """(3, 3), orthogonal."""
        return RotationMatrix(matrix)

    def as_quat(self) -> NDArray[np.float64]:
        """(4,): x, y, z, w."""
        m = self._matrix.tolist()
        trace = m[0][0] + m[1][1] + m[2][2]
        decision = [m[0][0], m[1][1], m[2][2], trace]
        i = decision.index(max(decision))
        if i == 3:
            squares = [m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1], 1.0 + trace]
        else:
            j, k = (i + 1) % 3, (i + 2) % 3
            squares = [0.0, 0.0, 0.0, m[k][j] - m[j][k]]
            squares[i], squares[j], squares[k] = 1.0 - trace + 2.0 * m[i][i], m[j][i] + m[i][j], m[k][i] + m[i][k]
        a, b, c, d = squares
        length = math.sqrt(a * a + b * b + c * c + d * d)
        return np.array([a / length, b / length, c / length, d / length])
