"""What may be set about the decoder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from lago_skills.core import ActionSpace
from lago_skills.errors import StudyError

Algorithm = Literal["bc", "stock-bc", "iql", "td3+bc", "awac", "plas", "discrete-bc", "discrete-cql"]
Join = Literal["concat", "film"]


class DecoderConfig(BaseModel):
    """Pretraining of the decoder with d3rlpy."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    algorithm: Algorithm = "bc"
    """`bc` is behaviour cloning by log-likelihood: of a mixture, or of discrete actions (then the same as `discrete-bc`); `stock-bc` is d3rlpy's own stochastic BC, whose spread is no
    spread (it is here to be compared with). `iql`, `td3+bc`, `awac` and `plas` learn from the skills' rewards too;
    the discrete ones are for environments with discrete actions."""
    n_components: int = Field(default=3, ge=1, le=16)
    """M: Gaussian components of `bc` for each pair of a state and a skill, so that "from the left or from the right" stays two ways."""
    join: Join = "concat"
    """How the latent meets the state: beside it in the first layer, or as scale and shift of every layer (FiLM)."""
    heading_skip: bool = False
    """Of `bc`: whether the heading also leads straight, linearly, to the means, so that every axis follows its own error. For plans in words."""
    n_updates: int = Field(default=6000, ge=1)
    """Gradient updates."""
    batch_size: int = Field(default=256, ge=2)
    """Steps of demonstrations in a gradient update."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Start of a cosine decay to 0."""
    weight_decay: float = Field(default=1e-5, ge=0)
    """Of Adam, as an L2 penalty."""
    hidden_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(256, 256), min_length=1)
    """Units of each hidden layer of the network that answers a state and a latent with actions."""
    latent_size: int = Field(default=16, ge=1)
    """Z: numbers in a skill's latent."""
    text_sizes: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Hidden layers of the text head g; none is a linear map."""
    text_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the sentence embedding's numbers that are dropped in training, so that g relies on no single one."""
    phrase_share: float = Field(default=0.5, ge=0, le=1)
    """Share of training steps whose skill is called by other words, where there are some."""
    contrast_every: int = Field(default=2, ge=0)
    """Every so many updates g also learns which sentences ask for the same thing, where there are some; 0 is never."""
    hindsight_share: float = Field(default=0.5, ge=0, le=1)
    """Share of training steps whose target is where the effector really was at the end of the segment."""
    varied_share: float = Field(default=1.0, ge=0, le=1, validation_alias=AliasChoices("varied_share", "turned_share"))
    """Share of training steps that are seen otherwise, where the world's grounding knows how (of an arm: turned about the vertical)."""
    context_swap_share: float = Field(default=0.5, ge=0, le=1)
    """Share of training steps whose context (all inputs but the heading to the target) is another step's, so that
    the decoder relies on the target and the skill rather than on where things happen to stand. Only `bc`, `stock-bc` and
    `discrete-bc`: the others need the step after."""
    input_noise_std: float = Field(default=0.02, ge=0)
    """Gaussian noise on the standardised inputs, against compounding errors."""
    held_out_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of each task's episodes kept for calibration: at least one where a task has two or more, never all."""
    calibrate: bool = True
    """Whether the spread is fitted to held-out segments, and widened where states are new."""

    def of_actions(self, space: ActionSpace) -> DecoderConfig:
        """The settings for a declared action space: cloning by likelihood is there for either kind.

        Raises:
            StudyError: an algorithm for discrete actions on continuous ones, or the other way round.
        """
        if space.discrete and self.algorithm == "bc":
            return self.model_copy(update={"algorithm": "discrete-bc"})
        if space.discrete != self.algorithm.startswith("discrete"):
            others = "bc, discrete-bc or discrete-cql" if space.discrete else "bc, stock-bc, iql, td3+bc, awac or plas"
            raise StudyError(
                f"found decoder.algorithm = {self.algorithm!r} and {space}; expected {others}; correct decoder.algorithm"
            )
        return self

    @property
    def uses_phrases(self) -> bool:
        """Whether sentences in other words are needed."""
        return self.phrase_share > 0 or self.contrast_every > 0
