"""Networks of soft actor-critic, and their weights on disk."""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lago_skills.errors import ArtifactCorrupt
from lago_skills.rl.config import SACConfig


class Critics(nn.Module):
    """Two Q-functions evaluated as one batch of matrices: (state, hint, action) -> (2, B)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        sizes = [input_size, hidden_size, hidden_size, 1]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for a, b in itertools.pairwise(sizes):
            bound = 1.0 / np.sqrt(a)
            self.weights.append(nn.Parameter(torch.empty(2, a, b).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.zeros(2, 1, b)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, input) -> (2, B)."""
        hidden = x.expand(2, *x.shape)  # (2, B, input)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = torch.baddbmm(bias, hidden, weight)
            hidden = torch.relu(nn.functional.layer_norm(hidden, hidden.shape[-1:]))
        return torch.baddbmm(self.biases[-1], hidden, self.weights[-1])[..., 0]


class Actor(nn.Module):
    """Tanh-Gaussian policy: (state, hint) -> action in [-1, 1] and its log-density."""

    def __init__(self, input_size: int, action_size: int, hidden_size: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(input_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, hidden_size), nn.ReLU()
        )
        self.head = nn.Linear(hidden_size, 2 * action_size)

    def forward(self, x: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Action (B, A) and log-density (B,); without noise, the mode (its density is not meaningful)."""
        mean, raw = self.head(self.body(x)).chunk(2, dim=1)
        log_std = -5.0 + 3.5 * (torch.tanh(raw) + 1.0)  # in [-5, 2]
        if noise is None:
            return torch.tanh(mean), torch.zeros(len(x))
        pre = mean + log_std.exp() * noise
        # log |d tanh / d pre| in the form that does not overflow
        squash = 2.0 * (np.log(2.0) - pre - nn.functional.softplus(-2.0 * pre))
        log_p = (-0.5 * noise**2 - log_std - 0.5 * np.log(2.0 * np.pi) - squash).sum(dim=1)
        return torch.tanh(pre), log_p


@dataclass
class Agent:
    """Networks and optimisers of one run."""

    actor: Actor
    critics: Critics
    targets: Critics
    log_alpha: Tensor
    actor_optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer
    alpha_optimizer: torch.optim.Optimizer
    generator: torch.Generator

    @staticmethod
    def create(state_size: int, action_size: int, config: SACConfig, seed: int) -> Agent:
        """Fresh networks; the same seed gives the same networks."""
        torch.manual_seed(seed)
        inputs = state_size + 2 * action_size
        actor = Actor(inputs, action_size, config.hidden_size)
        critics = Critics(inputs + action_size, config.hidden_size)
        targets = Critics(inputs + action_size, config.hidden_size)
        targets.load_state_dict(critics.state_dict())
        log_alpha = torch.tensor(float(np.log(config.initial_alpha)), requires_grad=True)
        rate = config.learning_rate
        return Agent(
            actor,
            critics,
            targets,
            log_alpha,
            torch.optim.Adam(actor.parameters(), lr=rate, fused=True),
            torch.optim.Adam(critics.parameters(), lr=rate, fused=True),
            torch.optim.Adam([log_alpha], lr=rate, fused=True),
            torch.Generator().manual_seed(seed),
        )

    def act(self, state: NDArray[np.float32], hint: NDArray[np.float32], greedy: bool) -> NDArray[np.float32]:
        """(B, S'), (B, 2A) -> (B, A) actions of the policy."""
        with torch.inference_mode():
            x = torch.from_numpy(np.concatenate([state, hint], axis=1))
            size = hint.shape[1] // 2
            noise = None if greedy else torch.randn((len(x), size), generator=self.generator)
            return self.actor(x, noise)[0].numpy()

    def value(
        self, state: NDArray[np.float32], hint: NDArray[np.float32], action: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(B,) minimum of the two critics."""
        with torch.inference_mode():
            return self.critics(torch.from_numpy(np.concatenate([state, hint, action], axis=1))).amin(dim=0).numpy()


def save_agent(agent: Agent, path: Path) -> None:
    """Write actor and critics as safetensors."""
    parts = {"actor": agent.actor, "critics": agent.critics}
    path.write_bytes(
        save({f"{part}.{n}": v.contiguous() for part, net in parts.items() for n, v in net.state_dict().items()})
    )


def load_agent(path: Path, state_size: int, action_size: int, config: SACConfig) -> Agent:
    """Read what `save_agent` wrote.

    Raises:
        ArtifactCorrupt: the file cannot be read or belongs to other sizes.
    """
    agent = Agent.create(state_size, action_size, config, seed=0)
    try:
        stored = load_file(path)
        for part, net in (("actor", agent.actor), ("critics", agent.critics)):
            net.load_state_dict({n.removeprefix(f"{part}."): v for n, v in stored.items() if n.startswith(f"{part}.")})
    except (OSError, RuntimeError, ValueError) as error:
        raise ArtifactCorrupt(
            f"agent {str(path)!r} cannot be read ({error}); expected the weights of this study's run; train again"
        ) from error
    return agent
