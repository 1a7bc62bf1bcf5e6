"""Guides of the right form, with random weights and skills."""

from __future__ import annotations

import numpy as np

from lago_skills.core import Playbook
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.retrieval import RetrievalConfig
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from tests.conftest import random_decoder


def unit(rng: np.random.Generator, n: int, size: int = 8) -> np.ndarray:
    rows = rng.normal(size=(n, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def library(n: int = 20, seed: int = 0) -> SkillLibrary:
    latents = unit(np.random.default_rng(seed), n)
    return SkillLibrary.in_memory(8, [NewSkill(f"skill {i}", latents[i]) for i in range(n)])


def random_guide(playbooks: dict[str, Playbook], k: int = 3) -> LibraryGuide:
    rng = np.random.default_rng(1)
    latents = {name: unit(rng, len(book.steps)) for name, book in playbooks.items()}
    return LibraryGuide(MetaWorldGrounding(), random_decoder(), library(), playbooks, latents, RetrievalConfig(k=k))
