"""Which processor this is: speeds are told with it."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """Name, family and model as Linux says them of its first processor; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if {"model name", "cpu family", "model"} <= set(values):
        return f"{values['model name']}, family {values['cpu family']}, model {values['model']}"
    return platform.processor() or platform.machine()
