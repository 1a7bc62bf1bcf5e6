"""The sections of a study file that no other package reads by itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from lago_skills.core import PlanForm
from lago_skills.llm.config import LiveConfig
from lago_skills.playbook import MAX_PLANS
from lago_skills.rl.config import PPOConfig, SACConfig
from lago_skills.worlds.config import OwnTask

MAX_WORKERS = 64
MAX_SEED = 99
"""Seeds up to here keep the start states of demonstrations, training and evaluation in ranges of their own."""
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Approval = Literal["playbooks", "skills"]
"""What a person may want to see before it is used."""
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Settings without unknown keys, infinite numbers or changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TasksConfig(Section):
    """Task and group names (`ten`, `eight`, `twelve`, `twenty`), and one's own tasks."""

    seen: list[str] = Field(min_length=1)
    """Demonstrated training tasks."""
    unseen: list[str] = Field(default_factory=list)
    """Tasks without any demonstration."""
    planned: list[str] = Field(default_factory=list)
    """Tasks that get a playbook and are otherwise left alone: no rollout, no evaluation."""
    own: list[OwnTask] = Field(default_factory=list[OwnTask])


class CollectConfig(Section):
    """Demonstrations from scripted policies."""

    episodes_per_task: int = Field(default=5, ge=0, le=1000)
    """May be 0 where every seen task has `[[data]]` of its own."""
    action_noise_std: float = Field(default=0.1, ge=0, le=1)
    """Of Gaussian noise on the demonstrator's actions; of discrete actions, the share that is drawn at random."""
    max_tries: int = Field(default=3, ge=1, le=10)
    """At most this many episodes are tried per episode kept; failed ones are dropped."""


class PlanConfig(Section):
    """Language-model answers: where they are recorded, whose count, how they are asked for."""

    name: str | None = None
    """What the files below are called; without it the world's name, or the study's if it brings its own environment."""
    model: str | None = None
    """Use only this model's answers; without it the latest recorded ones; `best` takes, task by task, the one with the
    best score in rollouts and the fewest findings."""
    prompt: Literal["whole", "brief"] = "whole"
    """What tasks without demonstrations are asked for with: all that is known about writing playbooks, or one sentence of instructions."""
    form: PlanForm = "numbers"
    """`numbers`: steps with a target in metres and thresholds. `words`: steps that say what is done with what; where to head, how fast
    and until when is learned from demonstrations."""
    samples: int = Field(default=1, ge=1, le=64)
    """Different answers of each task that are asked for (of each model, with `model = "best"`), recorded, linted and compared; the best is
    used and all are written into the playbooks' artifact."""
    portfolio: int = Field(default=0, ge=0, le=MAX_PLANS)
    """How many plans that differ in how the task is physically done one further request asks for, of each task that is not demonstrated;
    they are tried one after another where the first one fails. 0: none."""
    beside: list[str] = Field(default_factory=list)
    """Other studies of the same world, by name, whose plans of a task are tried too: plans in numbers beside plans in words, say. Run them first."""
    repair: bool = True
    """Whether recorded repairs are used; without them, first answers as they came."""
    repairs: int = Field(default=1, ge=1, le=10)
    """How often an answer goes back to the model with what is wrong with it, at most; of all rounds the best plan is used."""
    live: LiveConfig = LiveConfig()


class GuideConfig(Section):
    """Retrieval at run time."""

    k: int = Field(default=4, ge=1, le=64)
    """Skills retrieved per state."""
    temperature: float = Field(default=0.5, gt=0)
    """Of the softmax over similarities. At 0.1, with latents as far apart as the text head puts them, one skill answers alone; there is
    a row for it in data/results/ablations.csv. At 0.05, which `lago init` writes, what answers a step does not change with whatever else the library comes to hold
    (docs/growing.md); the default is what the stored tables of plans in numbers were measured with."""
    floor: Share = 0.02
    """Share of the prior that is uniform over all actions, whatever the skills say: none is ever ruled out."""
    query: Literal["playbook", "learned", "blend"] = "playbook"
    """What skills are looked up with: the playbook's active step, a learned query of state and task, or a blend."""
    blend: Share = 0.5
    """Share of the learned query in the blend."""
    support_weight: float = Field(default=0.0, ge=0, le=1)
    """Weights are multiplied by (demonstrated steps of the skill) ** this; 0 is off."""


class ZeroShotConfig(Section):
    """Scoring the library alone."""

    episodes: int = Field(default=20, ge=1)
    """Of each task."""


class TrainConfig(Section):
    """Which unseen tasks are trained online, how often, with which algorithms."""

    tasks: list[str] = Field(default_factory=list)
    """Task and group names."""
    algorithms: list[str] = Field(default_factory=lambda: ["guided-sac", "sac"])
    """`sac`, `guided-sac` or `guided-sac-kl` for continuous actions, `ppo` or `guided-ppo` for either kind; each is trained on every task."""
    seeds: list[Seed] = Field(default_factory=lambda: [0, 1, 2], min_length=1)
    """A run of each task and algorithm for every one of them."""
    sac: SACConfig = SACConfig()
    ppo: PPOConfig = PPOConfig()
    success_at_end: bool = False
    """Whether success is read at the horizon's last step, each solved step having a reward of 1, and not at the first solved one."""
    final_episodes: int = Field(default=50, ge=1)
    """Episodes of the last evaluation of a run."""
    trial_episodes: int = Field(default=20, ge=0, le=1000)
    """Where a task has several plans: episodes of it in which a guided run finds out which of them to follow, before it learns. 0: the task's own plan."""
    explore_steps: int = Field(default=0, ge=0)
    """Environment steps of a guided run in which variations of its plans in numbers are followed (other skills of the library, other anchors, moved targets and
    thresholds), where none of the plans succeeds; 10,000 are many. 0: no exploration."""
    search_steps: int = Field(default=0, ge=0)
    """Environment steps of a guided run in which the numbers of its plan (pace, offsets, thresholds) are searched, before it learns; 10,000 are a good search.
    Plans in words have a pace alone. 0: no search."""
