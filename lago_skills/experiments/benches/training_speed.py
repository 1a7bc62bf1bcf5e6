"""`lago bench train`: environment steps per second with updates, beside Stable-Baselines3 in the same process, in turns.

Ours is guided by a bundle, the peer is plain; both run the same environments side by side (the ten training tasks, sparse reward), with networks,
batches and updates of the same sizes. Episodes go to the horizon on both sides, or a policy that succeeds sooner would be charged for its many
resets. Measured are rollouts with their updates after the trial of the prior is over, which happens once in
a run; resets are in it, evaluations are not. The median of the turns counts.
"""

# Stable-Baselines3's and Gymnasium's generic types stay open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from lago_skills.artifacts.processor import processor
from lago_skills.errors import StudyError
from lago_skills.guide.bundle import load_bundle
from lago_skills.rl.config import PPOConfig, SACConfig
from lago_skills.rl.envs import MakeEnv
from lago_skills.rl.loop import Loop
from lago_skills.rl.ppo.algorithm import ProximalPolicyOptimisation
from lago_skills.rl.problem import Problem
from lago_skills.rl.world_problem import world_problem
from lago_skills.worlds import DEFAULT
from lago_skills.worlds.world import find_world

if TYPE_CHECKING:
    from stable_baselines3 import PPO, SAC

Row = dict[str, Any]
Say = Callable[[str], None]
ROUNDS = 9
SAC_TASK, SAC_TURN = "pick-place-wall", 400


class ToHorizon(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Episodes that always last as long, whatever succeeds."""

    def __init__(self, env: gymnasium.Env[Any, Any], horizon_steps: int) -> None:
        super().__init__(env)
        self._horizon = horizon_steps
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._steps = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance one step."""
        observation, reward, _, _, info = self.env.step(action)
        self._steps += 1
        return observation, float(reward), False, self._steps >= self._horizon, info


class Seen(gymnasium.ObservationWrapper[Any, Any, Any]):
    """What networks see of an environment's observations, for a learner that knows nothing of problems."""

    def __init__(self, env: gymnasium.Env[Any, Any], problem: Problem, task: int) -> None:
        super().__init__(env)
        self._see, self._task = problem.see, np.array([task])
        low: Any = env.observation_space.sample()
        size = self._see(np.asarray(low)[None], self._task).shape[1]
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def observation(self, observation: Any) -> Any:
        """(S,) -> (S',)."""
        return self._see(observation[None], self._task)[0]


@dataclass(frozen=True)
class Speeds:
    """Environment steps per second of each turn, and the guide's share of our time."""

    ours: list[float]
    peer: list[float]
    guide_share: float

    def row(self, algorithm: str) -> Row:
        """As the table has it."""
        ours, peer = float(np.median(self.ours)), float(np.median(self.peer))
        ratio = float(np.median(np.divide(self.ours, self.peer)))
        return {
            "algorithm": algorithm,
            "ours_steps_per_s": round(ours, 1),
            "peer_steps_per_s": round(peer, 1),
            "ratio": round(ratio, 3),
            "guide_share": round(self.guide_share, 4),
        }


def bench(
    bundle: Path,
    ppo: PPOConfig | None = None,
    rounds: int = ROUNDS,
    say: Say = lambda text: None,
    sac: SACConfig | None = None,
) -> tuple[list[Row], Row]:
    """A row for each algorithm, and what was measured on.

    SAC is measured on one task, with its defaults and with the peer's very updates: the actor's at every step, no LayerNorm. All have one
    update of the critics a step, on the same networks and batches.

    Raises:
        StudyError: Stable-Baselines3 is not installed.
        ArtifactMissing: there is no bundle.
    """
    require_peer()
    guide = load_bundle(bundle)
    world = find_world(DEFAULT)
    tasks, (sac_task,) = world.find(["ten"]), world.find([SAC_TASK])
    whole = world_problem(world, tasks, guide.grounding, guide, seed=0)

    def make(number: int) -> MakeEnv:
        return lambda: ToHorizon(whole.judged(number)(), tasks[number].horizon_steps)

    problem = replace(whole, make=make, ends_at_success=False)
    alone = world_problem(world, [sac_task], guide.grounding, guide, seed=0)

    def make_alone(number: int) -> MakeEnv:
        return lambda: ToHorizon(world.make(SAC_TASK), sac_task.horizon_steps)

    alone = replace(alone, make=make_alone)
    usual = sac or SACConfig()
    alike = usual.model_copy(update={"actor_every": 1, "layer_norm": False})
    rows = [
        bench_ppo(problem, ppo or PPOConfig(), rounds, say).row("ppo"),
        bench_sac(alone, usual, rounds, say).row("sac"),
        bench_sac(alone, alike, rounds, say).row("sac, the peer's updates"),
    ]
    return rows, {
        "peer": peer_version(),
        "rounds": rounds,
        "tasks": len(tasks),
        "threads": threads(),
        "processor": processor(),
    }


def bench_ppo(problem: Problem, config: PPOConfig, rounds: int, say: Say = lambda text: None) -> Speeds:
    """Guided PPO beside the peer's plain PPO: a rollout and its updates at a time, in turns."""
    peer = peer_ppo(problem, config, seed=0)
    loop = Loop(problem, config, seed=0)
    ours, theirs = list[float](), list[float]()
    try:
        loop.begin()
        say("the trial of the prior")
        assert isinstance(loop.algorithm, ProximalPolicyOptimisation)
        while loop.algorithm.trying:
            loop.advance()
        peer.learn(config.rollout_steps * problem.n_envs)  # what is done once: allocations, first resets
        guide, seconds = loop.algorithm.priors.watch, 0.0
        before_s = guide.seconds
        for number in range(rounds):
            say(f"PPO, turn {number + 1} of {rounds}")
            started, before = time.perf_counter(), loop.step
            loop.advance()
            took = time.perf_counter() - started
            ours.append((loop.step - before) / took)
            seconds += took
            started, before = time.perf_counter(), peer.num_timesteps
            peer.learn(config.rollout_steps * problem.n_envs, reset_num_timesteps=False)
            theirs.append((peer.num_timesteps - before) / (time.perf_counter() - started))
        return Speeds(ours, theirs, (guide.seconds - before_s) / seconds)
    finally:
        loop.close()
        peer.get_env().close()  # pyright: ignore[reportOptionalMemberAccess] it was given one


def bench_sac(problem: Problem, config: SACConfig, rounds: int, say: Say = lambda text: None) -> Speeds:
    """Guided SAC beside the peer's plain SAC: a few hundred steps and their updates at a time, in turns."""
    config = config.model_copy(update={"n_steps": 1_000_000, "buffer_size": 50_000})
    peer, loop = peer_sac(problem, config, seed=0), Loop(problem, config, seed=0)
    ours, theirs = list[float](), list[float]()
    try:
        loop.begin()
        say("SAC, first steps")
        while loop.step < config.random_steps + 50:
            loop.advance()
        peer.learn(config.random_steps + 50)
        guide, seconds = loop.algorithm.priors.watch, 0.0
        before_s = guide.seconds
        for number in range(rounds):
            say(f"SAC, turn {number + 1} of {rounds}")
            started = time.perf_counter()
            for _ in range(SAC_TURN):
                loop.advance()
            took = time.perf_counter() - started
            ours.append(SAC_TURN / took)
            seconds += took
            started = time.perf_counter()
            peer.learn(SAC_TURN, reset_num_timesteps=False)
            theirs.append(SAC_TURN / (time.perf_counter() - started))
        return Speeds(ours, theirs, (guide.seconds - before_s) / seconds)
    finally:
        loop.close()
        peer.get_env().close()  # pyright: ignore[reportOptionalMemberAccess] it was given one


def peer_sac(problem: Problem, config: SACConfig, seed: int) -> SAC:
    """Stable-Baselines3's SAC with our networks, batches and rates on our environment, without guidance.

    Raises:
        StudyError: it is not installed.
    """
    require_peer()
    from stable_baselines3 import SAC
    from stable_baselines3.common.vec_env import DummyVecEnv

    vector = DummyVecEnv([lambda: Seen(problem.judged(0)(), problem, 0)])
    vector.seed(problem.first_seed)
    return SAC(
        "MlpPolicy",
        vector,
        learning_rate=config.learning_rate,
        buffer_size=config.buffer_size,
        learning_starts=config.random_steps,
        batch_size=config.batch_size,
        tau=config.tau,
        gamma=config.gamma,
        train_freq=1,
        gradient_steps=round(config.updates_per_step),
        policy_kwargs={"net_arch": [config.hidden_size] * 2},
        seed=seed,
        device="cpu",
    )


def peer_ppo(problem: Problem, config: PPOConfig, seed: int) -> PPO:
    """Stable-Baselines3's PPO with our settings on our environments, without guidance.

    Raises:
        StudyError: it is not installed.
    """
    require_peer()
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv
    from torch import nn

    def make(task: int) -> gymnasium.Env[Any, Any]:
        return Seen(problem.judged(task)(), problem, task)

    vector = DummyVecEnv([partial(make, task) for task in problem.env_tasks])
    vector.seed(problem.first_seed)
    return PPO(
        "MlpPolicy",
        vector,
        learning_rate=config.learning_rate,
        n_steps=config.rollout_steps,
        batch_size=config.minibatch_size,
        n_epochs=config.n_epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip,
        ent_coef=config.entropy_weight,
        vf_coef=config.value_weight,
        max_grad_norm=config.max_grad_norm,
        policy_kwargs={
            "net_arch": [config.hidden_size] * 2,
            "activation_fn": nn.Tanh,
            "log_std_init": float(np.log(config.initial_std)),
        },
        seed=seed,
        device="cpu",
    )


def require_peer() -> None:
    """Refuse to go on without Stable-Baselines3.

    Raises:
        StudyError: it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("stable_baselines3") is None:
        raise StudyError(
            "found no Stable-Baselines3; expected it beside lago-skills, as what its speed is compared with; pip install "
            "stable-baselines3"
        )


def peer_version() -> str:
    """Name and version of the peer."""
    from importlib.metadata import version

    return f"stable-baselines3 {version('stable-baselines3')}"


def threads() -> int:
    """Threads that torch computes with."""
    import torch

    return torch.get_num_threads()
