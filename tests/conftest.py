"""Shared fixtures. One torch thread; no test reaches the network or leaves files outside its folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lago_skills.artifacts.executor import Runner

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", DO_NOT_TRACK="1")

import numpy as np
import pytest
import torch

from lago_skills.artifacts.folder import writing
from lago_skills.commands.cli import main
from lago_skills.commands.stages import STAGES
from lago_skills.core import Playbook
from lago_skills.decoder.trained_decoder import Calibration, DecoderWeights, Layer, Linear, Novelty, SkillNetwork, Trunk
from lago_skills.guide.bundle import write_bundle
from lago_skills.guide.retrieval import RetrievalConfig
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner import scenes
from lago_skills.planner.ask import Planner
from lago_skills.planner.findings import LintFile
from lago_skills.prior import ActionPrior, Prior
from lago_skills.stages.job import Job
from lago_skills.stages.workspace import Workspace
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import GROUPS, expand
from tests.library_skills import Z, new_skills

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent
Lago = Callable[..., tuple[int, str, str]]
"""`lago(*arguments)`: exit code, output, errors."""


LONGEST_FIRST = (
    *(
        "test_pipeline",
        "test_wording",
        "test_training_tables",
        "test_zero_shot_table",
        "test_words_tables",
        "test_live",
    ),
    *("test_sac_runs", "test_ablations", "test_ppo_runs", "test_small_worlds", "test_sac_learning"),
)
"""Files that take minutes, so that no core waits for one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; all else keeps its order."""
    ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Whatever a test before has set: sums over several threads differ in their last bits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def grounding() -> MetaWorldGrounding:
    return MetaWorldGrounding()


@pytest.fixture(scope="session")
def committed_planner(grounding: MetaWorldGrounding) -> Planner:
    """The planner of the demo: committed scenes and recorded answers."""
    return Planner(
        study="demo",
        grounding=grounding,
        scenes=scenes.load(ROOT / "data/scenes/metaworld.json"),
        transcripts=TranscriptFile(ROOT / "data/transcripts/metaworld.jsonl"),
        lint=LintFile(ROOT / "data/lint/metaworld.jsonl"),
    )


@pytest.fixture(scope="session")
def playbooks(committed_planner: Planner) -> dict[str, Playbook]:
    return committed_planner.playbooks(expand(list(GROUPS["ten"])), expand(list(GROUPS["eight"])))


@pytest.fixture(scope="session")
def playbooks_in_words(committed_planner: Planner) -> dict[str, Playbook]:
    """Of thirty tasks, as they are recorded."""
    return replace(committed_planner, form="words").playbooks(expand(["ten"]), expand(["eight", "twelve"]))


@pytest.fixture
def lago(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lago:
    """Run `lago` in a folder, stages in this process."""

    def run(*arguments: str) -> tuple[int, str, str]:
        def stages(space: Workspace, names: Sequence[str], runner: Runner) -> None:
            for name in names:
                for job in STAGES[name](space):
                    job.run(lambda done, note: None)

        code = main(["--root", str(tmp_path), *arguments], stages)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def random_decoder(
    seed: int = 0, inputs: int = 28, latent: int = 8, hidden: int = 16, embedding: int = 384
) -> DecoderWeights:
    """A small decoder with random weights: right shapes, no skill."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Any:
        return (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)

    none = np.zeros((hidden, 0), np.float32)
    layers = (
        Layer(draw(hidden, inputs), draw(hidden), draw(hidden, latent), none, none),
        Layer(draw(hidden, hidden), draw(hidden), none, none, none),
    )
    network = SkillNetwork(
        input_mean=np.zeros(inputs, np.float32),
        input_std=np.ones(inputs, np.float32),
        text=(Linear(draw(latent, embedding), draw(latent)),),
        trunks=(Trunk(layers),),
        intents=(),
        novelty=Novelty(draw(5, inputs), np.ones(1, np.float32), np.zeros(1, np.float32)),
        calibration=Calibration(draw(3, latent), np.zeros((3, 4), np.float32), np.zeros(4, np.float32)),
    )
    heads = Linear(draw(2, hidden), draw(2)), Linear(draw(8, hidden), draw(8)), Linear(draw(8, hidden), draw(8))
    return DecoderWeights(network, *heads)


def continuous(prior: Prior) -> ActionPrior:
    """The prior, where a test looks at its Gaussians."""
    assert isinstance(prior, ActionPrior)
    return prior


@pytest.fixture
def library(tmp_path: Path) -> Iterator[SkillLibrary]:
    """Twenty skills on disk."""
    with SkillLibrary.create(tmp_path / "library", Z, decoder="first") as made:
        made.add_many(new_skills(20), who="ann")
        yield made


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, playbooks: dict[str, Playbook]) -> Path:
    """A bundle of the right form, with random weights: no skill."""
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    rng = np.random.default_rng(0)

    def unit(n: int) -> Any:
        rows = rng.normal(size=(n, 8)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    latents = {name: unit(len(book.steps)) for name, book in playbooks.items()}
    library = SkillLibrary.in_memory(8, [NewSkill(f"skill {i}", row) for i, row in enumerate(unit(20))])
    with writing(folder, "build", {"test": 1}) as writer:
        write_bundle(writer.path, random_decoder(), library, playbooks, latents, RetrievalConfig())
    return folder


def run_stages(space: Workspace, *stages: Any) -> None:
    """Every job of these stages, in this process."""
    jobs: list[Job]
    for stage in stages:
        jobs = stage.jobs(space)
        for job in jobs:
            job.run(lambda done, note: None)
