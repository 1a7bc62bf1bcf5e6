"""The learners of the tables by name: which algorithm, who advises it, and what differs from the study's settings.

All run on the same code with the same networks, batches and numbers of updates; a baseline is this code with parts switched off.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lago_skills.errors import StudyError

Adviser = Literal[
    "none",
    "library",
    "shuffled",
    "learned query",
    "cloned",
    "one skill",
    "fixed text",
    "nearest step",
    "brief prompt",
]
"""Who advises: nobody; the study's library; the library asked for the wrong skills; the library looked up by the learned query alone; a policy cloned
from the demonstrations of the task, without language or library. Then the library with one part taken away: the nearest skill instead of a mixture
over k; sentence embeddings as they are instead of the learned text head; the action of the nearest demonstrated step instead of the decoder;
playbooks of a prompt of one sentence instead of the whole one."""


@dataclass(frozen=True)
class Method:
    """One learner."""

    about: str
    algorithm: Literal["sac", "ppo"] = "sac"
    adviser: Adviser = "none"
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    """What differs from the study's `[train.sac]` or `[train.ppo]`."""
    demonstrations: bool = False
    """Whether it is given the demonstrations of the task, if the table has any."""


PLAIN: dict[str, Any] = {"success_share": 0.0, "imitation_weight": 0.0, "harvest": False}
METHODS: dict[str, Method] = {
    "sac": Method("soft actor-critic", settings=PLAIN),
    "guided-sac": Method(
        "leaders, proposals and harvest (the default settings)", adviser="library", demonstrations=True
    ),
    "guided-sac-kl": Method(
        "no proposals: a divergence to the prior that fades as the policy overtakes it",
        adviser="library",
        settings={"leaders": ("explore", "policy"), "target_proposals": False, "density_weight": 0.05},
        demonstrations=True,
    ),
    "sac-shuffled": Method("as guided-sac, but the library is asked for the wrong skills", adviser="shuffled"),
    "sac-learned-query": Method(
        "as guided-sac, but skills are looked up by the learned query alone", adviser="learned query"
    ),
    "sac-cloned": Method(
        "as guided-sac, but a policy cloned from the demonstrations advises, without language or library",
        adviser="cloned",
        demonstrations=True,
    ),
    "rlpd": Method(
        "half of each batch from the demonstrations (arXiv 2302.02948); one update a step, as all rows have",
        settings=PLAIN | {"success_share": 0.5},
        demonstrations=True,
    ),
    "ibrl": Method(
        "a cloned policy proposes when acting and in the target, half of each batch from the demonstrations (arXiv 2311.02198); one update a step, as all "
        "rows have",
        adviser="cloned",
        settings={"leaders": ("mix",), "imitation_weight": 0.0, "harvest": False, "observe_prior": False},
        demonstrations=True,
    ),
    "ppo": Method("proximal policy optimisation", algorithm="ppo"),
    "guided-ppo": Method(
        "a trial of the prior, a warm start where it is good, a divergence that fades as the policy overtakes it (the default settings)",
        algorithm="ppo",
        adviser="library",
    ),
    "bc-ppo": Method(
        "begins as a policy cloned from the demonstrations, and goes on as plain PPO",
        algorithm="ppo",
        adviser="cloned",
        settings={
            "observe_prior": False,
            "density_weight": 0.0,
            "trial_by": "prior",
            "trial_episodes": 10,
            "warm_start_updates": 4_000,
            "learning_rate": 1e-4,
        },
    ),
    "ppo-kl-bc": Method(
        "as guided-ppo, but the prior is cloned from the demonstrations, without language or library",
        algorithm="ppo",
        adviser="cloned",
    ),
    "ppo-kl-shuffled": Method(
        "as guided-ppo, but the library is asked for the wrong skills", algorithm="ppo", adviser="shuffled"
    ),
}


DECAY = "the decay of the pull to successful episodes"


def _without(about: str, adviser: Adviser, **settings: Any) -> Method:
    base = "guided-sac" if adviser != "shuffled" else "sac-shuffled"
    return Method(f"{base} without {about}", adviser=adviser, settings=settings)


METHODS.update(
    {
        "no-retrieval": _without("the mixture over k skills: the nearest alone", "one skill"),
        "no-text-head": _without("the learned text head: latents are the sentence embeddings", "fixed text"),
        "no-decoder": _without(
            "the decoder: the action of the nearest demonstrated step of each skill", "nearest step"
        ),
        "no-long-prompt": _without("all but one sentence of the prompt's instructions", "brief prompt"),
        "no-decay": _without(DECAY, "library", fade="constant"),
        "shuffled-no-decay": _without(DECAY, "shuffled", fade="constant"),
        "shuffled-no-proposals": _without(
            "the critic's choice between prior and policy, in acting and in the target",
            "shuffled",
            leaders=("prior", "explore", "policy"),
            target_proposals=False,
        ),
        "shuffled-no-harvest": _without(
            "harvested successes", "shuffled", success_share=0.0, imitation_weight=0.0, harvest=False
        ),
        "shuffled-no-observed-prior": _without("the prior in what the networks see", "shuffled", observe_prior=False),
        "shuffled-no-plan-noise": _without("shifted plans while exploring", "shuffled", plan_noise_m=0.0),
    }
)
# Rows of T5: guided SAC with one part taken away.


def _only(about: str, **settings: Any) -> Method:
    others: dict[str, Any] = {"leaders": ("policy",), "target_proposals": False, "observe_prior": False}
    return Method(f"plain SAC, guided by {about} alone", adviser="library", settings=PLAIN | others | settings)


METHODS.update(
    {
        "only-proposals": _only(
            "the critic's choice between prior and policy, in acting and in the target (IBRL with the library for its clone)",
            leaders=("mix",),
            target_proposals=True,
        ),
        "only-density": _only(
            "a divergence to the prior that fades as the policy succeeds (LaGO's way)", density_weight=0.05
        ),
        "only-warm-start": _only("a policy that begins at the prior's mean", warm_start_updates=2_000),
        "only-residual": _only("the prior's mean, which the policy corrects by up to a half", residual_scale=0.5),
    }
)
# Rows of T5: one way of guiding by itself.


def _tuned(name: str, about: str, **settings: Any) -> Method:
    base = METHODS[name]
    return replace(base, about=f"{name} with {about}", settings=base.settings | settings)


METHODS.update(
    {
        "rlpd-4-updates": _tuned("rlpd", "four updates a step instead of one", updates_per_step=4.0),
        "rlpd-1-step": _tuned("rlpd", "returns of one step instead of three", n_step=1),
        "rlpd-alpha": _tuned("rlpd", "a first temperature of 0.1 instead of 0.02", initial_alpha=0.1),
        "rlpd-batch-256": _tuned("rlpd", "batches of 256 instead of 128", batch_size=256),
        "ibrl-4-updates": _tuned("ibrl", "four updates a step instead of one", updates_per_step=4.0),
        "ibrl-imitation": _tuned("ibrl", "the pull to demonstrated actions that guided SAC has", imitation_weight=4.0),
    }
)
# Rows of the table of tuning (and what T3 has of them): what else the baselines' settings could have been.


TRAINABLE = ("sac", "guided-sac", "guided-sac-kl", "ppo", "guided-ppo")
"""What `train.algorithms` of a study may hold; the others are baselines of the tables."""


def method(name: str) -> Method:
    """The learner of that name.

    Raises:
        StudyError: there is none.
    """
    if name not in METHODS:
        raise StudyError(f"found learner {name!r}; expected one of {', '.join(METHODS)}; correct train.algorithms")
    return METHODS[name]
