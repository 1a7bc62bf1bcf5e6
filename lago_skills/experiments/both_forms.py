"""A table of cells (method, task, seed) of one study in words, with the plans in numbers of the study `NAME-numbers` beside it."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from lago_skills.core import PlanForm
from lago_skills.experiments.cells import Cell
from lago_skills.experiments.replicate import Replicate
from lago_skills.experiments.table import Choice, Table, demonstrated_tasks, refuse
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.study import Study, study_path

NUMBERS = "-numbers"
"""What the study of plans in numbers is called, behind the study's own name."""


class BothForms(Table):
    """What such tables share: their cells, the group of each task, and replicates of both studies."""

    known_methods: ClassVar[tuple[str, ...]]
    usual_methods: ClassVar[tuple[str, ...]]
    """What is measured where nobody says what."""

    def usual_tasks(self, study: Study) -> list[str]:
        """Tasks that are measured where nobody says which; all by default."""
        return demonstrated_tasks(study)

    def cells(self, choice: Choice) -> list[Cell]:
        """Seeds, then methods, then tasks."""
        study, names = self.space.study, choice.methods or list(self.usual_methods)
        refuse("method", [name for name in names if name not in self.known_methods], ", ".join(self.known_methods))
        known = demonstrated_tasks(study)
        tasks = choice.tasks_of(study, known, f"a task of the study, {', '.join(known)}", self.usual_tasks(study))
        return [
            self.schema.cell(study=study.name, method=method, task=task, seed=seed)
            for seed in choice.seeds_of()
            for method in names
            for task in tasks
        ]

    @cached_property
    def levels(self) -> dict[str, str]:
        """Group of each task."""
        return {task: name for name, tasks in self.space.world.groups.items() for task in tasks}

    @cached_property
    def _in_numbers(self) -> Workspace:
        return open_workspace(self.space.root, study_path(self.space.study.name + NUMBERS, self.space.root))

    def in_form(self, form: PlanForm, seed: int) -> Replicate:
        """The study with this seed, or that of plans in numbers."""
        return self.replicate(seed, space=self._in_numbers if form == "numbers" else self.space)
