"""Which processor this is: how fast matrices are multiplied, and by which library, depends on it."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path


@cache
def _first() -> dict[str, str]:
    """What Linux says of its first processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def processor() -> str:
    """Name, family and model."""
    found = _first()
    if {"model name", "cpu family", "model"} <= set(found):
        return f"{found['model name']}, family {found['cpu family']}, model {found['model']}"
    return platform.processor() or platform.machine()


def is_amd() -> bool:
    """Whether AMD made it, of whatever generation."""
    return _first().get("vendor_id") == "AuthenticAMD"


def is_zen5() -> bool:
    """Whether it is AMD's Zen 5 or later, whose registers of 512 bits compute in one piece."""
    return is_amd() and int(_first().get("cpu family", 0)) >= 26
