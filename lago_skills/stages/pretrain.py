"""Pretrain: the decoder, with d3rlpy."""

from __future__ import annotations

from pathlib import Path

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter, verify
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.steps import LabelledSteps, Phrases
from lago_skills.decoder.trained_decoder import Decoder, load_decoder
from lago_skills.stages import segment
from lago_skills.stages.job import Job, digest
from lago_skills.stages.workspace import Workspace

VERSION = 3
DECODER_FILE = "decoder.safetensors"


def jobs(space: Workspace) -> list[Job]:
    """One job: the decoder."""
    return [job(space, space.study.seed, space.artifact("decoder"))]


def job(space: Workspace, seed: int, folder: Path, *, learn_text: bool = True) -> Job:
    """Pretrain a decoder with a seed into a folder, perhaps without a text head of its own."""
    study = space.study
    config = study.decoder.of_actions(study.grounding.action_space)

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        from lago_skills.stages.planning.phrases import phrases

        shown = segment.labelled(space)
        words = None
        if config.uses_phrases:
            words = phrases(shown.skills, space.transcripts, study.all_tasks, study.grounding.synonyms)
        fit(writer, shown.steps(config, study.weighting), config, seed, words, progress, learn_text=learn_text)

    recipe = {
        "stage": "pretrain",
        "version": VERSION,
        "playbooks": digest(space.artifact("playbooks")),
        "episodes": {task: digest(episodes) for task, episodes in space.collected.items()},
        "segments": digest(space.artifact("segments")),
        "seed": seed,
        **config.model_dump(mode="json"),
        **study.world_recipe(),
    }
    if not learn_text:
        recipe["text"] = "as embedded"
    if study.data:  # scripted demonstrations all succeed, and then all count alike
        recipe["weighting"] = study.weighting.model_dump(mode="json")
    return Job("pretrain", folder.name, folder, recipe, config.n_updates, "updates", make)


def fit(
    writer: ArtifactWriter,
    steps: LabelledSteps,
    config: DecoderConfig,
    seed: int,
    words: Phrases | None,
    progress: Progress,
    *,
    learn_text: bool = True,
) -> None:
    """Pretrain a decoder on labelled steps and write it, with its figures as the summary."""
    from lago_skills.decoder.pretrain import pretrain

    decoder, figures = pretrain(
        steps, config, seed, lambda update, m: progress(update, f"loss {m['loss']:.2f}"), words, learn_text=learn_text
    )
    decoder.save(writer.path / DECODER_FILE)
    writer.summary = {"steps": len(steps.actions), **{name: round(value, 4) for name, value in figures.items()}}


def load(folder: Path) -> Decoder:
    """A pretrained decoder.

    Raises:
        ArtifactMissing: there is none in that folder.
        ArtifactCorrupt: it is damaged.
    """
    verify(folder)
    return load_decoder(folder / DECODER_FILE)
