"""Skills that nobody named: stretches of demonstrations that the library explains badly are grouped by what they do, and a language model is asked for their sentences.

A stretch is a run of steps whose actions are no likelier under their own sentence than at random. Those of a task are cut at change points and grouped in numbers,
as data without a playbook is; each group gets a sentence of a recorded answer, its stretches become segments of that sentence, and a version is made.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import file_hash
from lago_skills.core import Episode, Segment
from lago_skills.data.motion_clusters import Motions, motion_segments
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.errors import StudyError
from lago_skills.grow import material
from lago_skills.grow.checks import step_scores
from lago_skills.grow.comparing import changes
from lago_skills.grow.judging import judged
from lago_skills.grow.making import first_version, guide_of, write_version
from lago_skills.grow.refresh import refreshed
from lago_skills.grow.settings import Settings
from lago_skills.grow.skills import grown_library
from lago_skills.grow.versions import Version, Versions
from lago_skills.guide.bundle import DECODER_FILE, load_bundle
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner.ask import BEST
from lago_skills.planner.motion_names import Naming, read_names
from lago_skills.stages.planning.measured_motions import motions_of
from lago_skills.stages.segment import Labelled
from lago_skills.stages.workspace import Workspace

LEAST_STRETCHES = 3
"""Of a task: fewer are no kind of motion."""


@dataclass(frozen=True)
class Stretch:
    """Steps of an episode that their sentence does not explain."""

    segment: int
    """Place among the segments of what was shown."""
    start: int
    stop: int  # exclusive


@dataclass(frozen=True)
class Unnamed:
    """What of a task is badly explained, and the kinds of motion that it falls into."""

    stretches: tuple[Stretch, ...]
    slices: tuple[Episode, ...]
    """The part of its episode that each stretch is."""
    motions: Motions


def runs_below(scores: NDArray[np.float64], least_steps: int) -> list[tuple[int, int]]:
    """(T,) -> the runs of at least so many steps, from one below zero to another, in which the mean over such a window stays below zero: (start, stop)."""
    if len(scores) < least_steps:
        return []
    windows = np.convolve(scores, np.full(least_steps, 1.0 / least_steps), mode="valid") < 0.0
    bad = np.zeros(len(scores), np.bool_)
    places: list[int] = np.flatnonzero(windows).tolist()
    for place in places:
        bad[place : place + least_steps] = True
    edges: list[int] = np.flatnonzero(np.diff(np.concatenate([[False], bad, [False]]).astype(np.int8))).tolist()
    runs: list[tuple[int, int]] = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        below: list[int] = (start + np.flatnonzero(scores[start:stop] < 0.0)).tolist()
        if below[-1] + 1 - below[0] >= least_steps:
            runs.append((below[0], below[-1] + 1))
    return runs


def unexplained(space: Workspace, shown: Labelled, decoder: Decoder) -> dict[str, Unnamed]:
    """By task id, what the library explains badly of its demonstrations.

    Raises:
        StudyError: plans are in words, whose sentences say what is meant: a stretch without one cannot be read.
    """
    if shown.ends is not None:
        raise StudyError(
            "found plans in words; expected plans in numbers, since what a stretch without a plan's sentence is about is not known in words; leave --unnamed out"
        )
    config = space.study.segment
    by_task: defaultdict[str, list[Stretch]] = defaultdict(list)
    for number, item in enumerate(shown.segments):
        scores = step_scores(shown, item, number, decoder)
        for start, stop in runs_below(scores, config.min_steps):
            by_task[item.task_id].append(Stretch(number, item.start + start, item.start + stop))
    found: dict[str, Unnamed] = {}
    for task, stretches in by_task.items():
        if len(stretches) < LEAST_STRETCHES:
            continue
        slices = [_slice(shown, each) for each in stretches]
        found[task] = Unnamed(tuple(stretches), tuple(slices), motions_of(task, slices, shown.grounding, config))
    return found


def _slice(shown: Labelled, stretch: Stretch) -> Episode:
    item = shown.segments[stretch.segment]
    whole = shown.episodes[item.task_id][item.episode]
    return replace(
        whole,
        observations=whole.observations[stretch.start : stretch.stop + 1],
        actions=whole.actions[stretch.start : stretch.stop],
        rewards=whole.rewards[stretch.start : stretch.stop],
    )


def names_of(space: Workspace, found: dict[str, Unnamed]) -> Naming:
    """Their sentences, as far as they are recorded; `open` is the request that is to be answered next."""
    tasks = space.world.tasks
    model = space.study.plan.model
    pairs = [(tasks[name], each.motions) for name, each in found.items()]
    transcripts = TranscriptFile(space.transcripts)
    return read_names(pairs, space.study.grounding, transcripts, None if model == BEST else model)


def renamed(shown: Labelled, found: dict[str, Unnamed], naming: Naming, space: Workspace) -> tuple[Labelled, list[int]]:
    """What was shown with its badly explained stretches under their new sentences, and which of its segments are new."""
    from lago_skills.text.embed import embed

    config = space.study.segment
    cuts: defaultdict[int, list[Segment]] = defaultdict(list)
    for task, each in found.items():
        named = motion_segments(
            each.motions, list(each.slices), shown.grounding, config.penalty, config.min_steps, naming.names[task]
        )
        for item in named:
            stretch = each.stretches[item.episode]
            whole = shown.segments[stretch.segment]
            moved = replace(
                item, episode=whole.episode, start=item.start + stretch.start, stop=item.stop + stretch.start
            )
            cuts[stretch.segment].append(moved)
    segments, new = list[Segment](), list[int]()
    for number, item in enumerate(shown.segments):
        at = item.start
        for part in cuts.get(number, []):
            if part.start > at:
                segments.append(replace(item, start=at, stop=part.start))
            new.append(len(segments))
            segments.append(part)
            at = part.stop
        if at < item.stop:
            segments.append(replace(item, start=at))
    lacking = [sentence for sentence in naming.words if sentence not in shown.embeddings]
    vectors = dict(zip(lacking, embed(lacking), strict=True)) if lacking else {}
    return replace(shown, segments=segments, embeddings={**shown.embeddings, **vectors}), new


def current_unnamed(space: Workspace) -> tuple[Version, Labelled, dict[str, Unnamed]]:
    """The version in use of a study, what it was made from, and what of that it explains badly.

    Raises:
        ArtifactMissing: nothing has been built.
        StudyError: plans are in words, or there is nothing of the kind.
    """
    versions = Versions(space.artifact("grown"))
    version = versions.current or first_version(space, versions)
    shown, guide = (
        material.load(version.folder, space.study),
        load_bundle(version.folder, grounding=space.study.grounding),
    )
    with closing(guide.library):
        found = unexplained(space, shown, guide.decoder)
    if not found:
        raise StudyError(
            f"found no task of version {version.number} with {LEAST_STRETCHES} stretches that its sentences do not explain; expected some to name; nothing has to be done"
        )
    return version, shown, found


def named(
    space: Workspace,
    version: Version,
    shown: Labelled,
    found: dict[str, Unnamed],
    naming: Naming,
    settings: Settings,
    say: Callable[[str], None],
) -> Version:
    """A version whose library has the new sentences as skills; in use afterwards, unless it is held."""
    began, versions = time.monotonic(), Versions(space.artifact("grown"))
    after, new = renamed(shown, found, naming, space)
    old = load_bundle(version.folder, grounding=space.study.grounding)
    number = int(versions.next_folder().name)
    with closing(old.library), tempfile.TemporaryDirectory(prefix="lago-grow-") as scratch:
        tasks = space.world.find(list(found))
        decoder = refreshed(space, tasks[0], after, new, old.decoder, settings.ways[0], say)
        decoder.save(Path(scratch) / DECODER_FILE)
        items = [after.segments[place] for place in new]
        note = {"version": number, "task": "", "from": ["stretches that nothing explained"], "learned": ["named later"]}
        library = grown_library(
            old.library,
            Path(scratch) / "library",
            decoder,
            file_hash(Path(scratch) / DECODER_FILE),
            items,
            after.embeddings,
            note,
        )
        with library:
            guide = guide_of(space, decoder, library, after)
            by_skill = changes(
                old.decoder,
                decoder,
                {s: shown.embeddings[s] for s in shown.skills},
                material.load_probes(version.folder),
            )
            growth: dict[str, Any] = {
                "number": number,
                "before": version.number,
                "named": _summary(found, naming),
                "refreshed": True,
                **judged(space.world, version.outcomes, (old, guide), by_skill, None, settings, say).growth,
                "skills": library.n_active,
                "seconds": round(time.monotonic() - began, 1),
            }
            probes = material.load_probes(version.folder)
            write_version(space, versions.next_folder(), guide, after, probes, growth, version)
    return versions.get(number) if growth["verdict"] == "held" else versions.use(number)


def _summary(found: dict[str, Unnamed], naming: Naming) -> list[dict[str, Any]]:
    """By task and kind of motion: its sentence, how often it occurs, and whose words they are."""
    return [
        {"task": task, "skill": naming.names[task][motion.number], "model": naming.answers[task].model}
        | {name: value for name, value in asdict(motion).items() if name in ("number", "n_segments", "n_steps")}
        for task, each in found.items()
        for motion in each.motions.motions
    ]


def lines_of(found: dict[str, Unnamed], names: Sequence[str] = ()) -> list[str]:
    """For people."""
    return [
        f"{task}: {len(each.stretches)} stretches of {sum(s.stop - s.start for s in each.stretches)} steps that no sentence explains, "
        f"{len(each.motions.motions)} kinds of motion"
        for task, each in found.items()
    ] + [f"named: {name!r}" for name in names]
