"""The bundle that is served: which one it is now, whoever is using it, and the one that takes its place."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lago_skills.artifacts.folder import MANIFEST
from lago_skills.errors import LagoError, OtherWorld
from lago_skills.guide.loaded import BundleGuide, TaskGuide, load
from lago_skills.guide.unfamiliar import InUnfamiliar
from lago_skills.library import SkillLibrary
from lago_skills.serve.metrics import Metrics
from lago_skills.serve.requests import Question, check_world, reply_fields

log = logging.getLogger("lago.serve")
LOOK_EVERY_S = 0.5


class Held:
    """A bundle in use: closed when another has taken its place and nobody answers from it any more."""

    def __init__(self, bundle: BundleGuide) -> None:
        self.bundle = bundle
        self.n_users = 0
        self.replaced = False
        self._tasks: dict[str | None, TaskGuide] = {}
        _ = bundle.description, bundle.policies, bundle.world_id  # read now: its folder may be another's later

    def task(self, words: str | None) -> TaskGuide:
        """The guide of a task.

        Raises:
            StudyError: no task is called so.
        """
        known = self._tasks.get(words)
        if known is None:
            known = self.bundle.task(words, any_words=False)
            if len(self._tasks) < 10_000:
                self._tasks[words] = known
        return known


class Service:
    """Answers questions from a bundle, and follows it: a new one at the same place takes over between two answers.

    Args:
        path: of the bundle, a folder or a file.
        library: folder of a skill library to follow instead of the bundle's frozen copy.
        unfamiliar: what is done in states unlike the training's, see `lago_skills.load`.
    """

    def __init__(self, path: Path, library: Path | None = None, unfamiliar: InUnfamiliar | None = None) -> None:
        self.path, self.library = path, library
        self.unfamiliar: InUnfamiliar | None = unfamiliar
        self.metrics = Metrics()
        self._guard = threading.Lock()
        self._stamp = self._look()
        self._held = Held(self._load())
        self.metrics.serves(self._held.bundle.digest)

    def _load(self) -> BundleGuide:
        library = None if self.library is None else SkillLibrary.open(self.library)
        return load(self.path, library=library, unfamiliar=self.unfamiliar)

    @property
    def bundle(self) -> BundleGuide:
        """The one that is served now; use `using` to answer from it."""
        return self._held.bundle

    @contextmanager
    def using(self) -> Generator[Held]:
        """The bundle that is served now; it stays open as long as the block lasts."""
        with self._guard:
            held = self._held
            held.n_users += 1
        try:
            yield held
        finally:
            with self._guard:
                held.n_users -= 1
                over = held.replaced and not held.n_users
            if over:
                held.bundle.close()

    def metadata(self) -> dict[str, Any]:
        """The first frame of a websocket, and `GET /v1/bundle`: what the bundle says of itself, its hash, and how it is asked."""
        bundle = self.bundle
        policies = bundle.policies
        return {
            **bundle.description,
            "bundle": bundle.digest,
            "world_id": bundle.world_id,
            "unfamiliar": bundle.unfamiliar,
            "tasks": [
                {name: task[name] for name in ("id", "sentence", "horizon_steps", "wordings")}
                | {"leader": policies[task["id"]].name if task["id"] in policies else "library"}
                for task in bundle.description["tasks"]
            ],
            "ask": "a map with observations (B, S), task, and perhaps world, step_id, sent_at, max_age_ms, want (prior, explanation)",
        }

    def answer(self, question: Question, observations: Any, came_at: float) -> dict[str, Any]:
        """The reply to a question about (B, S) observations that came at a time of `time.time()`, with arrays.

        Raises:
            StudyError: no such task, or (OtherWorld) the client was written for another world.
            ShapeError: wrong observations.
            UnfamiliarState: such states are refused.
        """
        with self.using() as held:
            check_world(question, held.bundle.world_id)
            task = held.task(question.task)
            began = question.sent_at if question.sent_at is not None else came_at
            late = question.max_age_ms is not None and 1e3 * (time.time() - began) > question.max_age_ms
            answer = None if late else task.answer(observations)
            explained = None
            if answer is not None and "explanation" in question.want:
                explained = task.explain(observations)
            age_ms = 1e3 * (time.time() - began)
            if answer is not None:
                self.metrics.answered(len(observations), int(answer.unfamiliar.sum()))
            else:
                self.metrics.late()
            return reply_fields(question, task.name, held.bundle.digest, answer, len(observations), age_ms, explained)

    # -- following -----------------------------------------------------------------------------------------------------

    def _look(self) -> tuple[int, int, int] | None:
        """What tells one bundle at the path from another; None while there is none."""
        file = self.path / MANIFEST if self.path.is_dir() else self.path
        try:
            stat = file.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def follow(self) -> bool:
        """Serve what lies at the path now, if that is another bundle of the same world. Says whether it took over.

        What cannot be used is refused, with a line in the log; the one before is served on.
        """
        stamp = self._look()
        if stamp is None or stamp == self._stamp:
            return False
        try:
            new = self._load()
            if new.world_id != self.bundle.world_id:
                new.close()
                raise OtherWorld(
                    f"found a bundle of another world at {str(self.path)!r}; expected one of the world that is served; serve it with a process of its own"
                )
        except LagoError as error:
            if self._look() == stamp:  # else it is just being put there: look again
                self._stamp = stamp
                self.metrics.reload_refused()
                log.error("the bundle of before is served on: %s", error)
            return False
        with self._guard:
            old, self._held = self._held, Held(new)
            old.replaced = True
            unused = not old.n_users
        self._stamp = stamp
        if unused:
            old.bundle.close()
        del old
        gc.collect()  # arrays in cycles are few objects and many bytes: Python would not come by for long
        self.metrics.serves(new.digest)
        log.info("serving bundle %s", new.digest[:12])
        return True

    def close(self) -> None:
        """Let the bundle go."""
        self._held.bundle.close()
