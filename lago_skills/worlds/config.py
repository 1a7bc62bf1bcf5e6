"""What a study file says about worlds and about tasks of one's own."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lago_skills.core import Task
from lago_skills.worlds import DEFAULT


class WorldConfig(BaseModel):
    """Which world the tasks are of: a registered one, or a class of one's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    use: str = DEFAULT
    """A registered name, or the import path of a class, such as `my_lab.arm:ArmWorld`."""
    settings: dict[str, bool | int | float | str] = Field(default_factory=dict[str, bool | int | float | str])
    """What it is made with: keyword arguments of its class. Its `spec()` must say them too, so that a bundle makes it again."""


class OwnTask(BaseModel):
    """A task of one's own environment."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """What the task is called in commands, files and tables."""
    sentence: str = Field(min_length=3, max_length=500)
    """What is to be achieved, as one would tell a person."""
    env_id: str | None = None
    """A Gymnasium id; without it, the world's."""
    horizon_steps: int | None = Field(default=None, ge=1)
    """Without it, the world's; 200 where that says none."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of this task's environment, beside the world's."""
    reset_options: dict[str, Any] = Field(default_factory=dict)
    """Options of this task's resets, beside the world's."""
    observation: list[str] = Field(default_factory=list)
    """The parts of this task's observation, where they lie elsewhere than the world says: of the same names and sizes."""
    demonstrator: str | None = None
    """Import path of the policy that shows this task, where it is another than the world's."""

    @field_validator("sentence")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not value.isprintable() or not value.strip():
            raise ValueError("one line of text, in any language")
        return value

    def task(self, env_id: str | None = None, horizon_steps: int = 200) -> Task:
        """What everybody else knows of it; an id and a horizon of the world's are taken where it has none of its own."""
        return Task(self.id, self.sentence, self.env_id or env_id or "", self.horizon_steps or horizon_steps)
