"""A task's graph in ONNX Runtime: the same as NumPy's path, faster on batches. The only door to `onnxruntime`."""

# onnxruntime has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

from typing import Any, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.onnx_export import model_of
from lago_skills.prior import ActionPrior

OUTPUTS = ["weights", "means", "stds", "step", "unfamiliarity"]


class GraphRuntime:
    """One thread. Safe to use from several threads.

    Raises:
        StudyError: the task cannot be written as a graph.
    """

    def __init__(self, guide: LibraryGuide, task: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        written = model_of(guide, task).SerializeToString()
        self._session: Any = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
        self._floor = guide.config.floor

    def decode(self, rows: NDArray[np.float64]) -> tuple[ActionPrior, NDArray[np.int64], NDArray[np.float64]]:
        """(B, S) -> the prior, active steps (B,), how unfamiliar states are (B,)."""
        weights, means, stds, steps, strange = cast(
            "list[NDArray[Any]]", self._session.run(OUTPUTS, {"observation": rows.astype(np.float32)})
        )
        return ActionPrior(weights, means, stds, self._floor), steps, strange.astype(np.float64)
