"""How well states unlike the training's are noticed: `python -m tests.unfamiliar BUNDLE` prints shares of states called unfamiliar, by task.

States are those that episodes led by the bundle visit, and the same spoiled as users spoil them: other units, another order, another frame.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from lago_skills.commands.bundles.bench import visited
from lago_skills.guide.loaded import load


def main(path: Path) -> None:
    guide = load(path, unfamiliar="answer")
    order = np.random.default_rng(0).permutation(guide.guide.grounding.observation_size)
    means: list[list[float]] = []
    print(
        "task, greatest unfamiliarity visited, share unfamiliar: visited, x 100, x 10, entries in random order, all 1 more"
    )
    for name in guide.tasks:
        task, states = guide.task(name), visited(guide, name)
        spoiled = (states, 100.0 * states, 10.0 * states, states[:, order], states + 1.0)
        shares = [float(task.answer(each).unfamiliar.mean()) for each in spoiled]
        means.append(shares)
        print(name, round(float(task.answer(states).unfamiliarity.max()), 3), *(f"{each:.2f}" for each in shares))
    print("mean", *(f"{each:.2f}" for each in np.mean(means, axis=0).tolist()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
