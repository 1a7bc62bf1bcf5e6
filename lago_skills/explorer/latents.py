"""The decoder beside a library: sentences to latents, and latents to what they do."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import file_hash
from lago_skills.artifacts.tensors import load_arrays
from lago_skills.decoder.trained_decoder import Decoder, load_decoder
from lago_skills.errors import LibraryConflict
from lago_skills.library import SkillLibrary
from lago_skills.library.duplicates import Behaviour
from lago_skills.text.sentence_model import SentenceModel

DECODER_FILE, PROBES_FILE = "decoder.safetensors", "probes.safetensors"


def decoder_of(folder: Path, library: SkillLibrary) -> Decoder:
    """The decoder beside a library (or in its bundle), which must be the one that its latents are for.

    Raises:
        LibraryConflict: it is missing, or another.
    """
    for path in (folder / DECODER_FILE, folder.parent / DECODER_FILE):
        if path.is_file():
            if library.decoder not in ("", file_hash(path)):
                raise LibraryConflict(
                    f"library {str(folder)!r}: found a decoder beside it that its latents are not for; expected {library.decoder[:12]}; "
                    "run lago build again"
                )
            return load_decoder(path)
    raise LibraryConflict(
        f"library {str(folder)!r}: found no {DECODER_FILE} beside it; expected the decoder that turns words into its latents; "
        "run lago build, or copy it there"
    )


@cache
def text_model() -> SentenceModel:
    """The text model in NumPy: it is there in a third of a second, and does not bring torch along."""
    return SentenceModel()


def encode_sentence(
    folder: Path, library: SkillLibrary, sentence: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(embedding, latent) of a sentence, by the text model of this machine and the library's decoder.

    Raises:
        LibraryConflict: there is no decoder beside the library.
    """
    decoder = decoder_of(folder, library)
    known = library.store.embeddings([sentence])
    embedding = known[sentence] if sentence in known else text_model()([sentence])[0]
    return embedding, decoder.latents(embedding[None])[0]


def behaviour_of(folder: Path, library: SkillLibrary) -> Behaviour | None:
    """What skills do in demonstrated states, if the states are kept beside the library."""
    path = folder / PROBES_FILE
    if not path.is_file():
        return None
    decoder = decoder_of(folder, library)
    inputs = load_arrays(path)["inputs"]

    def actions(latents: NDArray[np.float32]) -> NDArray[np.float32]:
        repeated = np.broadcast_to(latents[None], (len(inputs), *latents.shape))
        return decoder.decode(inputs, repeated).behaviour().transpose(1, 0, 2)

    return actions
