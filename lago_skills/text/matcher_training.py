"""Training the sentence model to tell tasks apart: minutes on a CPU, with torch; what comes of it needs neither.

Word vectors and the lower layers stay as they are; what changes in the others is of low rank (Hu et al., LoRA, arXiv 2106.09685).
"""

# torch's types are partial.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import ShapeError
from lago_skills.text.embed import TextEncoder
from lago_skills.text.matcher import SCALE, WordingMatcher

N_UPDATES, BATCH, LABEL_SMOOTHING = 1200, 32, 0.1
CHANGE_RATE, PROTOTYPE_RATE = 4e-3, 1e-2
RANK = 16
FROZEN_LAYERS = 2
"""Word vectors and so many of the six layers stay as they are: as good as training all, in two thirds of the time."""
N_VARIANTS = 6
OPENINGS = (
    "Please",
    "Hey,",
    "Could you please",
    "Would you mind:",
    "Would you kindly",
    "Can you",
    "I'd like you to",
    "Just",
    "Right,",
    "Excuse me,",
)
OPENING_SHARE, JOINED_SHARE, BARE_SHARE = 0.25, 0.25, 0.15
"""Of the texts in a batch: with a polite opening, followed by another wording of the same task, without capitals and stops."""
AVERAGED_FROM = 0.5
"""The weights of the later part of training are averaged."""


def train_matcher(
    wordings: dict[str, list[str]],
    unrelated: list[str],
    terms: tuple[tuple[str, ...], ...],
    report: Callable[[int, str], None],
    *,
    n_updates: int = N_UPDATES,
    n_threads: int = 1,
    seed: int = 0,
) -> WordingMatcher:
    """Train on the wordings of each task and on sentences that fit none; `report(updates, note)` now and then.

    Raises:
        ShapeError: fewer than two wordings of a task, or no unrelated sentence.
    """
    few = [task for task, texts in wordings.items() if len(texts) < 2]
    if few or not wordings or not unrelated:
        raise ShapeError(
            f"found fewer than two wordings of {', '.join(few) or 'any task'}, or no sentence that fits none; expected both, to "
            "learn what tells tasks apart; record them with: lago plan STUDY --wordings --live"
        )
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        return _trained(wordings, unrelated, terms, report, n_updates, seed)
    finally:
        torch.set_num_threads(before)


def _trained(
    wordings: dict[str, list[str]],
    unrelated: list[str],
    terms: tuple[tuple[str, ...], ...],
    report: Callable[[int, str], None],
    n_updates: int,
    seed: int,
) -> WordingMatcher:
    import torch

    torch.manual_seed(seed)
    training = [*wordings.values(), unrelated]
    encoder = TextEncoder()
    prototypes = torch.nn.Parameter(_first_prototypes(encoder, training))
    changed = encoder.adapt(RANK, FROZEN_LAYERS)
    pools = [[variants([text], terms, N_VARIANTS, seed + i) for i, text in enumerate(texts)] for texts in training]
    optimizer = torch.optim.AdamW(
        [{"params": changed, "lr": CHANGE_RATE}, {"params": [prototypes], "lr": PROTOTYPE_RATE}], weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda update: min(1.0, (update + 1) / 20) * (1.0 - update / n_updates)
    )
    parameters = [*changed, prototypes]
    averaged, n_averaged = [p.detach().clone() for p in parameters], 0
    encoder.module.train()
    for update, (texts, labels) in enumerate(_batches(pools, n_updates, np.random.default_rng(seed)), start=1):
        cosines = encoder(texts) @ torch.nn.functional.normalize(prototypes, dim=-1).T
        loss = torch.nn.functional.cross_entropy(
            SCALE * cosines, torch.from_numpy(labels), label_smoothing=LABEL_SMOOTHING
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if update >= AVERAGED_FROM * n_updates:
            n_averaged += 1
            for mean, p in zip(averaged, parameters, strict=True):
                mean.lerp_(p.detach(), 1.0 / n_averaged)
        if update % 10 == 0:
            report(update, f"loss {loss.item():.2f}")
    with torch.no_grad():
        for mean, p in zip(averaged, parameters, strict=True):
            p.copy_(mean)
    unit = torch.nn.functional.normalize(prototypes.detach(), dim=-1).numpy().astype(np.float32)
    return WordingMatcher(tuple(wordings), encoder.changes(), unit)


def _first_prototypes(encoder: TextEncoder, groups: list[list[str]]) -> Any:
    import torch

    with torch.no_grad():
        return torch.stack([encoder(texts).mean(dim=0) for texts in groups])


def _batches(
    pools: list[list[list[str]]], n: int, rng: np.random.Generator
) -> Iterator[tuple[list[str], NDArray[np.int64]]]:
    """N batches of texts and labels; groups with many texts come more often, but not in proportion to their number."""
    flat = [(label, forms) for label, texts in enumerate(pools) for forms in texts]
    share = np.array([1.0 / np.sqrt(len(pools[label])) for label, _ in flat])
    share /= share.sum()
    n_drawn = 0
    while n_drawn < n:
        chosen: list[int] = rng.choice(len(flat), 8 * BATCH, p=share).tolist()
        drawn = [flat[i] for i in chosen]
        items = [(_spoken(forms, pools[label], rng), label) for label, forms in drawn]
        items.sort(key=lambda item: len(item[0]))  # texts of a length together: less padding
        for block in rng.permutation(8)[: n - n_drawn]:
            part = items[block * BATCH : (block + 1) * BATCH]
            yield [text for text, _ in part], np.array([label for _, label in part])
            n_drawn += 1


def _spoken(forms: list[str], same_task: list[list[str]], rng: np.random.Generator) -> str:
    """One form of a text, now and then as people dress up, join and shorten what they say."""

    def draw(options: list[str]) -> str:
        return options[int(rng.integers(len(options)))]

    text = draw(forms)
    if rng.random() < JOINED_SHARE:
        other = draw(same_task[int(rng.integers(len(same_task)))])
        text = text.rstrip(".!?") + draw([". ", "; ", ", ", "? "]) + other
    if rng.random() < OPENING_SHARE:
        text = f"{draw(list(OPENINGS))} {text[:1].lower()}{text[1:]}"
    if rng.random() < BARE_SHARE:
        text = text.lower().rstrip(".!?")
    return text


def variants(texts: list[str], terms: tuple[tuple[str, ...], ...], n: int, seed: int = 0) -> list[str]:
    """Up to n other forms of each text, with words replaced by others that mean the same; the texts themselves come first.

    Args:
        texts: Wordings of one task.
        terms: Sets of interchangeable words or phrases.
        n: Variants wanted of each text; texts with few known words yield fewer.
        seed: Of the choice of words.
    """
    rng = random.Random(seed)
    groups: dict[str, tuple[str, ...]] = {}
    for group in terms:
        for word in group:
            groups.setdefault(word.lower(), group)
    forms = dict.fromkeys(texts)
    if not groups:
        return list(forms)
    longest_first = sorted(groups, key=len, reverse=True)
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, longest_first)) + r")\b", re.IGNORECASE)

    def other(match: re.Match[str]) -> str:
        word = match.group(1)
        choice = rng.choice(groups[word.lower()])
        return choice[:1].upper() + choice[1:] if word[:1].isupper() else choice

    for text in texts:
        for _ in range(n):
            forms.setdefault(pattern.sub(other, text))
    return list(forms)
