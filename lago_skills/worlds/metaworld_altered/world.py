"""Meta-World with ten altered tasks beside its own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from lago_skills.core import Task
from lago_skills.errors import StudyError
from lago_skills.worlds.metaworld.world import MetaWorld
from lago_skills.worlds.metaworld_altered.tasks import ALTERED_TASKS, GROUPS, SEALED, UNALTERED_TASKS
from lago_skills.worlds.offscreen import prepare_rendering
from lago_skills.worlds.world import Demonstrator, Provenance, find_tasks

if TYPE_CHECKING:
    from lago_skills.worlds.metaworld.env import MetaWorldEnv

SCRIPT = "unaltered-script"
"""What the scripted policy that Meta-World has for the original task is called."""
STRAIGHT = "straight"
"""What those few lines are called that know neither plans nor demonstrations."""


class AlteredMetaWorld(MetaWorld):
    """Thirty tasks of Meta-World as they are, so that its demonstrations and its library are the same here, and ten altered ones.

    Robot, observation, action, horizon and start seeds are Meta-World's. Altered tasks have a sparse reward alone, by their own goals.
    """

    name = "metaworld-altered"
    groups: Mapping[str, tuple[str, ...]] = GROUPS

    def __init__(self) -> None:
        super().__init__()
        self.tasks: Mapping[str, Task] = {**UNALTERED_TASKS, **ALTERED_TASKS}

    def find(self, names: list[str]) -> tuple[Task, ...]:
        """Tasks for names of tasks and groups, in order, without repeats.

        Raises:
            StudyError: an unknown name, or a task of Meta-World's exam.
        """
        sealed = [name for name in names if name == "twenty" or name in SEALED]
        if sealed:
            raise StudyError(
                f"world {self.name!r}: found task {sealed[0]!r}, which is one of the twenty of Meta-World's exam; expected a task of "
                f"{', '.join(self.groups)}, since the exam is never played beside tasks that are made to be looked at; leave it out, or use "
                "world 'metaworld'"
            )
        return find_tasks(self, names)

    def make(self, task: str, *, reward: str = "sparse", rendered: bool = False) -> MetaWorldEnv:
        """An environment of a task.

        Raises:
            StudyError: no such task, a reward that it does not have, or Meta-World is not installed.
        """
        (known,) = self.find([task])
        if known.id not in ALTERED_TASKS:
            return super().make(task, reward=reward, rendered=rendered)
        if reward != "sparse":
            raise StudyError(
                f"world {self.name!r}: found reward {reward!r} of task {task!r}; expected sparse, since Meta-World's dense reward is of the "
                "task before it was altered; correct it"
            )
        if rendered:
            prepare_rendering()
        try:
            from lago_skills.worlds.metaworld_altered.env import AlteredEnv

            return AlteredEnv(known)
        except ImportError as error:
            raise StudyError(
                f"world {self.name!r}: found no metaworld here ({error}); expected it; install it with: pip install 'lago-skills[metaworld]'"
            ) from error

    def demonstrator(self, task: str) -> Demonstrator:
        """A rule of a few lines for each altered task; the package's scripted policy of the others."""
        (known,) = self.find([task])
        if known.id not in ALTERED_TASKS:
            return super().demonstrator(task)
        from lago_skills.worlds.metaworld_altered.demonstrators import demonstrator

        return demonstrator(known.id)

    def rules(self, task: str) -> Mapping[str, Demonstrator]:
        """Meta-World's scripted policy of the task, or of that which it was made from; and straight to the object, then to the goal."""
        (known,) = self.find([task])
        from lago_skills.worlds.metaworld.env import scripted
        from lago_skills.worlds.metaworld_altered.demonstrators import straight

        return {SCRIPT: scripted(known), STRAIGHT: straight}

    def provenance(self, task: str) -> Provenance:
        """The package, and who demonstrates."""
        (known,) = self.find([task])
        if known.id not in ALTERED_TASKS:
            return super().provenance(task)
        try:
            package = f"metaworld=={version('metaworld')}"
        except PackageNotFoundError:
            package = "metaworld"
        return Provenance("rules of a few lines (lago_skills.worlds.metaworld_altered)", (package,))
