"""The figures of docs/ball-push.md: `python -m tests.ball_push_figures policies|twin|skills|pictures [--level LEVEL] [--episodes N]`, one line for each."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lago_skills.core import Episode, Playbook, Step
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.dataset import label_episodes, labelled_steps
from lago_skills.decoder.pretrain import pretrain
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.prior import DiscreteComponents
from lago_skills.worlds.ball_push import twin
from lago_skills.worlds.ball_push.balls import N_ACTIONS
from lago_skills.worlds.ball_push.demonstrators import plan, rule
from lago_skills.worlds.ball_push.drawing import LEVELS, PAIRS
from lago_skills.worlds.ball_push.env import BallPush
from lago_skills.worlds.ball_push.goals import Goal
from lago_skills.worlds.ball_push.layouts import draw_layout
from lago_skills.worlds.ball_push.scene import Scene
from lago_skills.worlds.ball_push.world import BallPushWorld
from lago_skills.worlds.rollouts import record, rollouts
from lago_skills.worlds.seeds import DEMO_SEED, EVAL_SEED
from tests.conftest import ROOT

EPISODES = {
    "random": {"pair": 400, "easy": 2000, "two": 100},
    "rule": {"pair": 200, "easy": 200},
    "planner": {"pair": 200, "easy": 200, "three": 40, "line-up": 30},
}
"""Of each policy and level; else 60."""
FIRST_SEED = 1000
"""Of episodes of policies, which learn from nothing."""
SKILLS = {
    "behind": "push the named ball behind the other",
    "left": "push the named ball to the left of the other",
    "front": "push the named ball in front of the other",
    "right": "push the named ball to the right of the other",
}
OPPOSITE = {"behind": "front", "front": "behind", "left": "right", "right": "left"}
Chooses = Callable[[NDArray[np.float64], Goal, np.random.Generator], int]
POLICIES: dict[str, Chooses] = {
    "random": lambda positions, goal, rng: int(rng.integers(N_ACTIONS)),
    "rule": lambda positions, goal, rng: rule(positions, goal),
    "planner": lambda positions, goal, rng: plan(positions, goal),
}


def policies(levels: list[str], names: list[str], episodes: int | None) -> None:
    """Success of each policy at each level, in MuJoCo."""
    for name in names:
        for level in levels:
            n = episodes or EPISODES[name].get(level, 60)
            started, env, steps = time.process_time(), BallPush(level), list[int]()
            for seed in range(FIRST_SEED, FIRST_SEED + n):
                observation, _ = env.reset(seed=seed)
                rng = np.random.default_rng(seed)
                while True:
                    action = POLICIES[name](observation.reshape(5, 2), env.goal, rng)
                    observation, _, terminated, truncated, _ = env.step(action)
                    if terminated or truncated:
                        break
                if terminated:
                    steps.append(env.n_steps)
            seconds = (time.process_time() - started) / n
            mean = f"{np.mean(steps):.2f}" if steps else "-"
            print(
                f"{name:8} {level:10} n {n:4} success {len(steps) / n:.3f} steps of successes {mean} CPU s an episode {seconds:.2f}",
                flush=True,
            )


def compare_twin() -> None:
    """Errors of one push of the twin beside MuJoCo, and pushes a CPU second of both, best of five."""
    rng, scene = np.random.default_rng(123), Scene()
    rows: list[tuple[Any, ...]] = []
    for _ in range(200):
        scene.place(draw_layout(rng))
        for step in range(12):
            action, before = int(rng.integers(N_ACTIONS)), (scene.positions, scene.velocities)
            scene.push(action)
            rows.append((*before, action, step, scene.positions))
    positions, velocities, actions, steps, after = (np.array(column) for column in zip(*rows, strict=True))
    later = steps >= 1
    for name, speeds in (("speeds known", velocities), ("speeds taken to be 0", None)):
        found, _ = twin.push(positions, actions, speeds)
        error = 1e3 * np.linalg.norm(found - after, axis=2)
        worst = error[later].max(axis=1)
        print(
            f"{name}: mean {error[later].mean():.2f} mm, worst ball median {np.median(worst):.1f} p95 {np.percentile(worst, 95):.1f}, first step {error[~later].mean():.1f}"
        )
    print(f"nothing moves: mean {1e3 * np.linalg.norm(positions - after, axis=2)[later].mean():.1f} mm")
    found, _ = twin.push(positions, actions, velocities)
    was, said, true = (
        np.stack([Goal("pair", (part,)).done(each[later])[:, 0] for part in PAIRS])
        for each in (positions, found, after)
    )
    print(f"relations agree {(said == true).mean():.4f}, of those that change {(said == true)[was != true].mean():.3f}")
    for n in (1, 64, 1024):
        print(
            f"twin, {n} tables: {_rate(lambda n=n: twin.push(positions[:n], actions[:n], velocities[:n]), n):.0f} pushes/s"
        )
    print(f"MuJoCo: {_rate(lambda: [scene.push(int(action)) for action in actions[:200]], 200):.0f} pushes/s")


def _rate(run: Callable[[], Any], n: int) -> float:
    best = 0.0
    for _ in range(5):
        started, done = time.process_time(), 0
        while done < 30:
            run()
            done += n
        best = max(best, done / (time.process_time() - started))
    return best


Embeddings = dict[str, NDArray[np.float32]]


def skills() -> None:
    """A decoder from demonstrations of four pairs, one for each side, asked on 28 pairs with balls that nobody showed for the right skill and for the opposite one."""
    for by_role, side_told in itertools.product((True, False), (True, False)):
        world = BallPushWorld(by_role=by_role, side_told=side_told)
        rng = np.random.default_rng(0)
        embeddings: Embeddings = {text: rng.normal(size=64).astype(np.float32) / 8.0 for text in SKILLS.values()}
        decoder = _decoder(world, embeddings)
        for asked in ("right", "opposite"):
            good = _played(world, decoder, embeddings, opposite=asked == "opposite")
            print(
                f"by role {by_role}, side told {side_told}, {asked} skill: n {len(good)} success {np.mean(good):.3f}",
                flush=True,
            )


def _decoder(world: BallPushWorld, embeddings: Embeddings) -> Decoder:
    """Trained on 50 demonstrations of each of four pairs."""
    grounding, episodes, books = world.grounding, dict[str, list[Episode]](), dict[str, Playbook]()
    for task in world.groups["four"]:
        env, show = world.make(task), world.demonstrator(task)
        found = (record(env, show, task, DEMO_SEED + seed, 0.1, world) for seed in range(50))
        episodes[task] = [episode for episode in found if episode.success]
        books[task] = Playbook(task, (Step(SKILLS[task.split("-")[1]]),), "none", "none")
    config = DecoderConfig(algorithm="discrete-bc", n_updates=1500)
    labelled = label_episodes(episodes, books, grounding)
    steps = labelled_steps(episodes, books, labelled, embeddings, grounding, config)
    decoder, _ = pretrain(steps, config, 0, lambda update, metrics: None)
    return decoder


def _played(world: BallPushWorld, decoder: Decoder, embeddings: Embeddings, *, opposite: bool) -> list[bool]:
    rng, good = np.random.default_rng(1), list[bool]()
    for task in world.groups["unshown"][::2]:
        side = task.split("-")[1]
        latent = decoder.latents(embeddings[SKILLS[OPPOSITE[side] if opposite else side]][None])

        def policy(observations: NDArray[np.float64], latent: NDArray[Any] = latent) -> NDArray[np.int64]:
            inputs = world.grounding.read(observations).inputs(np.zeros((len(observations), 0)))
            said = decoder.decode(inputs, np.repeat(latent[:, None], len(inputs), axis=0))
            assert isinstance(said, DiscreteComponents)
            chances = said.log_probs[:, 0]
            return np.asarray((chances + rng.gumbel(size=chances.shape)).argmax(axis=1), np.int64)

        seeds = [EVAL_SEED + seed for seed in range(3)]
        good += [result.success for result in rollouts(world, world.tasks[task], policy, seeds, lambda n: None)]
    return good


PICTURE = ROOT / "docs/pictures/ball-push.png"
FRAMES, SHOWN = 4, {"pair": 1003, "two": 1001, "three": 1004, "gather": 1002}
"""Pictures of an episode at most, and the episode of each level."""


def pictures() -> None:
    """An episode of the planner at four levels, a row each: the start, and what each push left."""
    strips: list[NDArray[np.uint8]] = []
    for level, seed in SHOWN.items():
        env = BallPush(level, render_mode="rgb_array")
        observation, info = env.reset(seed=seed)
        frames, over = [env.render()], False
        while not over and len(frames) < FRAMES:
            observation, _, terminated, truncated, _ = env.step(plan(observation.reshape(5, 2), env.goal))
            frames.append(env.render())
            over = terminated or truncated
        print(f"{level} {seed}: {info['sentence']} {len(frames) - 1} pushes", flush=True)
        blank = np.full_like(frames[0], 255)
        strips.append(np.concatenate([each[::2, ::2] for each in (frames + [blank] * FRAMES)[:FRAMES]], axis=1))
        env.close()
    Image.fromarray(np.concatenate(strips)).quantize(64).save(PICTURE, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("policies", "twin", "skills", "pictures"))
    parser.add_argument("--level", choices=LEVELS)
    parser.add_argument("--policy", choices=tuple(POLICIES))
    parser.add_argument("--episodes", type=int)
    chosen = parser.parse_args()
    if chosen.what == "policies":
        every = [level for level in LEVELS if level != "rephrased"]
        policies(
            [chosen.level] if chosen.level else every,
            [chosen.policy] if chosen.policy else list(POLICIES),
            chosen.episodes,
        )
    elif chosen.what == "twin":
        compare_twin()
    elif chosen.what == "pictures":
        pictures()
    else:
        skills()
