"""Build: demonstrated skill sentences go into the study's library, which keeps all else that it holds; and the bundle of a guide."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import ArtifactWriter, file_hash
from lago_skills.artifacts.folder import fingerprint as json_fingerprint
from lago_skills.artifacts.tensors import save_arrays
from lago_skills.artifacts.workers import Progress
from lago_skills.core import Playbook, Segment, Skill
from lago_skills.decoder.dataset import segment_inputs
from lago_skills.decoder.runtime import Decoder
from lago_skills.guide.bundle import LIBRARY_DIR, load_bundle, write_bundle
from lago_skills.guide.guides import LibraryGuide, RetrievalConfig
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.library.exchange import fingerprint
from lago_skills.library.storage.sqlite_file import STORE_FILE
from lago_skills.query.runtime import LearnedQuery
from lago_skills.stages import collect, plan, pretrain, query, segment
from lago_skills.stages.job import Job, digest
from lago_skills.stages.workspace import Workspace
from lago_skills.words.ends import Ends
from lago_skills.worlds.grounding import Grounding

VERSION = 2
BUILDER = "build"
"""Who changes the library when a study is built."""
DECODER_FILE, PROBES_FILE = "decoder.safetensors", "probes.safetensors"
N_PROBES = 128
"""Demonstrated states in which two skills are compared by what they do."""


def jobs(space: Workspace) -> list[Job]:
    """One job: the study's library and the bundle, which holds a frozen copy of it."""
    config = space.study.guide

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        decoder = pretrain.load(space.artifact("decoder"))
        learned = query.wanted(space, space.artifact("decoder"), space.study.seed)
        segments, embeddings = segment.load(space)
        books = plan.playbooks(space)
        with _opened(space, decoder) as library:
            _place_decoder(space, segments, books)
            update(library, segments, decoder, file_hash(space.library / DECODER_FILE), embeddings)
            library.compact()
            latents = _step_latents(books, decoder, embeddings)
            settings = RetrievalConfig(**config.model_dump())
            ends = segment.ends(space)
            write_bundle(writer.path, decoder, library, books, latents, settings, learned, space.world, ends)
            for path in (writer.path / LIBRARY_DIR).rglob("*"):  # the copy's own name and times are not what it says
                writer.content[path.relative_to(writer.path).as_posix()] = ""
            writer.content[f"{LIBRARY_DIR}/{STORE_FILE}"] = fingerprint(library)
            progress(1, f"{library.n_active} skills, {len(books)} playbooks")
            writer.summary = {
                "skills": library.n_active,
                "records": len(library),
                "playbooks": len(books),
                "latent_size": decoder.latent_size,
            }

    recipe = {
        "stage": "build",
        "version": VERSION,
        "decoder": digest(space.artifact("decoder")),
        "segments": digest(space.artifact("segments")),
        "playbooks": digest(space.artifact("playbooks")),
        "edits": _edits(space),
        **config.model_dump(),
    }
    if config.query != "playbook":
        recipe["learned"] = query.recipe(space, space.artifact("decoder"), space.study.seed)
    return [Job("build", "bundle", space.artifact("bundle"), recipe, 1, "bundles", make)]


def _edits(space: Workspace) -> str:
    """What people have changed in the study's library: a bundle is out of date when they change more."""
    if not (space.library / STORE_FILE).exists():
        return ""
    with SkillLibrary.open(space.library) as library:
        by_people = [[change.id, change.action] for change in library.changes(-1) if change.who != BUILDER]
    return json_fingerprint(by_people) if by_people else ""


def _opened(space: Workspace, decoder: Decoder) -> SkillLibrary:
    if (space.library / STORE_FILE).exists():
        return SkillLibrary.open(space.library, mode="write", timeout_s=60.0)
    return SkillLibrary.create(space.library, decoder.latent_size)


def _place_decoder(space: Workspace, segments: list[Segment], books: dict[str, Playbook]) -> None:
    """Beside the library: the decoder that its latents are for, and states to compare skills in."""
    _copy_into_place(space.artifact("decoder") / pretrain.DECODER_FILE, space.library / DECODER_FILE)
    temporary = space.library / f".{PROBES_FILE}.tmp"
    save_arrays({"inputs": _probes(space, segments, books)}, temporary)
    temporary.replace(space.library / PROBES_FILE)


def _copy_into_place(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def _probes(space: Workspace, segments: list[Segment], books: dict[str, Playbook]) -> NDArray[np.float32]:
    """(P, I) decoder inputs in the middle of demonstrated segments, evenly over all of them."""
    episodes, ends, grounding = collect.load(space.collected), segment.ends(space), space.study.grounding
    rows: list[NDArray[np.float32]] = []
    chosen: list[int] = np.unique(np.linspace(0, len(segments) - 1, N_PROBES).astype(int)).tolist()
    for number in chosen:
        item = segments[number]
        heads = None if ends is None else ends.fitted[number]
        inputs = segment_inputs(item, episodes[item.task_id][item.episode], books, grounding, heads)
        rows.append(inputs[len(inputs) // 2][None])
    return np.concatenate(rows)


def assemble(space: Workspace, decoder: Decoder, learned: LearnedQuery | None = None) -> LibraryGuide:
    """The guide of a study with a decoder, from nothing but its segments and playbooks: its library is in memory.

    Raises:
        ArtifactMissing: segments or playbooks have not been made.
        ArtifactCorrupt: they are damaged.
    """
    segments, embeddings = segment.load(space)
    config = RetrievalConfig(**space.study.guide.model_dump())
    return assemble_from(
        space.study.grounding,
        decoder,
        segments,
        embeddings,
        plan.playbooks(space),
        config,
        learned,
        segment.ends(space),
    )


def assemble_from(
    grounding: Grounding,
    decoder: Decoder,
    segments: list[Segment],
    embeddings: dict[str, NDArray[np.float32]],
    books: dict[str, Playbook],
    config: RetrievalConfig,
    learned: LearnedQuery | None = None,
    ends: Ends | None = None,
) -> LibraryGuide:
    """A guide from its parts: a skill for every sentence of the segments, latents for every step of the playbooks."""
    library = SkillLibrary.in_memory(decoder.latent_size, _demonstrated(segments, decoder, embeddings).values())
    latents = _step_latents(books, decoder, embeddings)
    return LibraryGuide(grounding, decoder, library, books, latents, config, learned, ends)


def _step_latents(
    books: dict[str, Playbook], decoder: Decoder, embeddings: dict[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
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


def guide(space: Workspace) -> LibraryGuide:
    """The study's guide.

    Raises:
        ArtifactMissing: the stage has not run.
        ArtifactCorrupt: the bundle is damaged.
    """
    return load_bundle(space.artifact("bundle"), grounding=space.study.grounding)
