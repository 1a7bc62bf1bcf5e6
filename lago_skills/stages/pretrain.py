"""Pretrain: the decoder, with d3rlpy."""

from __future__ import annotations

from pathlib import Path

from lago_skills.artifacts.folder import ArtifactWriter, verify
from lago_skills.artifacts.workers import Progress
from lago_skills.decoder.dataset import labelled_steps
from lago_skills.decoder.runtime import Decoder, load_decoder
from lago_skills.stages import collect, plan, segment
from lago_skills.stages.job import Job, digest
from lago_skills.stages.workspace import Workspace

VERSION = 3
DECODER_FILE = "decoder.safetensors"


def jobs(space: Workspace) -> list[Job]:
    """One job: the decoder."""
    return [job(space, space.study.seed, space.artifact("decoder"))]


def job(space: Workspace, seed: int, folder: Path, *, learn_text: bool = True) -> Job:
    """Pretrain a decoder with a seed into a folder, perhaps without a text head of its own."""
    config = space.study.decoder.of_actions(space.study.grounding.action_space)

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        from lago_skills.decoder.pretrain import pretrain
        from lago_skills.stages.planning.phrases import phrases

        segments, embeddings = segment.load(space)
        steps = labelled_steps(
            collect.load(space.collected),
            plan.playbooks(space),
            segments,
            embeddings,
            space.study.grounding,
            config,
            space.study.weighting,
            segment.ends(space),
        )
        words = (
            phrases(space, list(dict.fromkeys(segment.skill for segment in segments))) if config.uses_phrases else None
        )
        decoder, figures = pretrain(
            steps,
            config,
            seed,
            lambda update, m: progress(update, f"loss {m['loss']:.2f}"),
            words,
            learn_text=learn_text,
        )
        decoder.save(writer.path / DECODER_FILE)
        writer.summary = {"steps": len(steps.actions), **{name: round(value, 4) for name, value in figures.items()}}

    recipe = {
        "stage": "pretrain",
        "version": VERSION,
        "playbooks": digest(space.artifact("playbooks")),
        "episodes": {task.id: digest(space.episodes(task.id)) for task in space.study.seen},
        "segments": digest(space.artifact("segments")),
        "seed": seed,
        **config.model_dump(mode="json"),
    }
    if not learn_text:
        recipe["text"] = "as embedded"
    if space.study.data:  # scripted demonstrations all succeed, and then all count alike
        recipe["weighting"] = space.study.weighting.model_dump(mode="json")
    return Job("pretrain", folder.name, folder, recipe, config.n_updates, "updates", make)


def load(folder: Path) -> Decoder:
    """A pretrained decoder.

    Raises:
        ArtifactMissing: there is none in that folder.
        ArtifactCorrupt: it is damaged.
    """
    verify(folder)
    return load_decoder(folder / DECODER_FILE)
