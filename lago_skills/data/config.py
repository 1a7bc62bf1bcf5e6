"""What may be set about offline data: where it comes from, and what failures count."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lago_skills.errors import StudyError
from lago_skills.worlds.success import SuccessRule, success_rule

ActionRange = tuple[float, float] | tuple[list[float], list[float]]


class SourceConfig(BaseModel):
    """One `[[data]]` of a study: a file or Minari dataset whose episodes are the offline data of tasks."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    path: str | None = None
    """An NPZ, HDF5, Parquet or pickled file, or the folder of a dataset of Minari, LeRobot or imitation; from the project folder."""
    minari: str | None = None
    """Id of a Minari dataset that is installed on this machine; nothing is ever downloaded."""
    task: str | None = None
    """Task of all episodes. Without it, each episode brings its own under `task_key`; episodes of other tasks are left out."""
    task_key: str = "task_id"
    """Name of an episode's task: in the metadata of a Minari episode, or of an array in a file (one entry per episode)."""
    source_task: str | None = None
    """Beside `task`: only those episodes are meant that the source itself calls so, such as `"pick up the cube"`."""
    observations: list[str] = Field(default_factory=list)
    """For dictionary observations: the entries that make the observation, joined in this order."""
    action_range: ActionRange | None = None
    """Smallest and largest action, as two numbers or two lists; actions are rescaled from it to [-1, 1]. Without it, the
    bounds of a Minari dataset's action space, and else actions must lie in [-1, 1]."""
    success: str | float = "recorded"
    """How an episode shows that it succeeded: a recorded flag (`recorded`), a positive last reward (`rewarded`), all do (`all`), its
    return is at least this number; or a rule of `lago_skills.worlds.success`: `info.NAME`, `terminated`, `truncated`, `reward >= X`,
    `return >= X`, `MODULE:FUNCTION`, each with ` at any step` or ` at the last step` after it."""
    keep: Literal["all", "success"] = "all"
    """Whether failed episodes are used too; `[weighting]` says how much they count."""
    max_episodes: int | None = Field(default=None, ge=1)
    """Use only the first so many episodes of each task that are kept."""
    rewards: Literal["sparse", "recorded"] = "sparse"
    """1 at the last step of a success and 0 else, as online training sees it; or what the source recorded."""
    beside_scripted: bool = False
    """Whether the scripted demonstrations of `[collect]` are collected for these tasks too."""

    @model_validator(mode="after")
    def _one_place(self) -> SourceConfig:
        if (self.path is None) == (self.minari is None):
            raise ValueError("one of path and minari")
        if self.source_task is not None and self.task is None:
            raise ValueError("task beside source_task: the study's name of it")
        return self

    @field_validator("success")
    @classmethod
    def _known(cls, value: str | float) -> str | float:
        if isinstance(value, str) and value not in ("recorded", "rewarded", "all"):
            try:
                success_rule(value)
            except StudyError as error:
                raise ValueError(
                    f"'recorded', 'rewarded', 'all', the smallest return of a success, or a rule ({error})"
                ) from error
        return value

    @property
    def rule(self) -> SuccessRule | None:
        """The rule of success, where it is one that environments are judged by too."""
        if isinstance(self.success, str):
            return None if self.success in ("recorded", "rewarded", "all") else success_rule(self.success)
        return success_rule(f"return >= {self.success!r}")

    @property
    def info(self) -> tuple[str, ...]:
        """The entry of the steps' infos that the rule looks at, by the name that files have it under."""
        rule = self.rule
        return (rule.name.replace(".", "/"),) if rule is not None and rule.kind == "info" else ()

    @property
    def name(self) -> str:
        """What the source is called in messages."""
        return str(self.path if self.path is not None else self.minari)


class WeightingConfig(BaseModel):
    """How much an episode counts when the decoder imitates it; without failures among a task's data, all count alike."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    temperature: float = Field(default=0.1, ge=0)
    """Weight exp((s - 1) / temperature) for an episode of score s between 0 and 1: 0 leaves out what is not best, a large
    number lets all count alike. The default all but leaves out failures where something succeeds, and grades episodes by
    return where nothing does. Measured with five failed episodes (action noise 1) beside good ones on push, pick-place and
    door-open, success of the library alone, mean of three seeds, 20 episodes each: with five good ones .93 when all count
    alike, .99 at temperature 0.5, 1.00 without failures; with two good ones .76, .87 and .90."""


class SegmentConfig(BaseModel):
    """How episodes are cut into segments by plans in words, and where no playbook does it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    change_points: list[str] = Field(default_factory=list)
    """Seen tasks and groups of tasks whose data is cut by change points; the planner names the motions. They need no
    playbook and get none; all other seen tasks are labelled by their playbooks."""
    penalty: float = Field(default=3.0, gt=0)
    """Price of one more cut, in units of the Bayesian information criterion's."""
    min_steps: int = Field(default=5, ge=1)
    """No segment is shorter, but for episodes that are."""
    max_motions: int = Field(default=8, ge=1, le=26)
    """At most so many kinds of motion are told apart in one task."""
    starts: int = Field(default=4, ge=1, le=256)
    """Plans in words are laid over demonstrations from so many first guesses, and the likeliest result counts. More of them find better ends of steps
    where plans are long, and take longer."""
    hindsight: int = Field(default=2000, ge=0, le=100_000)
    """Where states tell which relations of plans in words hold: at most so many segments of each kind of what else demonstrations brought about, left as it was
    or undid. 0: nothing is learned but what a demonstration was for."""
