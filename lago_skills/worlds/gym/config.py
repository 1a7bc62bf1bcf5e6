"""What a study file may say about a Gymnasium environment: `[world] use = "gym"`, and `[environment]` as older studies have it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lago_skills.errors import StudyError
from lago_skills.worlds.grounding import Nouns
from lago_skills.worlds.gym.spaces import parse_part
from lago_skills.worlds.success import success_rule

Reference = int | str
"""An entry of the observation by number, or entries of a part of it: `goal`, `goal[0]`, `goal[0:2]`."""
ActionRange = tuple[float | list[float], float | list[float]]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


class FeatureConfig(_Section):
    """One named number: an entry of the observation, or a difference or distance of two."""

    index: int | None = Field(default=None, ge=0)
    """Which entry of the observation, or of the part `key`."""
    key: str | None = None
    """A part of the observation, by name."""
    difference: tuple[Reference, Reference] | None = None
    """The first minus the second, of one number each."""
    distance: tuple[Reference, Reference] | None = None
    """Between two numbers, parts or anchors of the same size."""
    unit: str
    """Of the number, as prompts and pages say it: `m`, `rad/s`; `1` where it has none."""
    range: tuple[float, float]
    """Smallest and largest value."""
    sentence: str = Field(min_length=3)
    """What it means."""

    @model_validator(mode="after")
    def _one_way(self) -> FeatureConfig:
        ways = [self.index is not None or self.key is not None, self.difference is not None, self.distance is not None]
        if sum(ways) != 1:
            raise ValueError("one of index (with key, of a part), difference and distance")
        return self


class NounsConfig(_Section):
    """What acts, as prompts call it; see `lago_skills.worlds.grounding.Nouns`."""

    agent: str = Field(default="agent", min_length=1)
    """Who acts: `cart`, `robot`."""
    effector: str = ""
    """The acting point, which anchors are seen from: `gripper`; by default the agent."""
    grasp: str = ""
    """What it takes hold with: `fingers`; empty where it holds nothing."""
    grasp_states: str = ""
    """What that may do: `open, closing, closed`."""
    grasp_commands: str = ""
    """What of an action moves it: `finger commands`."""
    remark: str = ""
    """A sentence about its size."""
    accuracy: str = ""
    """How exactly it comes to a target: `to about 1 cm`."""

    def nouns(self) -> Nouns:
        """As groundings have them."""
        return Nouns(**{**self.model_dump(), "effector": self.effector or self.agent})


class GymConfig(_Section):
    """`[world] use = "gym"`: an environment that Gymnasium makes, what of it plans speak about, and what success is."""

    use: Literal["gym"] = "gym"
    """Says that this table describes the environment itself."""
    id: str | None = None
    """A Gymnasium id such as `CartPole-v1`, or the import path of a class or function, `my_lab.arm:ArmEnv`; tasks may have their own `env_id`."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments that it is made with."""
    reset_options: dict[str, Any] = Field(default_factory=dict)
    """Options of every `reset`, for environments that want some; tasks may have further ones of their own."""
    imports: list[str] = Field(default_factory=list, alias="import")
    """Modules that register it, imported first."""
    wrappers: list[str] = Field(default_factory=list)
    """Import paths of wrappers around it, the innermost first, such as `minigrid.wrappers:FullyObsWrapper`."""
    observation: list[str] = Field(default_factory=list)
    """Of a dictionary, the entries that make the observation, in order: `goal`, `state/pose`, `hand = observation[0:3]`."""
    about: str = ""
    """What the language model is told about the agent, its units and its actions."""
    nouns: NounsConfig = Field(default_factory=lambda: NounsConfig())
    """How prompts call what acts."""
    features: dict[str, FeatureConfig] = Field(default_factory=dict[str, FeatureConfig])
    anchors: dict[str, Reference | list[Reference]] = Field(default_factory=dict[str, Reference | list[Reference]])
    """Points of two or three entries that steps may head for, the acting point first; `goal` is where a task wants things."""
    anchor_unit: str = "m"
    """Of the entries that make the points, and of the offsets in plans."""
    anchor_range: float = Field(default=1.0, gt=0)
    """How far anchors are usually apart, in that unit: what headings are divided by. Offsets in plans are at most ten times as large."""
    grounding: str | None = None
    """Instead of names, the import path of a class with the methods of `lago_skills.worlds.grounding.Grounding`; with a method `flatten(raw)`
    it computes the (S,) observation from what the environment returns."""
    demonstrator: str | None = None
    """Import path of a policy that shows tasks: what the environment returns as observation -> an action of the environment."""
    horizon_steps: int = Field(default=200, ge=1)
    """Episodes are cut after so many steps, unless a task or the environment says fewer."""
    success: str | None = None
    """When a task is solved: `info.NAME`, `terminated`, `truncated`, `reward >= X`, `return >= X` or `MODULE:FUNCTION`, each with ` at any step` or
    ` at the last step` after it."""
    reward: Literal["own", "sparse"] = "own"
    """`own`: the environment's. `sparse`: 1 at the first success, which ends the episode, and 0 else."""
    action_range: ActionRange | None = None
    """Smallest and largest action, where the action space has no finite bounds, or wider ones than make sense."""
    flatten_actions: bool = False
    """Whether several discrete actions are numbered as one, and a dictionary of boxes is joined."""
    control_hz: float | None = Field(default=None, gt=0)
    """Control steps a second, for whoever drives a controller by what is learned here."""
    instances: int | None = Field(default=None, ge=1)
    """How many environments may be open at once; with 1, training and evaluation take turns."""
    observation_size: int = Field(default=0, ge=0)
    """Numbers in an observation; needed where the environment is not installed, and compared with it where it is."""
    action_size: int = Field(default=0, ge=0)
    """Numbers in a continuous action, likewise."""
    n_actions: int = Field(default=0, ge=0)
    """How many discrete actions there are, likewise."""
    section: Literal["world", "environment"] = Field(default="world", exclude=True)
    """Where the study file says it, for messages."""

    @field_validator("imports", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("success")
    @classmethod
    def _rule(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                success_rule(value)
            except StudyError as error:
                raise ValueError(f"a rule of success ({error})") from error
        return value

    @field_validator("observation")
    @classmethod
    def _parts(cls, value: list[str]) -> list[str]:
        for text in value:
            try:
                parse_part(text)
            except StudyError as error:
                raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> GymConfig:
        if self.action_size and self.n_actions:
            raise ValueError(
                f"one of {self.section}.action_size, numbers in a continuous action, and {self.section}.n_actions, how many discrete actions there are; "
                f"found {self.action_size} and {self.n_actions}"
            )
        return self


class EnvironmentConfig(_Section):
    """`[environment]`, as studies had it before `[world] use = "gym"`."""

    grounding: str | None = None
    """As in `[world]`."""
    world: str = ""
    """What `about` is in `[world]`."""
    observation_size: int = Field(default=0, ge=0)
    """As in `[world]`."""
    action_size: int = Field(default=0, ge=0)
    """As in `[world]`."""
    n_actions: int = Field(default=0, ge=0)
    """As in `[world]`."""
    features: dict[str, FeatureConfig] = Field(default_factory=dict[str, FeatureConfig])
    observation: list[str] = Field(default_factory=list)
    """As in `[world]`."""
    success: str | None = None
    """As in `[world]`."""

    def as_gym(self) -> GymConfig:
        """The same, as `[world] use = "gym"` says it."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "world"}
        return GymConfig(about=self.world, section="environment", **fields)
