"""`lago bench guide`: one prior of a loaded bundle, beside the same weights through torch eager and beside its matrix products alone; and the bill.

The bundle's skills are joined by others at random directions until the library has the size asked for; which of them answer a step is looked up once, so
what is measured is what a control loop pays at each step.
"""

# torch leaves some types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.decoder.trained_decoder import DecoderWeights
from lago_skills.errors import StudyError
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.loaded import BundleGuide, TaskGuide, load
from lago_skills.library import NewSkill, SkillLibrary

SIZES, BATCHES = (12, 10_000, 1_000_000), (1, 64)
ROUNDS, CALLS = 7, {1: 2_000, 64: 300}
CHARS_PER_TOKEN = 4.0
"""Of English, roughly: nobody counted the tokens of answers that were recorded by hand."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Live:
    """A model that would be asked at each step instead."""

    tokens_per_s: float = 60.0
    """Of its answer."""
    usd_per_million_in: float = 3.0
    usd_per_million_out: float = 15.0


def bench(
    path: Path, states: NDArray[np.float64], task: str | None, sizes: tuple[int, ...], say: Callable[[str], None]
) -> tuple[list[Row], Row]:
    """A row for each size of the library and of the batch; (N, S) states of the task are asked about.

    Raises:
        StudyError: the bundle's actions are discrete, for which there is no peer here.
    """
    import torch

    torch.set_num_threads(1)
    rows: list[Row] = []
    name = ""
    for size in sizes:
        say(f"a library of {size:,} skills")
        library = grown(path, size)
        with library:
            guide = load(path, library=library, unfamiliar="answer")
            known = guide.task(task)
            name = known.name
            for batch in BATCHES:
                say(f"{batch} states at a time")
                rows.append(_row(guide, known, states, batch) | {"size": library.n_active})
        gc.collect()
    return rows, {"bundle": str(path), "task": name, "threads": 1, "rounds": ROUNDS}


def grown(path: Path, size: int) -> SkillLibrary:
    """A library in memory: a bundle's skills, and others until there are so many."""
    guide = load(path)
    own = [
        NewSkill(skill.sentence, skill.latent, provenance=skill.provenance, support=skill.support)
        for skill in guide.guide.library.list()
    ]
    z = guide.guide.library.latent_size
    guide.close()
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(max(size - len(own), 0), z)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    library = SkillLibrary.in_memory(z, own)
    for start in range(0, len(rows), 20_000):
        library.add_many([NewSkill(f"skill {start + i}", row) for i, row in enumerate(rows[start : start + 20_000])])
    library.compact()
    return library


def _row(guide: BundleGuide, task: TaskGuide, states: NDArray[np.float64], batch: int) -> Row:
    decoder = guide.guide.decoder
    if not isinstance(decoder, DecoderWeights):
        raise StudyError(
            "found a bundle of discrete actions; expected continuous ones for lago bench guide; take another bundle"
        )
    batches = [np.ascontiguousarray(states[i : i + batch]) for i in range(0, len(states) - batch + 1, batch)]
    peer, products = TorchPeer(guide.guide, task.name), Products(guide.guide, task.name, batch)
    graph = BundleGuide(guide.folder, guide.digest, guide.guide, guide.world, "answer", "onnx").task(task.name).answer
    ours, theirs, alone = list[NDArray[np.float64]](), list[NDArray[np.float64]](), list[NDArray[np.float64]]()
    graphs = list[NDArray[np.float64]]()
    for call in (task.answer, peer, products, graph):
        _times(call, batches, 100)
    for _ in range(ROUNDS):
        graphs.append(_times(graph, batches, CALLS[batch]))
        theirs.append(_times(peer, batches, CALLS[batch] // 4))
        ours.append(_times(task.answer, batches, CALLS[batch]))
        alone.append(_times(products, batches, CALLS[batch]))
    p50, peer_p50, bare_p50, graph_p50 = (
        float(np.median([np.median(each) for each in rounds])) for rounds in (ours, theirs, alone, graphs)
    )
    return {
        "size": 0,
        "batch": batch,
        "p50_us": round(1e6 * p50, 1),
        "p99_us": round(1e6 * float(np.median([np.quantile(each, 0.99) for each in ours])), 1),
        "per_s": round(batch / p50),
        "peer_p50_us": round(1e6 * peer_p50, 1),
        "ratio": round(peer_p50 / p50, 2),
        "products_p50_us": round(1e6 * bare_p50, 1),
        "share_of_products": round(bare_p50 / p50, 2),
        "onnx_p50_us": round(1e6 * graph_p50, 1),
        "onnx_per_s": round(batch / graph_p50),
    }


def _times(
    call: Callable[[NDArray[np.float64]], Any], batches: list[NDArray[np.float64]], n: int
) -> NDArray[np.float64]:
    """Seconds of each of n calls."""
    times = np.empty(n)
    for i in range(n):
        rows = batches[i % len(batches)]
        start = time.perf_counter()
        call(rows)
        times[i] = time.perf_counter() - start
    return times


class TorchPeer:
    """The same prior with the decoder's network as torch modules, run eagerly."""

    def __init__(self, guide: LibraryGuide, task: str) -> None:
        import torch

        decoder = guide.decoder
        assert isinstance(decoder, DecoderWeights)  # checked by the caller
        self._guide, self._task, self._torch = guide, task, torch
        network = decoder.network
        self._mean, self._std = torch.from_numpy(network.input_mean), torch.from_numpy(network.input_std)
        self._layers = [
            {name: torch.from_numpy(getattr(layer, name)) for name in ("weight", "bias", "shift", "scale")}
            for layer in network.trunks[0].layers
        ]
        self._heads = [
            (torch.from_numpy(head.weight), torch.from_numpy(head.bias))
            for head in (decoder.mixture, decoder.mean, decoder.logstd)
        ]
        self._centres = torch.from_numpy(network.novelty.centres)

    def __call__(self, rows: NDArray[np.float64]) -> Any:
        """Weights, means and standard deviations of a mixture."""
        torch = self._torch
        retrieval = self._guide.retrieve(rows, self._task)
        with torch.inference_mode():
            x = (torch.from_numpy(retrieval.inputs()) - self._mean) / self._std
            z, hidden = torch.from_numpy(retrieval.latents), x[:, None, :]
            for layer in self._layers:
                hidden = torch.nn.functional.linear(hidden, layer["weight"], layer["bias"])
                if layer["scale"].shape[1]:
                    hidden = hidden * (1.0 + torch.nn.functional.linear(z, layer["scale"]))
                if layer["shift"].shape[1]:
                    hidden = hidden + torch.nn.functional.linear(z, layer["shift"])
                hidden = torch.relu(hidden)
            mixture, mean, logstd = (torch.nn.functional.linear(hidden, weight, bias) for weight, bias in self._heads)
            far = torch.cdist(x, self._centres).amin(1)
            weights = torch.from_numpy(retrieval.weights)[:, :, None] * torch.softmax(mixture, 2)
            means, stds = torch.tanh(mean), torch.exp(logstd.clamp(-2.5, 0.0))
            n, k, m = weights.shape
            action = (weights[..., None] * means.reshape(n, k, m, -1)).sum((1, 2))
        return weights, means, stds, far, action


class Products:
    """The matrix products of the decoder alone, on numbers that are there already: what no arrangement of the rest can undercut."""

    def __init__(self, guide: LibraryGuide, task: str, batch: int) -> None:
        decoder = guide.decoder
        assert isinstance(decoder, DecoderWeights)  # checked by the caller
        layers = decoder.network.trunks[0].layers
        k = guide.neighbors(task)[1].shape[1]
        rng = np.random.default_rng(0)
        heads = np.concatenate([decoder.mixture.weight, decoder.mean.weight, decoder.logstd.weight])
        weights = [layers[0].weight, *(layer.weight for layer in layers[1:]), heads]
        self._products = [
            (
                rng.normal(size=(batch if number == 0 else batch * k, weight.shape[1])).astype(np.float32),
                np.ascontiguousarray(weight.T),
            )
            for number, weight in enumerate(weights)
        ]

    def __call__(self, rows: NDArray[np.float64]) -> Any:
        """All of them."""
        return [left @ right for left, right in self._products]


def bill(prior_s: float, steps: int, tokens_in: float, tokens_out: float, live: Live) -> Row:
    """One episode's guidance, beside a model that is asked at each of its control steps."""
    return {
        "steps": steps,
        "guide_s": round(prior_s * steps, 4),
        "live_s": round(tokens_out / live.tokens_per_s * steps, 1),
        "live_tokens_in": round(tokens_in * steps),
        "live_tokens_out": round(tokens_out * steps),
        "live_usd": round(
            steps * (tokens_in * live.usd_per_million_in + tokens_out * live.usd_per_million_out) / 1e6, 2
        ),
        "tokens_per_s": live.tokens_per_s,
        "usd_per_million_in": live.usd_per_million_in,
        "usd_per_million_out": live.usd_per_million_out,
    }
