"""JSON objects in an answer: all of them, in linear time, whatever stands around them.

A reader that starts at the first brace takes a draft, a restated schema or a brace in prose for the answer. This one lists every complete
object; whoever asks takes the last that is what it wants. Slips that leave no doubt are read (a comma before a closing bracket, a comment, a
line break inside a string); anything else is a flaw, said with its place. What was cut off is never completed.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, cast

MAX_DEPTH = 64
MAX_PASSES = 8
"""How often the same characters may be looked at: braces inside of what turned out not to be an object are tried again, up to here."""
_REASONING = r"think|thinking|thought|thoughts|reasoning|analysis|scratchpad|reflection"
_TAG = re.compile(rf"<(/?)(?:{_REASONING})>", re.IGNORECASE)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_SPACE = re.compile(r"(?:[ \t\r\n\u00a0\ufeff]+|//[^\n]*)+")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[\w.+-]+")
_CONSTANTS = {"true": True, "false": False, "null": None}
_NOT_FINITE = {"NaN", "Infinity", "-Infinity"}
"""Numbers as Python writes them; whoever asks for a finite one refuses them."""
_PYTHON = {"True": "true", "False": "false", "None": "null"}


@dataclass(frozen=True)
class JsonObject:
    """One complete object of a text."""

    value: dict[str, Any]
    start: int
    """Where its opening brace stands."""
    end: int
    """Just behind its closing brace."""
    in_reasoning: bool
    """Whether it is part of what the model says to itself."""


@dataclass(frozen=True)
class Flaw:
    """Why what begins with a brace is no object."""

    start: int
    place: int
    text: str
    """What was found there and what was expected."""
    cut_off: bool
    """Whether the text simply ends."""


@dataclass(frozen=True)
class JsonText:
    """A text, read."""

    text: str
    objects: tuple[JsonObject, ...]
    """Complete objects that are in no other one, in order."""
    flaws: tuple[Flaw, ...]

    @cached_property
    def _lines(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    def where(self, place: int) -> str:
        """A place as people name it: line 3, column 14."""
        line = bisect_right(self._lines, place)
        return f"line {line}, column {place - self._lines[line - 1] + 1}"

    def with_key(self, key: str) -> list[JsonObject]:
        """Objects that have a key, wherever they are: of nested ones the outermost."""
        return [found for outer in self.objects for found in _nested(outer, key)]


def _nested(outer: JsonObject, key: str) -> Iterator[JsonObject]:
    waiting: list[Any] = [outer.value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            entries = cast("dict[str, Any]", value)
            if key in entries:
                yield JsonObject(entries, outer.start, outer.end, outer.in_reasoning)
            else:
                waiting += list(entries.values())[::-1]
        elif isinstance(value, list):
            waiting += cast("list[Any]", value)[::-1]


@lru_cache(maxsize=1024)
def read_objects(text: str) -> JsonText:
    """All complete objects of a text, and why other braces begin none.

    A command reads each recorded answer several times: what was read is kept, and is not to be changed.
    """
    reasoning = _reasoning(text)
    flaws: list[Flaw] = []
    reader = _Reader(text)
    start, work = text.find("{"), 0
    while start >= 0:
        if start in reader.structural:  # it was tried as part of something around it
            start = text.find("{", start + 1)
            continue
        flaw = reader.read(start)
        if flaw is not None:
            flaws.append(flaw)
        work += reader.place - start
        on = reader.place if flaw is None or work > MAX_PASSES * len(text) else start + 1
        start = text.find("{", on)
    objects = [
        JsonObject(value, first, end, _inside(reasoning, first)) for value, first, end in _outermost(reader.complete)
    ]
    return JsonText(text, tuple(objects), tuple(flaws))


def spoken_length(text: str) -> int:
    """Characters of a text that are not reasoning."""
    return len(text) - sum(high - low for low, high in _reasoning(text))


def _inside(spans: list[tuple[int, int]], place: int) -> bool:
    """Whether a place is in one of these stretches, which are in order and apart."""
    number = bisect_right(spans, place, key=lambda span: span[0]) - 1
    return number >= 0 and spans[number][0] <= place < spans[number][1]


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same stretches in order and apart."""
    apart: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if apart and low <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(high, apart[-1][1]))
        else:
            apart.append((low, high))
    return apart


def _outermost(found: list[tuple[dict[str, Any], int, int]]) -> Generator[tuple[dict[str, Any], int, int]]:
    end = -1
    for each in sorted(found, key=lambda item: (item[1], -item[2])):
        if each[1] >= end:
            end = each[2]
            yield each


def _reasoning(text: str) -> list[tuple[int, int]]:
    """Stretches that are reasoning: up to a closing tag, and from an opening one; channels that are not the final one."""
    spans: list[tuple[int, int]] = []
    begun = 0
    is_open = False
    for tag in _TAG.finditer(text):
        if tag.group(1):  # where the opening tag was part of the prompt, only the closing one comes back
            spans.append((begun if is_open or not spans else spans[-1][1], tag.end()))
            is_open = False
        elif not is_open:
            begun, is_open = tag.start(), True
    if is_open:
        spans.append((begun, len(text)))
    channels = list(_CHANNEL.finditer(text))
    ends = [*(channel.start() for channel in channels), len(text)][1:]
    spans += [(each.start(), end) for each, end in zip(channels, ends, strict=True) if each.group(1) != "final"]
    return _merged(spans)


class _Reader:
    """Reads objects, each from its brace on, without recursion."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.structural: set[int] = set()
        """Brackets that were looked at as such, and not as part of a string."""
        self._last_comment = text.rfind("*/")
        self.place = 0
        self.complete: list[tuple[dict[str, Any], int, int]] = []
        """Objects that were complete, the inner ones of a broken outer one too."""

    def read(self, start: int) -> Flaw | None:
        """Read from a brace on; what is wrong, if something is."""
        self.place = start
        try:
            self._read(start)
        except _Broken as broken:
            return Flaw(start, self.place, str(broken), cut_off=self.place >= len(self.text))
        return None

    def _read(self, start: int) -> None:
        stack: list[tuple[dict[str, Any] | list[Any], int]] = [self._open(start)]
        key: list[str] = [""]
        expects_value = False
        while stack:
            holder, opened = stack[-1]
            self._skip()
            closing = "}" if isinstance(holder, dict) else "]"
            if not expects_value and self._at(closing):
                self.place += 1
                stack.pop()
                key.pop()
                if isinstance(holder, dict):
                    self.complete.append((holder, opened, self.place))
                if stack:
                    self._comma(stack[-1][0])
                continue
            if isinstance(holder, dict) and not expects_value:
                key[-1] = self._key()
                expects_value = True
                continue
            if self._at("{") or self._at("["):
                value, place = self._open(self.place)
                self._put(holder, key[-1], value)
                stack.append((value, place))
                key.append("")
                expects_value = False
                if len(stack) > MAX_DEPTH:
                    raise _Broken(f"found brackets {MAX_DEPTH} deep; expected an answer of a few levels")
                continue
            self._put(holder, key[-1], self._scalar())
            expects_value = False
            self._comma(holder)

    def _open(self, place: int) -> tuple[dict[str, Any] | list[Any], int]:
        self.structural.add(place)
        value: dict[str, Any] | list[Any] = {} if self.text[place] == "{" else []
        self.place = place + 1
        return value, place

    @staticmethod
    def _put(holder: dict[str, Any] | list[Any], key: str, value: Any) -> None:
        if isinstance(holder, dict):
            holder[key] = value
        else:
            holder.append(value)

    def _at(self, mark: str) -> bool:
        return self.text.startswith(mark, self.place)

    def _skip(self) -> None:
        while True:
            if match := _SPACE.match(self.text, self.place):
                self.place = match.end()
            elif self._at("/*") and self.place + 2 <= self._last_comment:
                self.place = self.text.index("*/", self.place + 2) + 2
            else:
                return

    def _found(self) -> str:
        if self.place >= len(self.text):
            return "the end of the text"
        word = _WORD.match(self.text, self.place)
        return repr(word.group()[:20] if word else self.text[self.place])

    def _key(self) -> str:
        if not self._at('"'):
            raise _Broken(f'found {self._found()}; expected a key in "double quotes", or }}')
        name = self._string()
        self._skip()
        if not self._at(":"):
            raise _Broken(f"found {self._found()}; expected : behind the key {name[:40]!r}")
        self.place += 1
        return name

    def _comma(self, holder: dict[str, Any] | list[Any]) -> None:
        """A comma, or what closes; a comma before what closes is let pass."""
        self._skip()
        closing = "}" if isinstance(holder, dict) else "]"
        if self._at(","):
            self.place += 1
        elif not self._at(closing):
            raise _Broken(f"found {self._found()}; expected a comma or {closing}")

    def _string(self) -> str:
        match = _STRING.match(self.text, self.place)
        if match is None:
            self.place = len(self.text)
            raise _Broken("found the end of the text inside a string; expected its closing quote")
        self.place = match.end()
        try:
            return json.loads(f'"{match.group(1)}"', strict=False)
        except ValueError as error:
            self.place = match.start()
            raise _Broken(
                f"found a string with an escape that JSON does not have ({error}); expected \\\\ or \\n"
            ) from error

    def _scalar(self) -> Any:
        if self._at('"'):
            return self._string()
        word = _WORD.match(self.text, self.place)
        said = word.group() if word else ""
        if said in _CONSTANTS:
            self.place += len(said)
            return _CONSTANTS[said]
        if said in _NOT_FINITE:
            self.place += len(said)
            return float(said)
        if said in _PYTHON:
            raise _Broken(f"found {said}; expected {_PYTHON[said]}, as JSON has it")
        number = _NUMBER.fullmatch(said)
        if number is None:
            raise _Broken(f"found {self._found()}; expected a value")
        self.place += len(said)
        whole = not set(said) & set(".eE")
        return int(said) if whole and len(said) < 300 else float(said)


class _Broken(Exception):
    """The text is no object from here on."""
