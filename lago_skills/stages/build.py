"""Build: demonstrated skill sentences go into the study's library, which keeps all else that it holds; and the bundle of a guide."""

from __future__ import annotations

import shutil
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter, file_hash
from lago_skills.artifacts.folder import fingerprint as json_fingerprint
from lago_skills.artifacts.tensors import save_arrays
from lago_skills.core import Playbook, Segment, Skill
from lago_skills.decoder.dataset import segment_inputs
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.guide.bundle import LIBRARY_DIR, load_bundle, write_bundle
from lago_skills.guide.description import DESCRIPTION_FILE
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.retrieval import RetrievalConfig
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.library.exchange import fingerprint
from lago_skills.library.storage.sqlite_file import STORE_FILE
from lago_skills.library.storage.store import SkillStore
from lago_skills.query.query_network import LearnedQuery
from lago_skills.stages import pretrain, query, segment
from lago_skills.stages.job import Job, digest
from lago_skills.stages.segment import Labelled
from lago_skills.stages.workspace import Workspace
from lago_skills.study import GuideConfig
from lago_skills.worlds.grounding import Grounding

VERSION = 2
BUILDER = "build"
"""Who changes the library when a study is built."""
DECODER_FILE, PROBES_FILE = "decoder.safetensors", "probes.safetensors"
N_PROBES = 128
"""Demonstrated states in which two skills are compared by what they do."""


def jobs(space: Workspace) -> list[Job]:
    """One job: the study's library and the bundle, which holds a frozen copy of it."""
    study, decoder_dir = space.study, space.artifact("decoder")

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        decoder, shown = pretrain.load(decoder_dir), segment.labelled(space)
        learned = query.wanted(space, decoder_dir, study.seed)
        with opened(space.library, decoder) as library:
            place_decoder(space.library, decoder_dir / pretrain.DECODER_FILE, probes(shown))
            decoder_name = file_hash(space.library / DECODER_FILE)
            update(library, shown.segments, decoder, decoder_name, shown.embeddings)
            library.compact()
            latents = step_latents(shown.books, decoder, shown.embeddings)
            settings = retrieval(study.guide)
            world = study.load_world()
            write_bundle(writer.path, decoder, library, shown.books, latents, settings, learned, world, shown.ends)
            writer.uncounted.add(DESCRIPTION_FILE)  # it says what the others say, for readers
            summarise(writer, library, shown.books)
            progress(1, f"{library.n_active} skills, {len(shown.books)} playbooks")

    recipe = {
        "stage": "build",
        "version": VERSION,
        "decoder": digest(decoder_dir),
        "segments": digest(space.artifact("segments")),
        "playbooks": digest(space.artifact("playbooks")),
        "edits": edits(space.library),
        **study.guide.model_dump(),
        **study.world_recipe(),
    }
    if study.guide.query != "playbook":
        recipe["learned"] = query.job(space, decoder_dir, study.seed).recipe
    return [Job("build", "bundle", space.artifact("bundle"), recipe, 1, "bundles", make)]


def summarise(writer: ArtifactWriter, library: SkillLibrary, books: dict[str, Playbook]) -> None:
    """The summary of a bundle, and what the digest of its copy of the library is made from."""
    for path in (writer.path / LIBRARY_DIR).rglob("*"):  # the copy's own name and times are not what it says
        writer.content[path.relative_to(writer.path).as_posix()] = ""
    writer.content[f"{LIBRARY_DIR}/{STORE_FILE}"] = fingerprint(library)
    writer.summary = {
        "skills": library.n_active,
        "records": len(library),
        "playbooks": len(books),
        "latent_size": library.latent_size,
    }


def edits(folder: Path) -> str:
    """What people have changed in a library: a bundle is out of date when they change more."""
    if not (folder / STORE_FILE).exists():
        return ""
    with closing(SkillStore(folder, "read")) as store:  # a library itself would bring its index, and FAISS with it
        by_people = [[change.id, change.action] for change in store.changes() if change.who != BUILDER]
    return json_fingerprint(by_people) if by_people else ""


def opened(folder: Path, decoder: Decoder) -> SkillLibrary:
    """The library of a folder, to be written; a new one where there is none."""
    if (folder / STORE_FILE).exists():
        return SkillLibrary.open(folder, mode="write", timeout_s=60.0)
    return SkillLibrary.create(folder, decoder.latent_size)


def place_decoder(library: Path, decoder_file: Path, inputs: NDArray[np.float32]) -> None:
    """Beside a library: the decoder that its latents are for, and (P, I) states to compare skills in."""
    temporary = library / f".{DECODER_FILE}.tmp"
    shutil.copyfile(decoder_file, temporary)
    temporary.replace(library / DECODER_FILE)
    temporary = library / f".{PROBES_FILE}.tmp"
    save_arrays({"inputs": inputs}, temporary)
    temporary.replace(library / PROBES_FILE)


def probes(shown: Labelled) -> NDArray[np.float32]:
    """(P, I) decoder inputs in the middle of demonstrated segments, evenly over all of them."""
    rows: list[NDArray[np.float32]] = []
    chosen: list[int] = np.unique(np.linspace(0, len(shown.segments) - 1, N_PROBES).astype(int)).tolist()
    for number in chosen:
        item = shown.segments[number]
        heads = None if shown.ends is None else shown.ends.fitted[number]
        inputs = segment_inputs(item, shown.episodes[item.task_id][item.episode], shown.books, shown.grounding, heads)
        rows.append(inputs[len(inputs) // 2][None])
    return np.concatenate(rows)


def retrieval(config: GuideConfig) -> RetrievalConfig:
    """The settings of a study's guide, as a guide takes them."""
    return RetrievalConfig(**config.model_dump())


def assemble(
    shown: Labelled, decoder: Decoder, config: RetrievalConfig, learned: LearnedQuery | None = None
) -> LibraryGuide:
    """A guide from nothing but labelled demonstrations and a decoder; its library is in memory.

    It has a skill for every sentence of the segments, and latents for every step of the playbooks.
    """
    skills = _demonstrated(shown.segments, decoder, shown.embeddings).values()
    library = SkillLibrary.in_memory(decoder.latent_size, skills)
    latents = step_latents(shown.books, decoder, shown.embeddings)
    return LibraryGuide(shown.grounding, decoder, library, shown.books, latents, config, learned, shown.ends)


def step_latents(
    books: dict[str, Playbook], decoder: Decoder, embeddings: dict[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """By plan, (n_steps, Z) what its steps are looked up with."""
    return {
        name: decoder.latents(np.stack([embeddings[step.sentence] for step in book.steps]))
        for name, book in books.items()
    }


def _demonstrated(
    segments: list[Segment], decoder: Decoder, embeddings: dict[str, NDArray[np.float32]]
) -> dict[str, NewSkill]:
    """One skill per demonstrated sentence, in order of appearance."""
    by_sentence: defaultdict[str, list[Segment]] = defaultdict(list)
    for item in segments:
        by_sentence[item.skill].append(item)
    latents = decoder.latents(np.stack([embeddings[sentence] for sentence in by_sentence]))
    return {
        sentence: NewSkill(
            sentence=sentence,
            latent=latent,
            embedding=embeddings[sentence],
            provenance={"by": BUILDER, "label": sentence, **segment.provenance(items)},
            support={"segments": float(len(items)), "steps": float(sum(s.stop - s.start for s in items))},
        )
        for (sentence, items), latent in zip(by_sentence.items(), latents, strict=True)
    }


def update(
    library: SkillLibrary,
    segments: list[Segment],
    decoder: Decoder,
    decoder_name: str,
    embeddings: dict[str, NDArray[np.float32]],
) -> None:
    """Bring a library up to date with segments and a decoder; what people added or changed stays as they left it.

    All latents are made anew if the decoder is another one. A skill that an earlier build added and that is no longer
    demonstrated is disabled, not removed, and enabled again when it comes back; one that a person disabled stays disabled.
    """
    if library.decoder != decoder_name:
        _embed_missing(library)
        library.reembed(lambda sentences, e: decoder.latents(e), decoder_name, who=BUILDER)
    wanted = _demonstrated(segments, decoder, embeddings)
    known = {str(s.provenance.get("label")): s for s in library.list() if s.provenance.get("by") == BUILDER}
    library.add_many([skill for label, skill in wanted.items() if label not in known], who=BUILDER)
    for label, skill in known.items():
        if skill.merged_into is None:
            _refresh(library, skill, wanted.get(label))


def _refresh(library: SkillLibrary, skill: Skill, wanted: NewSkill | None) -> None:
    retired = bool(skill.provenance.get("retired"))
    if wanted is None:
        if skill.enabled:
            library.edit(skill.id, provenance={**skill.provenance, "retired": True}, who=BUILDER)
            library.disable(skill.id, who=BUILDER)
        return
    provenance = {**skill.provenance, **wanted.provenance}
    provenance.pop("retired", None)
    if provenance != skill.provenance or wanted.support != skill.support:
        library.edit(skill.id, provenance=provenance, support=dict(wanted.support), who=BUILDER)
    if retired:
        library.enable(skill.id, who=BUILDER)


def _embed_missing(library: SkillLibrary) -> None:
    """Sentences that people added without an embedding get one."""
    skills = library.list()
    known = library.store.embeddings([skill.sentence for skill in skills])
    missing = [skill for skill in skills if skill.sentence not in known]
    if missing:
        from lago_skills.text.embed import embed

        for skill, vector in zip(missing, embed([skill.sentence for skill in missing]), strict=True):
            with library.changing("embed", BUILDER) as change:
                change.embed(skill.sentence, vector)


def guide(bundle: Path, grounding: Grounding) -> LibraryGuide:
    """The guide of a bundle.

    Raises:
        ArtifactMissing: the stage has not run.
        ArtifactCorrupt: the bundle is damaged.
    """
    return load_bundle(bundle, grounding=grounding)
