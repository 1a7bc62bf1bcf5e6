"""What must never be shown or stored: keys, and headers and passwords that are secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

NAMES = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)
"""How settings are called whose values are secret."""
SHORTEST = 6
"""Shorter words would be removed from texts that have nothing to do with them."""
NOT_SECRET = ("bearer", "basic")
REMOVED = "[key removed]"


@dataclass(frozen=True)
class Secrets:
    """Secret words, longest first."""

    words: tuple[str, ...] = ()

    @staticmethod
    def of(values: Iterable[str]) -> Secrets:
        """Values, their words (as of "Bearer ..."), and how JSON writes them."""
        parts = (part for value in values for part in (value, *value.split()))
        words = {part for part in parts if len(part) >= SHORTEST and part.lower() not in NOT_SECRET}
        escaped = {json.dumps(word)[1:-1] for word in words}
        words |= escaped | {word.replace("/", "\\/") for word in escaped}
        return Secrets(tuple(sorted(words, key=len, reverse=True)))

    def removed_from(self, text: str) -> str:
        """The text without them."""
        for word in self.words:
            text = text.replace(word, REMOVED)
        return text
