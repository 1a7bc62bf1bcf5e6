"""A flow for each stage; see `lago_skills.flows.stages`."""

from __future__ import annotations

from lago_skills.flows.stages import FLOWS as FLOWS
from lago_skills.flows.stages import build as build
from lago_skills.flows.stages import collect as collect
from lago_skills.flows.stages import evaluate as evaluate
from lago_skills.flows.stages import plan as plan
from lago_skills.flows.stages import pretrain as pretrain
from lago_skills.flows.stages import report as report
from lago_skills.flows.stages import segment as segment
from lago_skills.flows.stages import train as train
