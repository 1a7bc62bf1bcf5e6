"""A bundle: one folder that a guide is loaded from. Weights, library, playbooks, step latents; no pickle, no text model.

The library in a bundle is a frozen copy: the study's own, in `data/libraries`, is the one that grows.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import verify
from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.core import Playbook, Vocabulary
from lago_skills.decoder.trained_decoder import Decoder, load_decoder
from lago_skills.errors import ArtifactCorrupt, PlanError, StudyError
from lago_skills.guide.description import describe, write_description
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.retrieval import RetrievalConfig
from lago_skills.library import SkillLibrary
from lago_skills.library.exchange import copy, open_any
from lago_skills.playbook import read_playbook, write_playbook
from lago_skills.query.query_network import LearnedQuery, QueryNetwork
from lago_skills.words.ends import ENDS_FILE, Ends
from lago_skills.worlds import DEFAULT
from lago_skills.worlds.grounding import Grounding, check_identity, identity
from lago_skills.worlds.world import World, find_world

LIBRARY_DIR = "library"
DECODER_FILE, PLAYBOOKS_FILE, LATENTS_FILE, RETRIEVAL_FILE = (
    "decoder.safetensors",
    "playbooks.json",
    "step_latents.safetensors",
    "retrieval.json",
)
GROUNDING_FILE = "grounding.json"
"""Which environment the bundle was made for."""
QUERY_FILE, TASKS_FILE = "query.safetensors", "task_embeddings.safetensors"
"""Only where a query was learned."""


def write_bundle(
    folder: Path,
    decoder: Decoder,
    library: SkillLibrary,
    playbooks: dict[str, Playbook],
    step_latents: dict[str, NDArray[np.float32]],
    config: RetrievalConfig,
    learned: LearnedQuery | None = None,
    world: World | None = None,
    ends: Ends | None = None,
) -> None:
    """Fill a folder with everything a guide needs at run time, for a world; without one, for the default one."""
    world = world or find_world(DEFAULT)
    decoder.save(folder / DECODER_FILE)
    copy(library, folder / LIBRARY_DIR, frozen=True)
    books = {name: write_playbook(book) for name, book in playbooks.items()}
    (folder / PLAYBOOKS_FILE).write_text(json.dumps(books, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    save_arrays(step_latents, folder / LATENTS_FILE)
    (folder / RETRIEVAL_FILE).write_text(json.dumps(asdict(config)) + "\n", encoding="utf-8")
    made_for = {**identity(world.grounding), "world": world.spec()}
    (folder / GROUNDING_FILE).write_text(json.dumps(made_for) + "\n", encoding="utf-8")
    write_description(folder, describe(world, playbooks))
    if ends is not None:
        ends.save(folder)
    if learned is not None:
        learned.network.save(folder / QUERY_FILE)
        save_arrays(learned.embeddings, folder / TASKS_FILE)


def load_bundle(folder: Path, library: SkillLibrary | None = None, grounding: Grounding | None = None) -> LibraryGuide:
    """The guide in a bundle, after its hashes have been checked; with a `library` of the same decoder, that one instead of its own.

    `grounding` is of the environment that it shall advise in, by default that of the world it was made for.

    Raises:
        ArtifactMissing: there is no bundle in that folder.
        ArtifactCorrupt: a file is missing, damaged or not of this form.
        StudyError: it was made for another environment.
    """
    verify(folder)
    return guide_in(folder, library, grounding)


def guide_in(folder: Path, library: SkillLibrary | None = None, grounding: Grounding | None = None) -> LibraryGuide:
    """As `load_bundle`, of a folder whose hashes have been checked."""
    grounding = _grounding(folder, grounding)
    try:
        books: dict[str, dict[str, Any]] = _read(folder / PLAYBOOKS_FILE)
        retrieval = _read(folder / RETRIEVAL_FILE)
        return LibraryGuide(
            grounding=grounding,
            decoder=load_decoder(folder / DECODER_FILE),
            library=library or open_any(library_folder(folder), "frozen"),
            playbooks={name: read_playbook(entry, grounding.vocabulary) for name, entry in books.items()},
            step_latents=load_arrays(folder / LATENTS_FILE),
            config=RetrievalConfig(**retrieval),
            learned=_learned(folder),
            ends=Ends.load(folder, grounding.vocabulary) if (folder / ENDS_FILE).is_file() else None,
        )
    except (OSError, ValueError, KeyError, TypeError, PlanError) as error:
        raise ArtifactCorrupt(
            f"bundle {str(folder)!r} cannot be read ({error}); expected the files that the build stage writes; "
            "delete the folder and build again (lago build STUDY)"
        ) from error


def read_plans(folder: Path, vocabulary: Vocabulary) -> dict[str, Playbook]:
    """The plans of a bundle as they were put into it, before a guide brings them into the order that demonstrations show.

    Raises:
        ArtifactCorrupt: they cannot be read.
    """
    try:
        books: dict[str, dict[str, Any]] = _read(folder / PLAYBOOKS_FILE)
        return {name: read_playbook(entry, vocabulary) for name, entry in books.items()}
    except (OSError, ValueError, KeyError, TypeError, PlanError) as error:
        raise ArtifactCorrupt(
            f"plans of bundle {str(folder)!r} cannot be read ({error}); expected those that the build stage writes; delete the folder and build again"
        ) from error


def _grounding(folder: Path, grounding: Grounding | None) -> Grounding:
    """The grounding asked for, if the bundle was made for such a one; or that of the bundle's own world."""
    made_for = _made_for(folder)
    if grounding is None:
        grounding = bundle_world(folder).grounding
    if made_for:  # bundles of before they said so load as they did
        check_identity(f"bundle {str(folder)!r}", made_for, grounding)
    return grounding


def bundle_world(folder: Path) -> World:
    """The world that a bundle was made for.

    Raises:
        StudyError: it is one of somebody's own, which the bundle does not hold, or it cannot be made here.
    """
    spec = _made_for(folder).get("world", {"use": DEFAULT})
    if spec["use"] == "own":
        raise StudyError(
            f"bundle {str(folder)!r}: found one made for an environment that a study file describes; expected its grounding beside "
            "it; pass grounding=load_study(PATH).grounding"
        )
    return find_world(**spec)


def _made_for(folder: Path) -> dict[str, Any]:
    path = folder / GROUNDING_FILE
    return _read(path) if path.is_file() else {}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _learned(folder: Path) -> LearnedQuery | None:
    """The learned query of a bundle, where it has one; bundles of before there were any load as they did."""
    if not (folder / QUERY_FILE).is_file():
        return None
    return LearnedQuery(QueryNetwork.load(folder / QUERY_FILE), load_arrays(folder / TASKS_FILE))


def library_folder(bundle: Path) -> Path:
    """Where a bundle keeps its library; bundles of before library format 2 have it beside the other files."""
    inside = bundle / LIBRARY_DIR
    return inside if inside.is_dir() else bundle
