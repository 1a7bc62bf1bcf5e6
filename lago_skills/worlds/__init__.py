"""Environment families: what tasks there are, how they are sensed, when they are solved."""

from __future__ import annotations

DEFAULT = "metaworld"
"""The world of a study that names none, and of bundles of before they named one."""
