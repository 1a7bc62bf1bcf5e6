"""What the table of ablations changes, one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lago_skills.worlds.grounding import Grounding, State

DEFAULT = "default"


class RawGrounding:
    """A grounding in which the decoder sees the observation itself and the target: nothing is relative."""

    def __init__(self, grounding: Grounding) -> None:
        self._grounding = grounding

    def __getattr__(self, name: str) -> Any:
        """Everything else is as in the grounding itself."""
        return getattr(self._grounding, name)

    def read(self, observations: NDArray[Any]) -> RawState:
        """(B, S) observations -> what they say."""
        return RawState(self._grounding.read(observations), observations)


@dataclass(frozen=True)
class RawState:
    """A state of which the decoder sees everything as it is."""

    state: State
    observations: NDArray[Any]  # (B, S)

    @property
    def values(self) -> NDArray[np.float64]:
        """(B, F) features."""
        return self.state.values

    @property
    def anchors(self) -> NDArray[np.float64]:
        """(B, n_anchors, D) points."""
        return self.state.anchors

    def inputs(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """(B, D) targets -> (B, D + S)."""
        return np.concatenate([targets, self.observations], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Variant:
    """What differs from the study's default."""

    about: str
    """What the row is there to decide."""
    decoder: dict[str, Any] = field(default_factory=dict[str, Any])
    guide: dict[str, Any] = field(default_factory=dict[str, Any])
    raw: bool = False
    one_hot: bool = False
    """Each sentence is a number: a sentence that nobody demonstrated is like no other."""
    calibrated: bool = True
    act: Literal["mean", "mode", "sample"] = "mean"


PLAIN_TEXT: dict[str, Any] = {"phrase_share": 0.0, "contrast_every": 0, "text_dropout": 0.0}
VARIANTS: dict[str, Variant] = {
    DEFAULT: Variant("what all others differ from"),
    "not calibrated": Variant("calibration", calibrated=False),
    "sampled": Variant("calibration", act="sample"),
    "sampled uncalibrated": Variant("calibration", act="sample", calibrated=False),
    "mode": Variant("how the library alone acts", act="mode"),
    "k 1": Variant("neighbours", guide={"k": 1}),
    "k 8": Variant("neighbours", guide={"k": 8}),
    "temperature .1": Variant("neighbours", guide={"temperature": 0.1}),
    "temperature 1": Variant("neighbours", guide={"temperature": 1.0}),
    "weighted by support": Variant("neighbours", guide={"support_weight": 0.25}),
    "learned query": Variant("query", guide={"query": "learned"}),
    "blend of queries": Variant("query", guide={"query": "blend"}),
    "one component": Variant("mixture", {"n_components": 1}),
    "one-hot skills": Variant("text", PLAIN_TEXT, one_hot=True),
    "text without other words": Variant("text", PLAIN_TEXT),
    "raw observation": Variant("features", {"context_swap_share": 0.0}, raw=True),
    "no turns hindsight swaps": Variant(
        "features", {"varied_share": 0.0, "hindsight_share": 0.0, "context_swap_share": 0.0}
    ),
    "film": Variant("how the latent joins", {"join": "film"}),
    "stock-bc as it is": Variant("algorithm", {"algorithm": "stock-bc"}, calibrated=False),
    "stock-bc": Variant("algorithm", {"algorithm": "stock-bc"}),
    "iql": Variant("algorithm", {"algorithm": "iql"}),
    "td3+bc": Variant("algorithm", {"algorithm": "td3+bc"}),
    "awac": Variant("algorithm", {"algorithm": "awac"}),
    "plas": Variant("algorithm", {"algorithm": "plas"}),
}
