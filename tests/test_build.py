"""Building a study again: the library keeps what people did to it, and follows the data and the decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lago_skills.core import Segment
from lago_skills.library import SkillLibrary
from lago_skills.library.exchange import fingerprint
from lago_skills.stages import build
from tests.conftest import random_decoder

SENTENCES = ("reach the goal", "grasp the object", "push the object")


def embedding(text: str) -> np.ndarray:
    rng = np.random.default_rng(int.from_bytes(text.encode()[:7]))
    return (rng.normal(size=384) / 20).astype(np.float32)


EMBEDDINGS = {text: embedding(text) for text in (*SENTENCES, "mine", "reach it")}


def segments(*sentences: str, stop: int = 10) -> list[Segment]:
    return [Segment("push", 0, 0, stop, step, text) for step, text in enumerate(sentences)]


def grow(library: SkillLibrary, *sentences: str, decoder: int = 0, stop: int = 10) -> None:
    build.update(library, segments(*sentences, stop=stop), random_decoder(decoder), f"decoder {decoder}", EMBEDDINGS)


@pytest.fixture
def library(tmp_path: Path) -> SkillLibrary:
    made = SkillLibrary.create(tmp_path / "library", 8)
    grow(made, *SENTENCES)
    return made


def test_building_again_changes_nothing(library: SkillLibrary) -> None:
    before, changes = fingerprint(library), len(library.changes(-1))
    grow(library, *SENTENCES)
    assert (fingerprint(library), len(library.changes(-1))) == (before, changes)
    assert [skill.sentence for skill in library.list()] == list(SENTENCES)
    assert library.get(1).provenance["tasks"] == ["push"]
    assert library.get(1).support["steps"] == 10.0


def test_what_people_did_stays(library: SkillLibrary) -> None:
    decoder = random_decoder()
    library.edit(
        1,
        sentence="reach it",
        latent=decoder.latents(EMBEDDINGS["reach it"][None])[0],
        embedding=EMBEDDINGS["reach it"],
    )
    library.disable(2)
    library.add("mine", decoder.latents(EMBEDDINGS["mine"][None])[0], embedding=EMBEDDINGS["mine"])
    grow(library, *SENTENCES, decoder=1, stop=20)
    found = {s.id: (s.sentence, s.enabled, s.support.get("steps")) for s in library.list()}
    assert found == {
        1: ("reach it", True, 20.0),
        2: ("grasp the object", False, 20.0),
        3: ("push the object", True, 20.0),
        4: ("mine", True, None),
    }
    assert library.decoder == "decoder 1"
    for skill in library.list():
        np.testing.assert_allclose(
            skill.latent, random_decoder(1).latents(EMBEDDINGS[skill.sentence][None])[0], rtol=1e-4, atol=1e-5
        )


def test_skills_that_are_no_longer_demonstrated_rest_until_they_are(library: SkillLibrary) -> None:
    library.disable(2)
    grow(library, "push the object")
    assert [(s.id, s.enabled) for s in library.list()] == [(1, False), (2, False), (3, True)]
    grow(library, *SENTENCES)
    assert [(s.id, s.enabled) for s in library.list()] == [(1, True), (2, False), (3, True)]
    library.merge([3], into=1)
    grow(library, *SENTENCES)
    assert library.get(3).merged_into == 1


def test_two_builds_say_the_same(tmp_path: Path) -> None:
    made = [SkillLibrary.create(tmp_path / name, 8) for name in ("one", "two")]
    for library in made:
        grow(library, *SENTENCES)
    assert fingerprint(made[0]) == fingerprint(made[1])


def test_sentences_without_an_embedding_are_embedded_when_the_decoder_changes(library: SkillLibrary) -> None:
    library.add("close the window", random_decoder().latents(EMBEDDINGS["mine"][None])[0])
    grow(library, *SENTENCES, decoder=1)
    assert library.get(4).embedding is not None
    assert library.decoder == "decoder 1"
