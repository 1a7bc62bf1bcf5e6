"""From what a data source of a study holds to episodes: checked and rescaled; wrong data is refused with a sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Episode
from lago_skills.data.config import SourceConfig
from lago_skills.data.files.raw import SUCCESS_NAMES, RawDataset, RawEpisode
from lago_skills.errors import DataError, ShapeError, StudyError
from lago_skills.worlds.gym.spaces import ActionCodec, rescaled


@dataclass(frozen=True)
class Sizes:
    """What the environment of a study needs of its data."""

    observation: int
    actions: ActionSpace
    codec: ActionCodec | None = None
    """From the environment's own actions to those of a study; None where they are the same."""


def episodes_of(data: RawDataset, config: SourceConfig, task: str, sizes: Sizes | None) -> list[Episode]:
    """A source's episodes of one task, checked and in this package's form.

    Raises:
        DataError: the source has no episode of the task, or one that cannot be used; says which and why.
    """
    episodes: list[Episode] = []
    n_of_task = n_short = 0
    for number, raw in enumerate(data.episodes):
        if (config.task or raw.task) != task or config.source_task not in (None, raw.task):
            continue
        n_of_task += 1
        episode = convert(raw, number, data, config, task, sizes)
        if episode is None:
            n_short += 1
        elif episode.success or config.keep == "all":
            episodes.append(episode)
        if len(episodes) == config.max_episodes:
            break
    if not episodes:
        raise DataError(_why_empty(data, config, task, n_of_task, n_short))
    return episodes


def _why_empty(data: RawDataset, config: SourceConfig, task: str, n_of_task: int, n_short: int) -> str:
    if not data.episodes:
        return f"data {data.name!r}: found no episodes; expected some of task {task!r}; collect or download it again"
    if not n_of_task:
        known = sorted({str(raw.task) for raw in data.episodes if raw.task is not None})
        if config.source_task is not None:
            return f"data {data.name!r}: found episodes of {known[:10]}, none of source_task = {config.source_task!r}; expected some; correct it"
        tasks = f"episodes of {known[:10]}" if known else f"no task's name under {config.task_key!r}"
        return (
            f"data {data.name!r}: found {tasks}, none of task {task!r}; expected some; name the task of all episodes with "
            "task = ..., or where each episode's is written with task_key = ..."
        )
    if n_short == n_of_task:
        return (
            f"data {data.name!r}: found only episodes of task {task!r} without a single step whose outcome is known; expected "
            "an observation after at least one action; record longer episodes"
        )
    return (
        f"data {data.name!r}: found no successful episode among {n_of_task} of task {task!r}; expected one, as keep = "
        "'success'; use keep = 'all', or say with success = ... how success shows"
    )


def tasks_of(data: RawDataset, config: SourceConfig) -> list[str]:
    """The tasks that a source has episodes of, in order of appearance."""
    return list(dict.fromkeys(task for raw in data.episodes if (task := config.task or raw.task) is not None))


def convert(
    raw: RawEpisode, number: int, data: RawDataset, config: SourceConfig, task: str, sizes: Sizes | None
) -> Episode | None:
    """One episode, or None where no step's outcome is known.

    Where the observation after the last action is missing (d3rlpy keeps none), that action is left out, since nothing
    says what it led to; its reward is added to the one before.

    Raises:
        DataError: wrong shapes or sizes, values that are not finite, actions outside their range, or nothing that says
            whether the episode succeeded.
    """
    where = f"data {data.name!r}, episode {number}"
    success, first = success_steps(raw, config, where)
    observations, actions, rewards = _arrays(raw, where, sizes.actions if sizes is not None else None)
    if not len(actions):
        return None
    codec = sizes.codec if sizes is not None else None
    if codec is not None and codec.space.discrete:
        actions = codec.encoded_rows(actions, where)
    elif data.several_actions is not None:
        raise DataError(
            f"{where}: found actions of the space {data.several_actions}, several choices at once; expected Box or Discrete, or an environment whose study says "
            "flatten_actions = true, which numbers their combinations; say so in [world]"
        )
    elif data.action_start and actions.ndim == 1:
        actions = actions.astype(np.int64) - data.action_start
    _check_sizes(observations, actions, sizes, where)
    if actions.ndim == 2:
        actions = rescaled(actions, _bounds(data, config, actions.shape[1], where, codec), where)
    if config.rewards == "recorded" and raw.rewards is None:
        raise DataError(
            f"{where}: found no rewards and rewards = 'recorded'; expected some; say rewards = 'sparse', so that they are 1 at success and 0 else"
        )
    if config.rewards == "sparse":
        rewards = np.zeros(len(actions))
        rewards[-1 if first is None else min(first, len(actions) - 1)] = float(success)
    try:
        return Episode(
            task_id=task,
            seed=number if raw.seed is None else raw.seed,
            observations=observations.astype(np.float32),
            actions=actions.astype(np.int64) if actions.ndim == 1 else actions.astype(np.float32),
            rewards=rewards.astype(np.float32),
            success=success,
            terminated=raw.terminated,
            truncated=raw.truncated,
            success_step=None if first is None else min(first, len(actions) - 1),
        )
    except ShapeError as error:
        raise DataError(f"{where}: {error}") from error


def success_steps(raw: RawEpisode, config: SourceConfig, where: str) -> tuple[bool, int | None]:
    """Whether an episode succeeded by the source's rule, and the number of the action that first did; None where nobody recorded which.

    Raises:
        DataError: what the rule looks at was not recorded.
    """
    shown, rule, n = config.success, config.rule, len(raw.actions)
    if shown == "all":
        return True, n - 1
    if shown == "recorded":
        return _recorded(raw, where)
    if raw.rewards is None and (rule is None or rule.reads_rewards):
        raise DataError(
            f"{where}: found no rewards; expected some, as success = {shown!r} looks at them; say otherwise how success shows with success = ..."
        )
    if rule is None:
        assert raw.rewards is not None
        succeeded = bool(n and raw.rewards[-1] > 0)
        return succeeded, n - 1 if succeeded else None
    entry = rule.name.replace(".", "/")
    if rule.kind == "info" and entry not in raw.infos and entry in SUCCESS_NAMES:  # one thing by two names
        if raw.success is not None:
            return raw.success, None
        if raw.success_record is not None and not rule.last_step:
            return _recorded(raw, where)
    rewards = np.zeros(n) if raw.rewards is None else raw.rewards
    try:
        steps = np.flatnonzero(rule.steps(rewards, raw.infos, terminated=raw.terminated, truncated=raw.truncated))
    except StudyError as error:
        raise DataError(f"{where}: {error}") from error
    return bool(len(steps)), int(steps[0]) if len(steps) else None


def _recorded(raw: RawEpisode, where: str) -> tuple[bool, int | None]:
    record = raw.success_record
    if record is None and raw.success is None:
        raise DataError(
            f"{where}: found no record of success; expected a flag 'success' or 'is_success'; say how success shows with success = "
            "'terminated', 'rewarded', 'all' or the smallest return of a success"
        )
    if record is None:
        return bool(raw.success), None
    name, values = record
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise DataError(
            f"{where}: found {values.reshape(-1)[:3].tolist()} ... as record of success {name!r}; expected true or false, or 0 or 1; correct the file, or "
            "say otherwise how success shows with success = ..."
        )
    steps = np.flatnonzero(values)
    succeeded = bool(len(steps)) if raw.success is None else raw.success
    return succeeded, int(steps[0]) if succeeded and len(steps) else None


def _arrays(raw: RawEpisode, where: str, space: ActionSpace | None) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    observations, actions = raw.observations, raw.actions
    rewards = np.zeros(len(actions)) if raw.rewards is None else raw.rewards
    if space is not None:
        actions = _as_declared(actions, space)
    n = len(actions)
    if rewards.shape == (n, 1):
        rewards = rewards[:, 0]
    kinds = {"observations": observations, "actions": actions, "rewards": rewards}
    wrong = next((name for name, array in kinds.items() if array.dtype.kind not in "fiub"), None)
    if wrong is not None:
        raise DataError(
            f"{where}: found {wrong} of type {kinds[wrong].dtype}; expected numbers; convert them before the file is written"
        )
    whole = actions.ndim == 1 and actions.dtype.kind in "iub"
    if (
        observations.ndim != 2
        or len(observations) not in (n, n + 1)
        or rewards.shape != (n,)
        or (actions.ndim != 2 and not whole)
    ):
        raise DataError(
            f"{where}: found observations of shape {observations.shape}, actions {actions.shape} and rewards {rewards.shape}; "
            "expected (T+1, S) or (T, S), (T, A) or whole numbers (T,), and (T,); flatten observations and actions, and keep "
            "one reward per step"
        )
    for name, array in {"observations": observations, "actions": actions, "rewards": rewards}.items():
        if not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise DataError(
                f"{where}: found {array[index]} in {name} at index {index}; expected finite numbers; repair that row, or leave "
                "the episode out"
            )
    if len(observations) == n + 1:
        return observations, actions, rewards
    rewards = rewards.astype(np.float64)
    if n >= 2:
        rewards[-2] += rewards[-1]
    return observations, actions[: max(n - 1, 0)], rewards[: max(n - 1, 0)]


def _as_declared(actions: NDArray[Any], space: ActionSpace) -> NDArray[Any]:
    """Actions in the shape of a declared space: (T, 1) whole numbers are (T,) discrete ones, (T,) numbers are (T, 1) continuous ones."""
    if space.discrete and (actions.ndim == 1 or actions.shape[1:] == (1,)):
        whole = actions.dtype.kind in "iub" or (actions.dtype.kind == "f" and (actions == actions.round()).all())
        return actions.reshape(-1).astype(np.int64) if whole else actions
    if not space.discrete and actions.ndim == 1 and space.size == 1:
        return actions.astype(np.float64)[:, None]
    return actions


def _check_sizes(observations: NDArray[Any], actions: NDArray[Any], sizes: Sizes | None, where: str) -> None:
    if sizes is None:
        return
    if observations.shape[1] != sizes.observation:
        raise DataError(
            f"{where}: found observations of {observations.shape[1]} numbers; expected {sizes.observation}, as the study's "
            "environment has; this is data of another environment, or of another version of it"
        )
    if actions.ndim == 2:
        fits, shown = (
            not sizes.actions.discrete and actions.shape[1] == sizes.actions.size,
            f"{actions.shape[1]} numbers",
        )
    else:
        low, high = int(actions.min(initial=0)), int(actions.max(initial=0))
        fits = sizes.actions.discrete and low >= 0 and high < sizes.actions.size
        shown = f"whole numbers from {low} to {high}"
    if not sizes.actions.size:
        raise DataError(
            f"{where}: found actions of {shown}; expected an environment that declares its actions; add environment.action_size (numbers in a "
            "continuous action) or environment.n_actions (how many discrete actions there are)"
        )
    if not fits:
        raise DataError(
            f"{where}: found actions of {shown}; expected {sizes.actions}, as the study's environment has; "
            "this is data of another environment, or of another version of it"
        )


def _bounds(
    data: RawDataset, config: SourceConfig, size: int, where: str, codec: ActionCodec | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(A,) smallest and largest action: as the study says, else as the data's own space does, else as the environment's."""
    if config.action_range is not None:
        ends = [np.atleast_1d(np.array(end, np.float64)) for end in config.action_range]
    elif data.action_bounds is not None:
        ends = [end.reshape(-1) for end in data.action_bounds]
    elif codec is not None:
        return codec.bounds()
    else:
        return -np.ones(size), np.ones(size)
    if any(len(end) not in (1, size) for end in ends):
        raise DataError(
            f"{where}: found a range for actions of {max(map(len, ends))} numbers and actions of {size}; expected two numbers, or "
            f"two lists of {size}; correct action_range"
        )
    low, high = (np.broadcast_to(end, (size,)) for end in ends)
    if not (low < high).all():
        raise DataError(
            f"{where}: found the range {low.tolist()} to {high.tolist()} for actions; expected the smallest value first; correct "
            "action_range"
        )
    return low, high


def problems(data: RawDataset, config: SourceConfig, sizes: Sizes | None = None) -> list[str]:
    """Everything that keeps episodes of a source from being used, each kind once, with the number of episodes.

    Success that nobody recorded is the study's to explain and is not reported.
    """
    rules = config if config.success != "recorded" else config.model_copy(update={"success": "all"})
    counts: dict[str, int] = {}
    for number, raw in enumerate(data.episodes):
        try:
            short = convert(raw, number, data, rules, str(raw.task), sizes) is None
            if not short:
                continue
            text = f"data {data.name!r}, episode {number}: no step whose outcome is known; such episodes are left out"
        except DataError as error:
            text = str(error)
        known = next((key for key in counts if _kind(key) == _kind(text)), text)
        counts[known] = counts.get(known, 0) + 1
    if not data.episodes:
        return [f"data {data.name!r}: found no episodes; expected some; collect or download it again"]
    return [text if n == 1 else f"{text} (and {n - 1} more episodes)" for text, n in counts.items()]


def _kind(problem: str) -> str:
    """A problem without its place and its numbers."""
    return re.sub(r"-?\d[\d.e+-]*", "#", problem.partition(": ")[2].split(" at index", 1)[0])


def notes(data: RawDataset, source_task: str | None = None) -> list[str]:
    """What happens to episodes of a source that is no fault of theirs, each in a sentence."""
    short = [
        raw
        for raw in data.episodes
        if source_task in (None, raw.task) and 0 < len(raw.observations) == len(raw.actions)
    ]
    if not short:
        return []
    return [
        f"the last action of {len(short)} episodes is left out, since nothing says what it led to; with 'next_observations', or one observation more than actions, it is kept"
    ]


def constant_entries(data: RawDataset) -> list[int]:
    """Entries of the observation that never change; they do no harm, and nothing can be learned from them."""
    usable = [raw.observations for raw in data.episodes if raw.observations.ndim == 2]
    if len({rows.shape[1] for rows in usable}) != 1 or any(rows.dtype.kind not in "fiub" for rows in usable):
        return []
    rows = np.concatenate(usable)
    return np.flatnonzero(np.ptp(rows, axis=0) == 0).tolist() if len(rows) else []
