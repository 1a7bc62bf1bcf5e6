"""What guided SAC or PPO has learned of a task, in NumPy: the networks that act, and who leads.

The readable twins are the agents of `lago_skills.rl` in torch (`SAC.greedy`, `PPO.greedy`), with which a test holds this equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.core import Playbook, Vocabulary
from lago_skills.errors import ArtifactCorrupt, PlanError
from lago_skills.playbook import read_playbook, write_playbook
from lago_skills.prior import ActionPrior, DiscretePrior, Prior

Array = NDArray[np.float32]
POLICIES_FILE, POLICIES_DIR = "policies.json", "policies"
LATENTS = "plan.latents"
"""Of the plan that the prior of a policy follows, beside its networks."""
LARGEST_STATE = 10.0
"""As `lago_skills.rl.networks.LARGEST_STATE`."""


@dataclass(frozen=True)
class PolicyFacts:
    """What is written about a policy."""

    task: str
    run: str
    """The training run that it comes from."""
    algorithm: Literal["sac", "ppo"]
    leader: str
    """Who acts: the `policy`, the `prior`, or a `mix`, whichever of the two the critic prefers."""
    discrete: bool
    layer_norm: bool
    """Of SAC's critics."""
    residual_scale: float | None
    """Where the policy corrects the prior's mean, by how much."""
    spread_by_state: bool
    """Whether PPO's actor puts out its spread too."""
    success: float
    """Of the last evaluation."""
    episodes: int


@dataclass(frozen=True)
class LearnedPolicy:
    """A policy and the plan that its prior follows."""

    facts: PolicyFacts
    arrays: Mapping[str, Array]
    """Weights by the names of `lago_skills.rl.networks.save_networks`."""
    plan: Playbook
    latents: Array  # (n_steps, Z) of the plan's steps

    @property
    def name(self) -> str:
        """Who acts, for people."""
        return self.facts.run

    def act(self, states: Array, prior: Prior) -> NDArray[Any]:
        """(B, S') decoder inputs towards the goal and the prior there -> what is done without exploring."""
        leads = self.facts.leader in ("prior", "explore")
        silent = prior.floor >= 1.0
        if leads and not silent:
            return _of_prior(prior)
        hint = _hint(prior)
        x = self._normalised(states)
        if self.facts.algorithm == "ppo":
            return self._ppo(x, hint, prior)
        actions = np.tanh(self._actor(x, hint, np.maximum, 0.0))
        mean = prior.mean() if isinstance(prior, ActionPrior) else actions
        if self.facts.residual_scale is not None and not silent:
            actions = np.clip(mean + np.float32(self.facts.residual_scale) * actions, -1.0, 1.0)
        if self.facts.leader == "mix" and not silent:
            preferred = self._value(x, hint, mean) > self._value(x, hint, actions)
            actions = np.where(preferred[:, None], mean, actions)
        return actions

    def _ppo(self, x: Array, hint: Array, prior: Prior) -> NDArray[Any]:
        outputs = self._actor(x, hint, None, None)
        if self.facts.discrete:
            return np.argmax(outputs, axis=1)
        if self.facts.residual_scale is not None and isinstance(prior, ActionPrior) and prior.floor < 1.0:
            outputs = prior.mean() + np.float32(self.facts.residual_scale) * outputs
        return np.clip(outputs, -1.0, 1.0)

    def _normalised(self, states: Array) -> Array:
        if "normalizer.mean" not in self.arrays:
            return states
        scaled = (states - self.arrays["normalizer.mean"]) / np.sqrt(self.arrays["normalizer.var"] + np.float32(1e-8))
        return np.clip(scaled, -LARGEST_STATE, LARGEST_STATE).astype(np.float32)

    def _actor(self, x: Array, hint: Array, relu: Any, zero: Any) -> Array:
        """(B, S'), (B, hint) -> (B, A) outputs before any squashing; spreads are left out. Without `relu`, layers of tanh."""
        a = self.arrays

        def activate(hidden: Array) -> Array:
            return np.tanh(hidden) if relu is None else relu(hidden, zero)

        hidden = x @ a["actor.first.weight"].T + a["actor.first.bias"]
        if "actor.hint" in a:
            hidden = hidden + hint @ a["actor.hint"]
        hidden = activate(activate(hidden) @ a["actor.second.weight"].T + a["actor.second.bias"])
        outputs = hidden @ a["actor.head.weight"].T + a["actor.head.bias"]
        halved = self.facts.algorithm == "sac" or (self.facts.spread_by_state and not self.facts.discrete)
        return outputs[:, : outputs.shape[1] // 2] if halved else outputs

    def _value(self, x: Array, hint: Array, actions: Array) -> Array:
        """(B,) minimum of SAC's two critics."""
        a = self.arrays
        hidden = (
            np.concatenate([x, actions], axis=1).astype(np.float32) @ a["critics.weight0"] + a["critics.bias0"]
        )  # (2, B, H)
        if "critics.hint" in a:
            hidden = hidden + hint @ a["critics.hint"]
        hidden = self._critic_layer(self._critic_layer(hidden) @ a["critics.weight1"] + a["critics.bias1"])
        return (hidden @ a["critics.weight2"] + a["critics.bias2"])[..., 0].min(axis=0)

    def _critic_layer(self, hidden: Array) -> Array:
        if self.facts.layer_norm:
            centred = hidden - hidden.mean(axis=-1, keepdims=True)
            hidden = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(1e-5))
        return np.maximum(hidden, 0.0)


def _of_prior(prior: Prior) -> NDArray[Any]:
    if isinstance(prior, DiscretePrior):
        return np.argmax(prior.floor / prior.log_probs.shape[2] + (1.0 - prior.floor) * prior.probabilities(), axis=1)
    return prior.mean()


def _hint(prior: Prior) -> Array:
    """(B, hint) what networks see of a prior: mean and spread of a mixture, or how much likelier than by chance each action is; zeros of one that knows nothing."""
    if isinstance(prior, DiscretePrior):
        n = prior.log_probs.shape[2]
        seen = prior.floor / n + (1.0 - prior.floor) * prior.probabilities()
        even = (seen == seen[:, :1]).all(axis=1, keepdims=True)
        return np.where(even, 0.0, n * seen - 1.0).astype(np.float32)
    mean, std = prior.moments()
    if prior.floor >= 1.0:
        return np.zeros((len(mean), 2 * mean.shape[1]), np.float32)
    return np.concatenate([mean, std], axis=1).astype(np.float32)


def save_policies(folder: Path, policies: Mapping[str, LearnedPolicy]) -> None:
    """Into a bundle's folder: what is known of each policy, and its weights."""
    (folder / POLICIES_DIR).mkdir(exist_ok=True)
    entries: list[dict[str, Any]] = []
    for task, policy in sorted(policies.items()):
        entries.append({**asdict(policy.facts), "plan": write_playbook(policy.plan)})
        save_arrays({**policy.arrays, LATENTS: policy.latents}, folder / POLICIES_DIR / f"{task}.safetensors")
    text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    (folder / POLICIES_FILE).write_text(text, encoding="utf-8")


def load_policies(folder: Path, vocabulary: Vocabulary) -> dict[str, LearnedPolicy]:
    """The policies in a bundle, by task; none where it has none.

    Raises:
        ArtifactCorrupt: they cannot be read.
    """
    if not (folder / POLICIES_FILE).is_file():
        return {}
    try:
        entries: list[dict[str, Any]] = json.loads((folder / POLICIES_FILE).read_text(encoding="utf-8"))
        policies: dict[str, LearnedPolicy] = {}
        for entry in entries:
            plan = read_playbook(entry.pop("plan"), vocabulary)
            facts = PolicyFacts(**entry)
            arrays = load_arrays(folder / POLICIES_DIR / f"{facts.task}.safetensors")
            latents = arrays.pop(LATENTS)
            policies[facts.task] = LearnedPolicy(facts, arrays, plan, latents)
        return policies
    except (OSError, ValueError, KeyError, TypeError, PlanError) as error:
        raise ArtifactCorrupt(
            f"trained policies in {str(folder)!r} cannot be read ({error}); expected those that lago bundle make writes; make the bundle again"
        ) from error
