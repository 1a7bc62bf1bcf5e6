"""What a study file may say about an environment of one's own."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from lago_skills.core import ActionSpace, Feature
from lago_skills.errors import StudyError
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.own import NamedEntries, load_grounding


class FeatureConfig(BaseModel):
    """One entry of the observation, named."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    index: int = Field(ge=0)
    """Which entry."""
    unit: str
    range: tuple[float, float]
    """Smallest and largest value."""
    sentence: str = Field(min_length=3)
    """What it means."""


class EnvironmentConfig(BaseModel):
    """One's own environment: a grounding class, or names for entries of the observation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    grounding: str | None = None
    """Import path of a class with the methods of `lago_skills.worlds.grounding.Grounding`, such as `my_lab.arm:ArmGrounding`."""
    world: str = ""
    """What the language model is told about the agent, its units and its actions."""
    observation_size: int = Field(default=0, ge=0)
    action_size: int = Field(default=0, ge=0)
    """Numbers in an action, for continuous actions."""
    n_actions: int = Field(default=0, ge=0)
    """How many actions there are, where an action is one of them."""
    features: dict[str, FeatureConfig] = Field(default_factory=dict[str, FeatureConfig])

    def load(self) -> Grounding:
        """The grounding.

        Raises:
            StudyError: it cannot be imported, or the names are not consistent.
        """
        if self.grounding is not None:
            return load_grounding(self.grounding)
        features = {
            name: (f.index, Feature(name, f.unit, f.sentence, f.range[0], f.range[1]))
            for name, f in self.features.items()
        }
        if self.action_size and self.n_actions:
            raise StudyError(
                f"found environment.action_size = {self.action_size} and environment.n_actions = {self.n_actions}; expected one of them: numbers "
                "in a continuous action, or how many discrete actions there are; remove the other"
            )
        space = ActionSpace(self.n_actions or self.action_size, discrete=self.n_actions > 0)
        return NamedEntries(features, self.world, self.observation_size, space)
