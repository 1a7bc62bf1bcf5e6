"""What may be set about the decoder."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class DecoderConfig(BaseModel):
    """Pretraining of the decoder with d3rlpy's behaviour cloning by log-likelihood."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    n_updates: int = Field(default=6000, ge=1)
    """Gradient updates."""
    batch_size: int = Field(default=256, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    """Start of a cosine decay to 0."""
    weight_decay: float = Field(default=1e-5, ge=0)
    hidden_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(256, 256), min_length=1)
    latent_size: int = Field(default=16, ge=1)
    """Z: numbers in a skill's latent."""
    hindsight_share: float = Field(default=0.5, ge=0, le=1)
    """Share of training steps whose target is where the gripper really was at the end of the segment."""
    turned_share: float = Field(default=1.0, ge=0, le=1)
    """Share of training steps seen from a frame turned about the vertical by a random angle."""
    context_swap_share: float = Field(default=0.5, ge=0, le=1)
    """Share of training steps whose context (all inputs but the heading to the target) is another step's, so that
    the decoder relies on the target and the skill rather than on where things happen to stand."""
    input_noise_std: float = Field(default=0.02, ge=0)
    """Gaussian noise on the standardised inputs, against compounding errors."""
    held_out_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of each task's episodes kept for calibration: at least one where a task has two or more, never all."""
