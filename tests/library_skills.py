"""Skills with random latents."""

from __future__ import annotations

import numpy as np

from lago_skills.library import NewSkill, SkillLibrary

Z = 8


def unit(n: int, seed: int = 0, size: int = Z) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def new_skills(n: int, seed: int = 0, size: int = Z) -> list[NewSkill]:
    tasks = ("push", "reach", "door-open")
    return [
        NewSkill(f"skill {i}", latent, provenance={"tasks": [tasks[i % 3]]}, support={"steps": 10.0, "segments": 2.0})
        for i, latent in enumerate(unit(n, seed, size))
    ]


def ids_near(library: SkillLibrary, query: np.ndarray, k: int = 3) -> list[int]:
    return library.search(query[None], k).ids[0].tolist()
