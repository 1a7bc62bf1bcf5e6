"""`pipeline`: every stage of a study, one flow; see `lago_skills.flows.pipeline`."""

from __future__ import annotations

from lago_skills.flows.pipeline import pipeline as pipeline
