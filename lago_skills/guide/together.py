"""Several steps of a plan at work at once, as in worlds whose states tell which relations hold: their priors mixed, and what holds left alone.

With p_k of the steps at work and relations j that hold, q_k(a|s) ~ p_k(a|s) * prod_j P(j lasts | s, a) and the prior is p(a|s) = sum_k w_k q_k(a|s), where w_k is proportional to
the square of the largest unnormalised q_k: a step that knows what to do, and can do it without harm, weighs more. By Bayes' rule P(j lasts | s, a) is
c l_j(a|s) / (c l_j(a|s) + (1 - c) u_j(a|s)), of the library's skills that leave a relation as it is (l) and that undo it (u), and the share c of steps in which one lasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.prior import DiscreteComponents, DiscretePrior
from lago_skills.worlds.grounding import RelatedState

LASTS = 0.9
"""Share of control steps in which a relation that holds goes on holding, beforehand."""
SURENESS = 2.0
"""To which power the chance of a step's likeliest action counts among the steps at work. Over three pairs at once .81 of tries succeeded with 1 to 10, .78 with 0 (development, seed 0)."""
LEAST = 1e-12
"""No action is quite impossible."""
Lasting = Mapping[str, NDArray[np.float32]]
"""(2, Z) by relation: latents of the enabled skills that leave it as it is and that undo it."""


@dataclass(frozen=True)
class Together:
    """The N steps of the plans of B states; rows of plans with fewer steps are padded with steps that are neither at work nor kept."""

    subjects: NDArray[np.int64]  # (B, N, 2)
    latents: NDArray[np.float32]  # (B, N, K, Z) of the neighbours
    weights: NDArray[np.float32]  # (B, N, K)
    share: NDArray[np.float32]  # (B, N), of the steps at work; rows sum to 1
    kept: NDArray[np.bool_]  # (B, N), whether the step's relation holds and is to last
    lasting: NDArray[np.float32]  # (B, N, 2, Z) of the skills that leave it as it is and undo it

    def padded(self, n_steps: int) -> Together:
        """With so many steps a row."""
        arrays: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        more = n_steps - self.share.shape[1]
        return Together(**{k: np.pad(v, [(0, 0), (0, more), *[(0, 0)] * (v.ndim - 2)]) for k, v in arrays.items()})


def joined_together(parts: Sequence[Together], order: NDArray[np.int64]) -> Together:
    """Rows of several as one, in the order given."""
    most = max(each.share.shape[1] for each in parts)
    wide = [each.padded(most) for each in parts]
    names = [each.name for each in fields(Together)]
    return Together(**{name: np.concatenate([getattr(each, name) for each in wide])[order] for name in names})


def steps_together(
    holding: NDArray[np.bool_],
    at_work: NDArray[np.bool_],
    subjects: NDArray[np.int64],
    latents: NDArray[np.float32],
    weights: NDArray[np.float32],
    lasting: Sequence[NDArray[np.float32] | None],
) -> Together:
    """From what is one plan's: (B, n) relations that hold and steps at work, (n, 2), (n, K, Z), (n, K), and for each step what `Lasting` has of its relation."""
    n_states = len(holding)
    known = np.array([each is not None for each in lasting])
    nothing = np.zeros((2, latents.shape[2]), np.float32)

    def repeated(array: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(array[None], n_states, axis=0)

    return Together(
        subjects=repeated(subjects),
        latents=repeated(latents),
        weights=repeated(weights),
        share=(at_work / at_work.sum(axis=1, keepdims=True)).astype(np.float32),
        kept=holding & ~at_work & known,
        lasting=repeated(np.stack([nothing if each is None else each for each in lasting])),
    )


def renumbered(log_probs: NDArray[np.float32], own: NDArray[np.int64]) -> NDArray[np.float32]:
    """(B, K, A) log-probabilities of actions as thing and place number them, (B, A) their numbers in the environment -> (B, K, A) of the environment's."""
    out = np.empty_like(log_probs)
    np.put_along_axis(out, np.broadcast_to(own[:, None], log_probs.shape), log_probs, axis=2)
    return out


def decode_together(
    decoder: Decoder, state: RelatedState, steps: Together, target_size: int, floor: float
) -> DiscretePrior:
    """The prior of all steps at work, in which actions that would undo what holds are the less likely."""
    n_states, n_steps = steps.share.shape
    targets = np.zeros((n_states, target_size))
    spoken: list[NDArray[np.float64]] = []
    lasts = np.zeros((n_states, decoder.action_size))
    for number in range(n_steps):
        subjects = steps.subjects[:, number]
        own, inputs = state.own_actions(subjects), state.subject_inputs(targets, subjects)
        found = renumbered(_log_probs(decoder, inputs, steps.latents[:, number]), own)
        spoken.append(np.einsum("bk,bka->ba", steps.weights[:, number], np.exp(found.astype(np.float64))))
        kept = np.flatnonzero(steps.kept[:, number])
        if len(kept):
            found = renumbered(_log_probs(decoder, inputs[kept], steps.lasting[kept, number]), own[kept])
            leave, undo = np.log(LASTS) + found[:, 0], np.log(1.0 - LASTS) + found[:, 1]
            lasts[kept] += leave - np.logaddexp(leave, undo)
    chances = np.stack(spoken, axis=1) * np.exp(lasts)[:, None] + LEAST  # (B, N, A)
    shares = steps.share * chances.max(axis=2) ** SURENESS
    return DiscretePrior(
        (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32),
        np.log(chances / chances.sum(axis=2, keepdims=True)).astype(np.float32),
        floor,
    )


def _log_probs(decoder: Decoder, inputs: NDArray[np.float32], latents: NDArray[np.float32]) -> NDArray[np.float32]:
    components = decoder.decode(inputs, latents)
    assert isinstance(components, DiscreteComponents)  # a world of relations has discrete actions
    return components.log_probs
