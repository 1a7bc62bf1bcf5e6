"""The explorer of a bundle alone: what is shown without a study, what serving it imports, and how latents come onto a plane."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lago_skills
from lago_skills.errors import StudyError
from lago_skills.explorer import documents
from lago_skills.explorer.source import Source
from lago_skills.library.projection import on_a_plane
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def test_a_bundle_alone_is_shown_without_what_a_study_knows(bundle: Path) -> None:
    guide = lago_skills.load(bundle)
    source = Source(guide)
    for name in documents.names(source):
        assert "error" not in json.loads(documents.written(source, name)), name
    assert documents.document(source, "home")["study"] is None
    assert documents.document(source, "episodes") == {"episodes": []}
    with pytest.raises(StudyError, match="found no recorded episode"):
        documents.document(source, "episode-demo-push-0")
    with pytest.raises(StudyError, match="found no document"):
        documents.document(source, "secrets")
    guide.close()


def test_serving_pages_imports_no_text_model_and_nothing_that_trains(bundle: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lago_skills.serve.service import Service; from lago_skills.serve.access import Access; "
        "from lago_skills.explorer.doors import Explorer; from lago_skills.serve.site import Asked; "
        f"explorer = Explorer(Service(Path({str(bundle)!r})), Access()); "
        "answers = [explorer(Asked('GET', name, {})).status for name in ('', 'data/home', 'data/map', 'data/skill-1', 'data/plan-push')]; "
        "heavy = {'torch', 'd3rlpy', 'tokenizers', 'sentence_transformers', 'transformers', 'prefect', 'matplotlib', 'openai'}; "
        "print(answers, sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[200, 200, 200, 200, 200] []\n", done.stdout + done.stderr


def test_latents_are_drawn_on_their_principal_plane() -> None:
    rng = np.random.default_rng(0)
    flat = np.zeros((50, 6))
    flat[:, 2], flat[:, 4] = rng.normal(0, 3, 50), rng.normal(0, 1, 50)
    points = on_a_plane(flat)
    np.testing.assert_allclose(np.abs(points[:, 0]), np.abs(flat[:, 2] - flat[:, 2].mean()), atol=0.7)
    np.testing.assert_allclose((points**2).sum(), ((flat - flat.mean(axis=0)) ** 2).sum())
    assert on_a_plane(np.zeros((0, 3))).shape == (0, 2)
    assert on_a_plane(np.ones((1, 1))).tolist() == [[0.0, 0.0]]
