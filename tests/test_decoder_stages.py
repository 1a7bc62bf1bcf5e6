"""Around the decoder: other words, opposites, and pictures."""

from __future__ import annotations

import io
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lago_skills.core import Task
from lago_skills.errors import ArtifactCorrupt
from lago_skills.experiments.tables import opposites
from lago_skills.planner.wordings import Wordings
from lago_skills.report import decoder_pictures, plots
from lago_skills.stages import collect, plan, segment
from lago_skills.stages.planning import phrases
from lago_skills.stages.workspace import Workspace
from lago_skills.study import load_study
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from tests.conftest import ROOT, run_stages

TERMS = (*phrases.VERBS, *MetaWorldGrounding.synonyms)


def test_reworded_sentences_say_the_same_and_repeat_where_words_are_few() -> None:
    sentence = "lower the open gripper straight down around the object, fingers stay open"
    found = phrases.reword(sentence, TERMS, random.Random(0))
    assert found[0] == sentence
    assert len(set(found)) == phrases.N_PHRASES
    assert not any("closed" in text or "shut" in text for text in found)  # never the opposite
    assert {"thing", "item", "workpiece"} & {word.strip(",") for text in found for word in text.split()}
    assert phrases.reword("wait", TERMS, random.Random(0), n=3) == ["wait"] * 3


def test_texts_are_grouped_by_what_they_ask_for() -> None:
    tasks = (Task("a", "open it", "x"), Task("b", "close it", "x"), Task("c", "unheard of", "x"))
    known = Wordings(texts={"a": ["get it open"], "b": ["shut it"]}, terms=(("cup", "mug"),))
    words, groups = phrases.texts(["push the cup"], known, tasks, ())
    assert {"push the mug", "push the cup"} == set(words[0])
    assert groups[:2] == [["open it", "get it open"], ["close it", "shut it"]]
    assert len(groups) == 2 + 2 * len(phrases.OPPOSITES) * len(phrases.NOUNS)
    assert groups[2][:4] == ["open the box", "open the case", "open up the box", "open up the case"]


def pairs() -> opposites.Opposites:
    up, down = np.eye(3, dtype=np.float32)[:2]
    skills = {"raise": up, "sink": down}
    return opposites.Opposites([["up", "down", "upwards"]], up[None], down[None], (2 * up)[None], skills)


def test_the_table_of_opposites_has_cosines_and_nearest_skills_before_and_after() -> None:
    def confused(embeddings: np.ndarray) -> np.ndarray:
        return np.repeat([[1.0, 0.0]], len(embeddings), axis=0).astype(np.float32)

    rows = pairs().table(confused)
    assert rows == [
        {
            "sentence": "up",
            "opposite": "down",
            "paraphrase": "upwards",
            "opposite_before": 0.0,
            "paraphrase_before": 1.0,
            "skill_before": "raise",
            "opposite_skill_before": "sink",
            "opposite_after": 1.0,
            "paraphrase_after": 1.0,
            "skill_after": "raise",
            "opposite_skill_after": "raise",
        }
    ]
    assert opposites.separation(rows, "before") == {"opposite": 0.0, "paraphrase": 1.0, "told": 1.0}
    assert opposites.separation(rows, "after")["told"] == 0.0
    assert pairs().overlap(["Down", "sideways"]) == ["down"]


def test_the_committed_pairs_are_twenty_and_a_broken_file_is_refused(tmp_path: Path) -> None:
    triples = json.loads((ROOT / opposites.PAIRS_FILE).read_text())
    assert len(triples) == 20
    assert len({text for triple in triples for text in triple}) == 60
    (tmp_path / "data").mkdir()
    (tmp_path / opposites.PAIRS_FILE).write_text("[[1]]")
    with pytest.raises(ArtifactCorrupt, match="restore the file"):
        opposites.load(tmp_path, {})


STUDY = """
name = "demo"
[tasks]
seen = ["ten"]
unseen = ["reach-wall"]
[collect]
episodes_per_task = 3
[decoder]
n_updates = 60
hidden_sizes = [32]
"""


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_pictures_are_drawn_of_real_tasks(tmp_path: Path) -> None:
    for name in ("transcripts", "scenes", "lint"):
        shutil.copytree(ROOT / "data" / name, tmp_path / "data" / name)
    shutil.copy(ROOT / opposites.PAIRS_FILE, tmp_path / opposites.PAIRS_FILE)
    (tmp_path / "data/studies").mkdir()
    (tmp_path / "data/studies/demo.toml").write_text(STUDY)
    file = tmp_path / "data/studies/demo.toml"
    space = Workspace(tmp_path, file, load_study(file))
    run_stages(space, collect, plan, segment)
    demonstrations, config = segment.labelled(space), space.study.decoder
    steps = demonstrations.steps(config)
    from lago_skills.decoder.pretrain import pretrain
    from lago_skills.decoder.trained_decoder import DecoderWeights

    decoder, _ = pretrain(steps, config, 0, lambda update, metrics: None)
    assert isinstance(decoder, DecoderWeights)
    drawn = decoder_pictures.pictures(demonstrations, decoder, config)
    assert len(drawn) == 4
    assert all(min(size(png)) > 200 for png in drawn.values())
    strange = decoder_pictures.strange(decoder, steps, np.flatnonzero(steps.held_out))
    assert (np.diff(strange["distance"]) > 0).all()
    assert strange["spread after"][-1] > 1.5 * strange["spread before"][-1]
    assert strange["spread after"][0] == pytest.approx(strange["spread before"][0], rel=0.5)
    field = decoder_pictures.fields(decoder, demonstrations)[0]
    assert field.offsets.shape == field.actions.shape == (81, 2)


def test_action_fields_fill_a_grid() -> None:
    offsets = np.array([[0.0, 0.1], [0.1, 0.0]])
    fields = [plots.Field(f"skill {i}", offsets, offsets * 5, np.array([0.1, 0.9])) for i in range(5)]
    assert size(plots.action_fields(fields))[0] > 600
