"""Success as a declared rule: one sentence of a study file that judges recorded data, training and evaluation alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import StudyError
from lago_skills.worlds.imports import imported_for

FORMS = (
    "'info.NAME' (such as 'info.success' or 'info.is_success'), 'terminated', 'truncated', 'reward >= X', 'return >= X' or the import path of a "
    "function 'MODULE:FUNCTION', each with ' at any step' or ' at the last step' after it where that matters"
)
_RULE = re.compile(r"(?P<what>.+?)(?: at (?P<when>any|the last) step)?")
_COMPARED = re.compile(
    r"(?P<what>reward|return)\s*(?P<op>>=|>)\s*(?P<value>[-+]?[0-9.]+(?:e[-+]?[0-9]+)?)", re.IGNORECASE
)


@dataclass
class EpisodeSoFar:
    """What a success rule may look at: everything that the environment returned since the last reset."""

    rewards: list[float] = field(default_factory=list[float])
    infos: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    terminated: bool = False
    truncated: bool = False

    def add(self, reward: float, info: Mapping[str, Any], *, terminated: bool, truncated: bool) -> None:
        """One more control step."""
        self.rewards.append(reward)
        self.infos.append(info)
        self.terminated, self.truncated = terminated, truncated


Judge = Callable[[EpisodeSoFar], bool]
"""Whether the task is solved at the last step of an episode so far."""


@dataclass(frozen=True)
class SuccessRule:
    """When a task is solved. `text` is the rule as the study has it; read it with `success_rule`."""

    text: str
    kind: Literal["info", "terminated", "truncated", "reward", "return", "function"]
    last_step: bool
    """Whether it counts at an episode's last step alone; otherwise at any step."""
    name: str = ""
    """Of the info's entry, or the import path of the function."""
    least: float = 0.0
    """Smallest reward or return of a success."""
    strict: bool = False
    """Whether the smallest is itself too small."""
    function: Judge | None = field(default=None, compare=False)

    @property
    def reads_rewards(self) -> bool:
        """Whether an episode without rewards cannot be judged."""
        return self.kind in ("reward", "return")

    def solved(self, so_far: EpisodeSoFar) -> bool:
        """Whether the task is solved at the last step of an episode so far.

        Raises:
            StudyError: the info has no such entry, or one that is neither true nor false; or the function fails.
        """
        over = so_far.terminated or so_far.truncated
        return self._solved(so_far) if over or not self.last_step else False

    def _solved(self, so_far: EpisodeSoFar) -> bool:
        """Whether the rule holds at the step that the episode has come to, whether or not it counts there."""
        if self.kind == "terminated":
            return so_far.terminated
        if self.kind == "truncated":
            return so_far.truncated and not so_far.terminated
        if self.kind == "info":
            return self._flag(so_far.infos[-1])
        if self.kind == "function":
            return self._asked(so_far)
        value = so_far.rewards[-1] if self.kind == "reward" else sum(so_far.rewards)
        return self.enough(value)

    def enough(self, value: float) -> bool:
        """Whether a reward or a return is that of a success."""
        return value > self.least if self.strict else value >= self.least

    def _flag(self, info: Mapping[str, Any]) -> bool:
        entry: Any = info
        for part in self.name.split("."):
            if not isinstance(entry, Mapping) or part not in entry:
                shown = f"with {', '.join(sorted(map(str, info)))}" if info else "without entries"
                raise StudyError(
                    f"found success = {self.text!r} and a step's info {shown}; expected an entry {self.name!r} at every step; name one that is there, "
                    f"or say otherwise when the task is solved: {FORMS}"
                )
            entry = entry[part]  # pyright: ignore[reportUnknownVariableType]  (whatever an environment puts there)
        return as_flag(entry, f"info[{self.name!r}]")

    def _asked(self, so_far: EpisodeSoFar) -> bool:
        assert self.function is not None
        try:
            return bool(self.function(so_far))
        except Exception as error:  # whatever a user's function does
            raise StudyError(
                f"found success = {self.text!r}, which failed ({type(error).__name__}: {error}); expected True or False of an episode so far, which has "
                "rewards, infos, terminated and truncated; correct the function"
            ) from error

    def steps(
        self, rewards: NDArray[Any], infos: Mapping[str, NDArray[Any]], *, terminated: bool, truncated: bool
    ) -> NDArray[np.bool_]:
        """(T,) whether the task is solved at each step of a recorded episode: (T,) rewards, and each info's entry as (T,).

        A recording that was cut off is judged at its last step too; it was not truncated for that.

        Raises:
            StudyError: as `solved`.
        """
        so_far, n = EpisodeSoFar(), len(rewards)
        solved = np.zeros(n, np.bool_)
        for step in range(n):
            last = step == n - 1
            info = _nested({name: values[step] for name, values in infos.items()})
            so_far.add(
                float(rewards[step]),
                info,
                terminated=last and terminated,
                truncated=last and truncated,
            )
            if last or not self.last_step:
                solved[step] = self._solved(so_far)
        return solved


def _nested(info: dict[str, Any]) -> dict[str, Any]:
    """An info as the environment had it, from entries whose names join those of its dictionaries by a slash."""
    whole: dict[str, Any] = {}
    for name, value in info.items():
        *path, last = name.split("/")
        inner = whole
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return whole


def as_flag(value: Any, what: str) -> bool:
    """A record of success as true or false.

    Raises:
        StudyError: it is neither a truth value nor 0 or 1.
    """
    array = np.asarray(value)
    if array.size == 1 and array.dtype.kind in "biuf" and float(array.reshape(-1)[0]) in (0.0, 1.0):
        return bool(array.reshape(-1)[0])
    raise StudyError(
        f"{what}: found {value!r} as a record of success; expected true or false, or 0 or 1; name another entry, or compare a number in a function: "
        f"{FORMS}"
    )


def success_rule(text: str) -> SuccessRule:
    """The rule that a study's `success = ...` declares.

    A return counts at the last step unless the text says otherwise: it may pass a limit early and fall again.

    Raises:
        StudyError: it is none of the forms, or its function cannot be imported.
    """
    match = _RULE.fullmatch(" ".join(text.split()))
    what, when = (match["what"], match["when"]) if match else ("", None)
    if (compared := _COMPARED.fullmatch(what)) is not None:
        kind = "reward" if compared["what"].lower() == "reward" else "return"
        last = when == "the last" or (when is None and kind == "return")
        return SuccessRule(text, kind, last, least=float(compared["value"]), strict=compared["op"] == ">")
    last = when == "the last"
    if what.startswith("info.") and len(what) > len("info."):
        return SuccessRule(text, "info", last, what.removeprefix("info."))
    if what in ("terminated", "truncated"):
        return SuccessRule(text, what, last)
    if re.fullmatch(r"[\w.]+:\w+", what):
        return SuccessRule(text, "function", last, what, function=_imported(what, text))
    raise StudyError(f"found success = {text!r}; expected {FORMS}; correct it")


def _imported(path: str, text: str) -> Judge:
    function = imported_for("success", text, path, "MODULE:FUNCTION")
    if not callable(function):
        raise StudyError(
            f"found success = {text!r}, which is no function; expected one of an episode so far; correct it"
        )
    return cast("Judge", function)
