"""What may be set about the learned query."""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field


class QueryConfig(BaseModel):
    """Training of the query network; used where `guide.query` is `learned` or `blend`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    hidden_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(128, 128), min_length=1)
    """Units of each hidden layer."""
    task_size: int = Field(default=16, ge=1)
    """C: numbers that are left of the task's sentence."""
    n_updates: int = Field(default=2000, ge=1)
    """Gradient updates."""
    batch_size: int = Field(default=256, ge=2)
    """States in a gradient update."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Start of a cosine decay to 0."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Of AdamW."""
    temperature: float = Field(default=0.05, gt=0)
    """Of the softmax over the skills' cosines in the loss: the lower, the nearer the query must come to its skill."""
    input_noise_std: float = Field(default=0.05, ge=0)
    """Gaussian noise on the standardised state, against states that no demonstration has passed through."""
    varied_share: float = Field(default=1.0, ge=0, le=1, validation_alias=AliasChoices("varied_share", "turned_share"))
    """Share of training steps that are seen otherwise, where the world's grounding knows how (of an arm: turned about the vertical)."""
    phrase_share: float = Field(default=0.7, ge=0, le=1)
    """Share of training steps whose task is asked for in other words, where some are recorded."""
    text_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the sentence embedding's numbers that are dropped in training."""
