"""`lago init`: look at an environment, and write a study of it with what it showed and what only its user can know."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from lago_skills.errors import StudyError
from lago_skills.study import STUDIES_DIR
from lago_skills.worlds.gym.config import GymConfig
from lago_skills.worlds.gym.look import Look, look
from lago_skills.worlds.gym.make import make_environment, registered_spec
from lago_skills.worlds.gym.old_gym import reset_values, step_values
from lago_skills.worlds.gym.read_spaces import leaves, read_actions, read_observations, unusable
from lago_skills.worlds.gym.spaces import ObservationCodec

WIDEST = 1e6
"""Bounds beyond this say nothing of an entry; its range in random episodes is written instead."""
MOST_FEATURES = 40
"""Of larger observations, only so many entries are listed."""


def init_command(options: argparse.Namespace) -> None:
    """Write the study; an existing file is never overwritten.

    Raises:
        StudyError: the environment cannot be made, or the file is there already.
    """
    config = GymConfig.model_validate(
        {
            "id": options.env,
            "kwargs": _json_object("--kwargs", options.kwargs),
            "reset_options": _json_object("--reset-options", options.reset_options),
            "import": options.imports,
            "wrappers": options.wrappers,
        }
    )
    stem = re.sub(r"[^a-z0-9]+", "-", options.env.rpartition(":")[2].rpartition("/")[2].lower()).strip("-")
    path: Path = options.to or options.root.resolve() / STUDIES_DIR / f"{stem}.toml"
    if path.exists():
        raise StudyError(
            f"found {str(path)!r} already; expected a new file, since nothing is overwritten; name another one with --to, or remove it"
        )
    try:
        env = make_environment(config, options.env, {})
    except Exception as error:  # each environment package fails in its own way
        raise StudyError(
            f"found --env {options.env!r}, which cannot be made ({type(error).__name__}: {error}); expected a Gymnasium id, or MODULE:CLASS; correct it, install "
            "the package, or name the module that registers it with --import"
        ) from error
    try:
        text = study_text(path.stem, config, env, options.episodes)
    except StudyError:
        raise
    except Exception as error:  # likewise
        raise StudyError(
            f"found --env {options.env!r}, which fails in random episodes ({type(error).__name__}: {error}); expected some that run; where a reset wants options, give "
            "them with --reset-options"
        ) from error
    finally:
        env.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"{path} written; lines with TODO are yours to decide, then: lago collect {path}")  # noqa: T201


def _json_object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise StudyError(
            f"found {option} {text!r}, which is no JSON ({error}); expected an object such as '{{\"size\": 5}}'; correct it"
        ) from error
    if not isinstance(value, dict):
        raise StudyError(f"found {option} {text!r}; expected an object such as '{{\"size\": 5}}'; correct it")
    return value


def _table(values: Mapping[str, Any]) -> str:
    """An inline table of TOML; a value that TOML cannot say, null, is left out."""
    said = ((key, value) for key, value in values.items() if value is not None)
    return "{ " + ", ".join(f"{_key(key)} = {_value(value)}" for key, value in said) + " }"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return _table(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return json.dumps(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def study_text(name: str, config: GymConfig, env: gymnasium.Env[Any, Any], n_episodes: int) -> str:
    """A study file of an environment: what it showed, filled in, and what only its user knows, as comments to follow."""
    known = leaves(env.observation_space)
    parts = [] if () in known else ["/".join(p) for p, leaf in known.items() if unusable(leaf) is None]
    lines = [f'name = "{name}"', "", "[world]", 'use = "gym"', f"id = {json.dumps(config.id)}"]
    lines += [f"import = {json.dumps(config.imports)}"] if config.imports else []
    lines += [f"wrappers = {json.dumps(config.wrappers)}"] if config.wrappers else []
    lines += [f"kwargs = {_table(config.kwargs)}"] if config.kwargs else []
    lines += [f"reset_options = {_table(config.reset_options)}"] if config.reset_options else []
    lines += [f"# observation space: {line}" for line in str(env.observation_space).splitlines()]
    for path, leaf in known.items():
        if (why := unusable(leaf)) is not None:
            lines.append(
                f'# {"/".join(path) or "the observation"} is {why}: wrap the environment, or compute features in a class with grounding = "MODULE:CLASS"'
            )
    if parts:
        lines.append(
            f"observation = {json.dumps(parts)}  # which entries make the observation, in this order; TODO leave out what is said twice"
        )
    lines += [f"# action space: {env.action_space}"]
    lines += _action_lines(env)
    shown = look(env, n_episodes)
    lines += [f"# {shown}."]
    lines += _horizon_lines(config, shown)
    lines += _success_lines(shown)
    lines += [
        'reward = "own"  # trained on as it is; "sparse": 1 at the first success, which ends the episode, and 0 else'
    ]
    lines += ['nouns = { agent = "agent" }  # TODO who acts, as prompts call it: "cart", "robot"']
    lines += ['about = """TODO: what the agent is, what its world is like, what an action does, in which units."""']
    lines += [
        '# demonstrator = "MODULE:FUNCTION"  # a policy that shows the task, observation -> action; or [[data]] below',
        "",
    ]
    lines += _feature_lines(env, parts)
    lines += [
        "[tasks]",
        'seen = ["task"]',
        "[[tasks.own]]",
        'id = "task"',
        'sentence = "TODO what is to be achieved"',
        "",
    ]
    lines += ["[collect]", "episodes_per_task = 10  # by the demonstrator; 0 where all come from [[data]]", ""]
    lines += [
        "# [[data]]  # lago data show FILE ends with the block to paste here",
        '# path = "demonstrations.npz"',
        '# task = "task"',
        "",
    ]
    lines += [
        "[guide]",
        "temperature = 0.05  # the nearest skill answers; with the default, 0.5, several share a step",
        "",
    ]
    ppo = isinstance(env.action_space, (gymnasium.spaces.Discrete, gymnasium.spaces.MultiDiscrete))
    algorithms = '["guided-ppo", "ppo"]' if ppo else '["guided-sac", "sac"]'
    lines += [
        "[train]",
        'tasks = ["task"]',
        f"algorithms = {algorithms}",
        "seeds = [0, 1, 2]",
        f"[train.{'ppo' if ppo else 'sac'}]",
    ]
    lines += [f"n_steps = {50_000 if ppo else 10_000}", f"eval_every = {5_000 if ppo else 1_000}"]
    return "\n".join(lines) + "\n"


def _action_lines(env: gymnasium.Env[Any, Any]) -> list[str]:
    space: gymnasium.Space[Any] = env.action_space
    try:
        codec = read_actions(space)
    except StudyError as first:
        try:
            return [
                f"flatten_actions = true  # {read_actions(space, flatten=True).space}; without it, several choices at once are refused"
            ]
        except StudyError:
            return ["# action_range = [-1.0, 1.0]  # TODO: " + str(first).replace("\n", " ")]
    return [f"# actions are rescaled from {codec} to [-1, 1] at the door"] if codec.rescaled else []


def _horizon_lines(config: GymConfig, shown: Look) -> list[str]:
    spec = registered_spec(config.id or "")
    if spec is not None and spec.max_episode_steps:
        return [f"horizon_steps = {spec.max_episode_steps}  # its own limit of steps"]
    if shown.truncated == len(shown.lengths) and len(set(shown.lengths)) == 1:
        return [f"horizon_steps = {shown.lengths[0]}  # it cut every random episode after so many steps"]
    return [
        f"horizon_steps = {max(200, max(shown.lengths))}  # TODO it declares no limit of steps; episodes are cut after so many"
    ]


def _success_lines(shown: Look) -> list[str]:
    """The rule, which nobody can guess: filled in only where the infos say it by its name."""
    for name in ("success", "is_success"):
        if name in shown.infos:
            return [f'success = "info.{name}"  # at any step; add " at the last step" where it has to hold to the end']
    high = max(shown.returns)
    return [
        "# TODO when is a task solved? Nothing here says so, and without a rule nothing is judged. One of these, with your number:",
        f'# success = "return {">=" if high else ">"} {high + abs(high):.4g}"  # at the end of an episode; random episodes come to {high:.4g} at most',
        f'# success = "reward {">=" if shown.rewards[1] else ">"} {shown.rewards[1]:.4g}"  # at any step',
        f'# success = "terminated"  # {shown.terminated} of {len(shown.lengths)} random episodes ended so',
        '# success = "truncated"  # whoever lasts to the limit of steps',
        '# success = "MODULE:FUNCTION"  # of an episode so far: rewards, infos, terminated, truncated',
    ]


def _feature_lines(env: gymnasium.Env[Any, Any], parts: list[str]) -> list[str]:
    try:
        codec = read_observations(env.observation_space, parts, "observation")
    except StudyError:
        return ['# Features are the class\'s own: TODO grounding = "MODULE:CLASS" above.', ""]
    low, high = _seen(env, codec)
    lines = [
        "# What plans can speak about. TODO a name, a unit and a sentence for each entry that matters; the others can go, learners see them all the same.",
        "# Beside index: key = PART with index, difference = [A, B], distance = [A, B]; [world.anchors] NAME = [X, Y, Z] for points that steps can head for.",
    ]
    for index, (name, key, place) in enumerate(_entries(codec)):
        if index == MOST_FEATURES:
            lines.append(f"# ... and {codec.size - MOST_FEATURES} more entries")
            break
        lines += [
            f"[world.features.{name}]",
            *([f'key = "{key}"'] if key else []),
            f"index = {place}",
            'unit = "1"  # TODO',
        ]
        lines += [
            f"range = [{low[index]:.4g}, {high[index]:.4g}]",
            f'sentence = "TODO entry {place}{f" of {key}" if key else ""}"',
            "",
        ]
    return lines


def _entries(codec: ObservationCodec) -> Iterator[tuple[str, str, int]]:
    flat = len(codec.parts) == 1 and not codec.parts[0].path
    for part in codec.parts:
        for place in range(part.size):
            yield (f"entry_{place}", "", place) if flat else (f"{part.name}_{place}", part.name, place)


def _seen(env: gymnasium.Env[Any, Any], codec: ObservationCodec) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(S,) smallest and largest of each entry in random episodes, widened a little; never empty."""
    rows = [codec.flat(reset_values(env.reset(seed=0))[0])]
    for _ in range(500):
        observation, _, *ends, _ = step_values(env.step(env.action_space.sample()))
        rows.append(codec.flat(observation))
        if any(bool(end) for end in ends):
            rows.append(codec.flat(reset_values(env.reset())[0]))
    low, high = np.min(rows, axis=0).astype(float), np.max(rows, axis=0).astype(float)
    margin = np.maximum(0.1 * (high - low), 1e-2)
    return np.clip(low - margin, -WIDEST, WIDEST), np.clip(high + margin, -WIDEST, WIDEST)
