"""How far the steps of plans in words, laid over demonstrations, agree with the labels of plans in numbers.

Each step of a plan in words counts as the skill that the plan in numbers names most often while it lasts. Run after `lago segment words`:
`.venv/bin/python scripts/label_agreement.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lago_skills.data.labels import label
from lago_skills.playbook import CompiledPlaybook
from lago_skills.stages import collect, plan, segment
from lago_skills.stages.workspace import open_workspace

ROOT = Path(__file__).resolve().parent.parent
NEAR = 5
"""Control steps by which a boundary may be elsewhere in the second figure."""


def main() -> None:
    """Print both figures, task by task and over all steps."""
    words = open_workspace(ROOT, ROOT / "data/studies/words.toml")
    numbers = open_workspace(ROOT, ROOT / "data/studies/metaworld.toml")
    grounding, (segments, _) = words.study.grounding, segment.load(words.artifact("segments"))
    books = plan.plans(numbers)
    totals = np.zeros(3)
    for task, runs in collect.load(words.collected).items():
        book = books[task].book
        assert book is not None
        steps = book.steps
        skills = list(dict.fromkeys(step.skill for step in steps))
        skill_of = np.array([skills.index(step.skill) for step in steps])
        compiled = CompiledPlaybook(book, grounding.vocabulary)
        pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for index, run in enumerate(runs):
            own = np.zeros(len(run.actions), np.int64)
            for item in segments:
                if (item.task_id, item.episode) == (task, index):
                    own[item.start : item.stop] = item.step
            pairs.append((own, skill_of[label(run, compiled, grounding)]))
        counts = np.zeros((max(int(own.max()) for own, _ in pairs) + 1, len(skills)))
        for own, theirs in pairs:
            np.add.at(counts, (own, theirs), 1)
        best = counts.argmax(axis=1)
        near = sum(
            int(best[own[i]] in theirs[max(i - NEAR, 0) : i + NEAR + 1])
            for own, theirs in pairs
            for i in range(len(own))
        )
        row = np.array([counts.max(axis=1).sum(), near, counts.sum()])
        totals += row
        print(f"{task:<16} {row[0] / row[2]:.2f}  within {NEAR} control steps {row[1] / row[2]:.2f}")
    print(f"{'all':<16} {totals[0] / totals[2]:.3f} within {NEAR} control steps {totals[1] / totals[2]:.3f}")


if __name__ == "__main__":
    main()
