"""Sentence embeddings, computed locally with all-MiniLM-L6-v2. The only door to sentence-transformers and transformers."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.text.sentence_model import EMBEDDING_SIZE as EMBEDDING_SIZE
from lago_skills.text.sentence_model import MAX_TOKENS, LowRank, model_folder
from lago_skills.text.sentence_model import MODEL_SHA256 as MODEL_SHA256


def _folder() -> str:
    """Where the model is installed, with transformers told to look nowhere else.

    Raises:
        ArtifactCorrupt: the installed model is not the expected one.
    """
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    from transformers.utils import logging

    logging.disable_progress_bar()
    return str(model_folder())


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
        self._changed: dict[str, Any] = {}

    def adapt(self, rank: int, n_frozen: int) -> list[Any]:
        """Let each dense layer change by a matrix of low rank, those of the first layers excepted; returns what is to be trained."""
        import torch

        class Adapted(torch.nn.Module):
            def __init__(self, dense: torch.nn.Linear) -> None:
                super().__init__()
                self.dense = dense
                self.down = torch.nn.Parameter(torch.randn(rank, dense.in_features) / dense.in_features**0.5)
                self.up = torch.nn.Parameter(torch.zeros(dense.out_features, rank))

            def forward(self, values: torch.Tensor) -> torch.Tensor:
                return self.dense(values) + values @ self.down.T @ self.up.T

        self.module.requires_grad_(False)
        for number, layer in enumerate(self.module.encoder.layer):
            if number >= n_frozen:
                for name, dense in [n for n in layer.named_modules() if isinstance(n[1], torch.nn.Linear)]:
                    parent, _, last = name.rpartition(".")
                    adapted = self._changed[f"encoder.layer.{number}.{name}"] = Adapted(dense)
                    setattr(layer.get_submodule(parent), last, adapted)
        return [matrix for each in self._changed.values() for matrix in (each.down, each.up)]

    def changes(self) -> dict[str, LowRank]:
        """What training has changed, as `SentenceModel` takes it."""
        return {n: (each.down.detach().numpy(), each.up.detach().numpy()) for n, each in self._changed.items()}

    def __call__(self, sentences: list[str]) -> Any:
        """Unit vectors (B, 384) as a torch tensor with gradients: the mean over tokens, as the model was trained."""
        import torch

        batch = self._tokenizer(sentences, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        states = self.module(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].to(states.dtype)
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
