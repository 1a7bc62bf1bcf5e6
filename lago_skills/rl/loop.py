"""The one training loop: environments, episodes, evaluation, log and checkpoints around an algorithm."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.errors import DiskFull, EnvironmentTaken
from lago_skills.rl.algorithm import Algorithm, Phase, RunningEpisode, Setup, Transition
from lago_skills.rl.checkpoint import Checkpoint, digest_of
from lago_skills.rl.config import Leader, PPOConfig, SACConfig
from lago_skills.rl.envs import Envs
from lago_skills.rl.guidance.harvest import Harvest
from lago_skills.rl.policy import greedy_policy
from lago_skills.rl.ppo.agent import PPO
from lago_skills.rl.ppo.algorithm import ProximalPolicyOptimisation
from lago_skills.rl.problem import EpisodeOutcome, Problem, Stopwatch, evaluate, success_by_task, task_keys
from lago_skills.rl.runlog import Row, RunLog
from lago_skills.rl.sac.agent import SAC
from lago_skills.rl.sac.algorithm import SoftActorCritic

AgentT = TypeVar("AgentT")
Report = Callable[[int, Row], None]
Stop = Callable[[int, Row], bool]
REPORT_EVERY = 100
"""Environment steps."""


@dataclass(frozen=True)
class TrainResult(Generic[AgentT]):
    """A finished run."""

    agent: AgentT
    leader: Leader
    """Who leads greedy episodes; where the policy stands alone, always the policy."""
    curve: list[Row]
    final: list[EpisodeOutcome]
    harvested: list[Episode]
    """Successful training episodes, in the order in which they ended."""
    earlier_s: float
    """Wall time of the parts of the run before this call, seconds; 0 where it was not cut."""


class TrainOptions(TypedDict, total=False):
    """What `train` may be given besides; see there."""

    final_episodes: int
    demonstrations: Sequence[Episode]
    folder: Path | None
    recipe: dict[str, Any] | None
    report: Report
    on_row: Report
    stop: Stop


@overload
def train(problem: Problem, config: SACConfig, seed: int, **options: Unpack[TrainOptions]) -> TrainResult[SAC]: ...
@overload
def train(problem: Problem, config: PPOConfig, seed: int, **options: Unpack[TrainOptions]) -> TrainResult[PPO]: ...
@overload
def train(
    problem: Problem, config: SACConfig | PPOConfig, seed: int, **options: Unpack[TrainOptions]
) -> TrainResult[SAC] | TrainResult[PPO]: ...
def train(
    problem: Problem,
    config: SACConfig | PPOConfig,
    seed: int,
    *,
    final_episodes: int = 0,
    demonstrations: Sequence[Episode] = (),
    folder: Path | None = None,
    recipe: dict[str, Any] | None = None,
    report: Report = lambda step, row: None,
    on_row: Report = lambda step, row: None,
    stop: Stop = lambda step, row: False,
) -> TrainResult[Any]:
    """Train one policy by the algorithm that the settings are of.

    Args:
        problem: environments, what networks see of them, and who advises.
        config: settings of soft actor-critic or of proximal policy optimisation.
        seed: of networks, exploration and batches; the same seed gives the same curve, on the same processor with as many threads of torch.
        final_episodes: greedy episodes of each task at the very end, `TrainResult.final`.
        demonstrations: episodes to learn from beside the own ones (soft actor-critic alone).
        folder: where the log goes (`curve.csv`, TensorBoard), and a checkpoint with each of its rows. The same call goes on from the checkpoint,
            to the very curve of a run that was never cut.
        recipe: what the run is made from, as a checkpoint has it; one of another recipe is started over. By default the settings, the seed, the
            problem's name, the demonstrations and the priors of the first states.
        report: called every 100 environment steps with the step and the latest row, `{}` before the first: for progress.
        on_row: called with the step and each new row of the log.
        stop: called after that; the run ends where it says so, as it does where success reaches `config.stop_at_success`.

    Raises:
        TrainingStopped: a reward, an observation or a loss that is not finite, with the step it came at; or an environment crashes again and again.
        StudyError: spaces, demonstrations or a device that this algorithm, or this machine, does not have.
        ShapeError: a prior over other actions than the environment has.
        ArtifactCorrupt: the checkpoint is damaged, or of a version that cannot be gone on from.
    """
    started, loop = time.perf_counter(), Loop(problem, config, seed, demonstrations)
    try:
        recipe = recipe or loop.recipe()
        saved = Checkpoint.load(folder / "checkpoint", recipe) if folder is not None else None
        earlier_s = float(saved.values["wall_s"]) if saved is not None else 0.0
        loop.begin(saved)
        log = RunLog(folder, loop.log_keys, saved.values["curve"] if saved is not None else ())

        def stopped() -> bool:
            if not log.rows:
                return False
            step, row = int(log.rows[-1]["step"]), log.rows[-1]
            enough = config.stop_at_success is not None and row["eval/success"] >= config.stop_at_success
            return enough or stop(step, row)

        over = stopped()
        while loop.step < config.n_steps and not over:
            loop.advance(lambda step: report(step, log.rows[-1] if log.rows else {}))
            if loop.row_is_due():
                log.add(loop.row())
                if folder is not None:
                    checkpoint = loop.checkpoint(log.rows)
                    checkpoint.values["wall_s"] = earlier_s + time.perf_counter() - started
                    _save(checkpoint, folder / "checkpoint", recipe)
                on_row(loop.step, log.rows[-1])
                over = stopped()
        log.close()
        final = loop.evaluate(final_episodes) if final_episodes else []
        return TrainResult(
            loop.algorithm.agent, loop.algorithm.leader(), log.rows, final, loop.harvest.episodes, earlier_s
        )
    finally:
        loop.close()


def _save(checkpoint: Checkpoint, folder: Path, recipe: dict[str, Any]) -> None:
    """Write a checkpoint; where there is no room, the one of before stays and the run goes on."""
    try:
        checkpoint.save(folder, recipe)
    except DiskFull as error:
        print(f"lago: {error}; training goes on", file=sys.stderr)  # noqa: T201


@dataclass
class Window:
    """What happened since the last row of the log."""

    successes: list[bool] = field(default_factory=list[bool])
    returns: list[float] = field(default_factory=list[float])
    prior_steps: int = 0
    steps: int = 0

    def metrics(self) -> dict[str, float]:
        """Shares of successful episodes and of steps by the prior, and the mean return of an episode; 0 where there were none."""
        return {
            "train/success": float(np.mean(self.successes or [0.0])),
            "train/return": float(np.mean(self.returns or [0.0])),
            "train/prior_share": self.prior_steps / max(self.steps, 1),
        }


class Loop:
    """One run. `begin` it, `advance` it, ask it for a `row` where one is due, and `close` it whatever happens.

    Raises:
        StudyError: spaces, demonstrations or a device that the algorithm, or this machine, does not have.
    """

    def __init__(
        self, problem: Problem, config: SACConfig | PPOConfig, seed: int, demonstrations: Sequence[Episode] = ()
    ) -> None:
        self.problem, self.config, self.seed, self.demonstrations = problem, config, seed, demonstrations
        self.tasks = np.asarray(problem.env_tasks, np.int64)
        names = [f"environment {i} ({problem.tasks[task]})" for i, task in enumerate(problem.env_tasks)]
        self._names, self._one_instance = names, problem.one_instance
        self.envs = self._opened()
        self.harvest, self.window = Harvest(), Window()
        self.episodes: list[RunningEpisode] = []
        self.step, self.n_episodes = 0, problem.n_envs
        """Environment steps so far, and episodes begun."""
        self._phase: Phase = "between updates"
        self._latest_update = 0  # step at which the phase was last not "collecting", before the latest `advance`
        self._started, self._before_s, self._evaluating = time.perf_counter(), 0.0, Stopwatch()
        try:
            self._first = self.envs.reset([problem.first_seed + i for i in range(problem.n_envs)])
            size = problem.see(self._first, self.tasks).shape[1]
            setup = Setup(problem, self.envs.action_space, size, seed, demonstrations)
            self.algorithm = algorithm_for(setup, config)
        except BaseException:
            self.close()
            raise
        self.log_keys = (*self.algorithm.log_keys, *task_keys(problem))

    def _opened(self) -> Envs:
        makes = [self.problem.judged(task) for task in self.problem.env_tasks]
        return Envs(makes, self._names, self.problem.vectorize)

    def recipe(self) -> dict[str, Any]:
        """What this run is made from; another guide has other priors of the first states."""
        demonstrated = (
            array for each in self.demonstrations for array in (each.observations, each.actions, each.rewards)
        )
        return {
            "problem": self.problem.name,
            "config": self.config.recipe(),
            "seed": self.seed,
            "advice": digest_of([self.algorithm.priors.rows(self._first, self.tasks)]),
            "demonstrations": digest_of(demonstrated),
        }

    def begin(self, saved: Checkpoint | None = None) -> None:
        """Start, or go on from a checkpoint."""
        if saved is not None:
            self._restore(saved)
            return
        self.algorithm.start()
        for number, observation in enumerate(self._first):
            self.episodes.append(self._begin_episode(number, observation, self.problem.first_seed + number))

    def advance(self, tick: Callable[[int], None] = lambda step: None) -> None:
        """Step the environments until the algorithm's next updates are made: once, or a rollout; tells the step now and then."""
        self._latest_update, self._phase = self.step, "collecting"
        while self._phase == "collecting":
            self._step()
            self._phase = self.algorithm.learn(self.episodes, self.step)
            if self.step % REPORT_EVERY < len(self.episodes):
                tick(self.step)

    def _step(self) -> None:
        """One step of every environment."""
        choice = self.algorithm.act(self.episodes, self.step)
        observations, rewards, terminated, truncated, infos = self.envs.step(choice.actions)
        self.step += len(self.episodes)
        self.window.steps += len(self.episodes)
        self.window.prior_steps += int(choice.by_prior.sum())
        states = self.problem.see(observations, self.tasks)
        crashed = np.array([bool(info.get("crashed", False)) for info in infos])
        for number in np.flatnonzero(~crashed):
            self.episodes[number].append(
                choice.actions[number], float(rewards[number]), observations[number], states[number]
            )
        transition = Transition(observations, states, rewards, terminated, truncated, crashed)
        self.algorithm.observe(transition, self.episodes)
        for number in np.flatnonzero(transition.ended).tolist():
            self._end_episode(number, bool(terminated[number]), bool(truncated[number]), infos[number])
            self.episodes[number] = self._next_episode(number)

    def _end_episode(self, number: int, terminated: bool, truncated: bool, info: dict[str, Any]) -> None:
        episode = self.episodes[number]
        success = bool(info.get("success", False))
        self.window.successes.append(success)
        self.window.returns.append(float(np.sum(episode.rewards)))
        self.algorithm.end_episode(number, episode, terminated, success)
        if success and self.config.harvest:
            task = self.problem.tasks[int(self.tasks[number])]
            self.harvest.add(task, episode, terminated=terminated, truncated=truncated)

    def _next_episode(self, number: int) -> RunningEpisode:
        seed = self.problem.first_seed + self.n_episodes
        self.n_episodes += 1
        return self._begin_episode(number, self.envs.restart(number, seed), seed)

    def _begin_episode(self, number: int, observation: NDArray[Any], seed: int) -> RunningEpisode:
        state = self.problem.see(observation[None], self.tasks[number : number + 1])[0]
        return self.algorithm.begin_episode(number, seed, observation, state, self.step)

    # Telling ----------------------------------------------------------------------------------------------------------

    def row_is_due(self) -> bool:
        """Whether the latest `advance` passed a multiple of `eval_every` or one of `eval_early`, reached a milestone, or ended the run."""
        before, every = self._latest_update, self.config.eval_every
        early = any(before < at <= self.step for at in self.config.eval_early)
        passed = self.step // every > before // every
        return early or passed or self._phase == "milestone" or self.step >= self.config.n_steps

    def evaluate(self, n_episodes: int) -> list[EpisodeOutcome]:
        """Greedy episodes on the evaluation seeds, so many of each task."""
        with self._evaluating:
            policy = greedy_policy(self.problem, self.algorithm.agent, self.algorithm.leader())
            if not self._one_instance:
                try:
                    return evaluate(self.problem, policy, n_episodes)
                except EnvironmentTaken as error:
                    print(f"lago: {error}; training and evaluation take turns", file=sys.stderr)  # noqa: T201
                    self._one_instance = True
            return self._in_turn(lambda: evaluate(self.problem, policy, n_episodes, n_envs=1))

    def _in_turn(self, play: Callable[[], list[EpisodeOutcome]]) -> list[EpisodeOutcome]:
        """Evaluate while no environment of the training is open; the running episodes are left, and the next ones begin after it."""
        counts = self.envs.counts()
        self.envs.close()
        outcomes = play()
        self.envs = self._opened()
        self.envs.reset([self.problem.first_seed] * self.problem.n_envs)
        for number, each in enumerate(counts):
            seed = self.problem.first_seed + self.n_episodes
            self.n_episodes += 1
            observation = self.envs.restart(number, seed, counts=each)
            self.episodes[number] = self._begin_episode(number, observation, seed)
        return outcomes

    def row(self) -> Row:
        """Evaluate, and say how things stand; the next window begins."""
        outcomes = self.evaluate(self.config.eval_episodes)
        window, self.window = self.window, Window()
        elapsed_s = self._elapsed_s()
        metrics = {
            "eval/success": float(np.mean([each.success for each in outcomes])),
            "eval/return": float(np.mean([each.episode_return for each in outcomes])),
            "eval/crashes": sum(each.crashed for each in outcomes),
            **window.metrics(),
            "train/episodes": self.n_episodes - len(self.episodes),
            "train/harvested": len(self.harvest.episodes),
            "train/crashes": sum(crashes for _, crashes in self.envs.counts()),
            "time/steps_per_s": self.step / elapsed_s,
            "time/guide_share": self.algorithm.priors.watch.seconds / elapsed_s,
            **self.algorithm.metrics(self.step),
            **success_by_task(self.problem, outcomes),
        }
        declared = {key: metrics.pop(key) for key in self.log_keys if key in metrics}
        return {"step": self.step, **declared, **metrics}  # what is not declared is refused by the log

    def _elapsed_s(self) -> float:
        """Since the start of the run, evaluations not counted."""
        return self._before_s + time.perf_counter() - self._started - self._evaluating.seconds

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def checkpoint(self, curve: list[Row]) -> Checkpoint:
        """Everything that the run goes on from."""
        checkpoint = Checkpoint()
        self.algorithm.put(checkpoint)
        self.harvest.put(checkpoint)
        for number, (episode, (_, actions)) in enumerate(zip(self.episodes, self.envs.positions(), strict=True)):
            episode.put(checkpoint, f"running/{number}")
            if len(actions):
                checkpoint.put(f"replay/{number}", actions)
        checkpoint.values |= {
            "curve": curve,
            "step": self.step,
            "n_episodes": self.n_episodes,
            "counts": self.envs.counts(),
            "seconds": [self._elapsed_s(), self.algorithm.priors.watch.seconds],
        }
        return checkpoint

    def _restore(self, saved: Checkpoint) -> None:
        values = saved.values
        self.step, self.n_episodes = values["step"], values["n_episodes"]
        self.algorithm.get(saved)
        self.harvest.get(saved)
        for number, counts in enumerate(values["counts"]):
            episode = RunningEpisode.get(saved, f"running/{number}")
            actions = list(saved.array(f"replay/{number}")) if f"replay/{number}" in saved.arrays else []
            repeated = self.envs.go_back(number, episode.seed, actions, counts, episode.observations[-1])
            self.episodes.append(episode if repeated else self._next_episode(number))
        self._before_s, self.algorithm.priors.watch.seconds = values["seconds"]

    def close(self) -> None:
        """Free the environments."""
        self.envs.close()


def algorithm_for(setup: Setup, config: SACConfig | PPOConfig) -> Algorithm:
    """The algorithm that the settings are of.

    Raises:
        StudyError: spaces, demonstrations or a device that it, or this machine, does not have.
    """
    if isinstance(config, PPOConfig):
        return ProximalPolicyOptimisation(setup, config)
    return SoftActorCritic(setup, config)
