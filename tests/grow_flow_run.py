"""`python -m tests.grow_flow_run ROOT`: the flow of growth on the plane, with a version that is held, in a process of its own; prints its rows."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from lago_skills.grow import growth
from lago_skills.grow.judging import Judgement


def main() -> None:
    """Run it; Prefect's server is that of the environment."""
    real = growth.judged

    def held(*arguments: Any) -> Judgement:
        judgement = real(*arguments)
        return replace(judgement, growth={**judgement.growth, "verdict": "held", "reason": "visit falls"})

    growth.judged = held
    from lago_skills.flows.growing import grow

    print(json.dumps(grow("plane", ["fetch"], root=Path(sys.argv[1]), wait_s=120)))  # noqa: T201


if __name__ == "__main__":
    main()
