"""Adam without the bookkeeping of an optimiser object: as many small updates as reinforcement learning makes, that is a tenth of their time.

Source: Kingma and Ba (arXiv 1412.6980); the update itself is torch's fused one (`torch.optim.adam._fused_adam`).
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lago_skills.rl.checkpoint import Checkpoint

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Moments of some parameters."""

    def __init__(self, parameters: Iterable[Tensor], rate: float, epsilon: float = EPSILON) -> None:
        self.parameters, self.rate, self.epsilon = list(parameters), rate, epsilon
        self._first = [torch.zeros_like(each, requires_grad=False) for each in self.parameters]
        self._second = [torch.zeros_like(each, requires_grad=False) for each in self.parameters]
        self._steps = [torch.zeros(())] * len(self.parameters)  # one counter, seen once for each parameter

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """One step down gradients, in the order of the parameters."""
        if self._steps:
            self._steps[0].add_(1.0)
        torch._fused_adam_(
            self.parameters,
            list(gradients),
            self._first,
            self._second,
            [],
            self._steps,
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=self.rate,
            weight_decay=0.0,
            eps=self.epsilon,
            maximize=False,
        )

    def put(self, checkpoint: Checkpoint, name: str) -> None:
        """Keep the moments."""
        for number, parts in enumerate(zip(self._first, self._second, self._steps, strict=True)):
            for part, value in zip(("first", "second", "step"), parts, strict=True):
                checkpoint.put(f"{name}/{number}/{part}", value)

    def get(self, checkpoint: Checkpoint, name: str) -> None:
        """Take the moments back."""
        for number, parts in enumerate(zip(self._first, self._second, self._steps, strict=True)):
            for part, value in zip(("first", "second", "step"), parts, strict=True):
                value.copy_(checkpoint.arrays[f"{name}/{number}/{part}"])


class ScalarAdam:
    """Adam on one number."""

    def __init__(self, value: float, rate: float) -> None:
        self.value, self.rate = value, rate
        self._first = self._second = 0.0
        self._step = 0

    def step(self, gradient: float) -> None:
        """One step down a gradient."""
        self._step += 1
        self._first = BETA1 * self._first + (1 - BETA1) * gradient
        self._second = BETA2 * self._second + (1 - BETA2) * gradient * gradient
        first, second = self._first / (1 - BETA1**self._step), self._second / (1 - BETA2**self._step)
        self.value -= self.rate * first / (math.sqrt(second) + EPSILON)

    def state(self) -> list[float]:
        """Everything, as plain numbers."""
        return [self.value, self._first, self._second, self._step]

    def set_state(self, state: Sequence[float]) -> None:
        """Go on from there."""
        self.value, self._first, self._second, self._step = state[0], state[1], state[2], int(state[3])
