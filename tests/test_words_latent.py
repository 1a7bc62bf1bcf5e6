"""Plans in words and in numbers without networks: controllers, planted faults, and rows of the latent table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.commands.cli import main
from lago_skills.core import Playbook
from lago_skills.experiments import imperfect
from lago_skills.experiments.baselines.controllers import METRES, NumbersController, WordsController
from lago_skills.experiments.tables import latent as latent_table
from lago_skills.planner.parse import parse_playbook
from lago_skills.playbook import playbook_json
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import MetaWorld
from lago_skills.worlds.rollouts import full_rollouts
from lago_skills.worlds.seeds import EVAL_SEED
from tests.conftest import ROOT
from tests.tables import never

GROUNDING = MetaWorldGrounding()
VOCABULARY = GROUNDING.vocabulary


def test_controllers_follow_both_forms(playbooks: dict[str, Playbook], playbooks_in_words: dict[str, Playbook]) -> None:
    seeds = [EVAL_SEED, EVAL_SEED + 1]

    def success(policy: Any, task: str) -> float:
        results = full_rollouts(MetaWorld(), find_task(task), policy, seeds, lambda n: None, n_envs=2)
        return float(np.mean([result.success for result in results]))

    assert success(NumbersController(playbooks["push"], GROUNDING, 10.0), "push") == 1.0
    assert success(WordsController(playbooks_in_words["push"], GROUNDING, 10.0, METRES), "push") == 1.0


@pytest.mark.parametrize("kind", [*imperfect.NUMBERS, *imperfect.WORDS[:-1]])
def test_faults_change_a_plan_and_keep_it_a_plan(
    kind: str, playbooks: dict[str, Playbook], playbooks_in_words: dict[str, Playbook]
) -> None:
    books = playbooks if kind in imperfect.NUMBERS else playbooks_in_words
    for name in ("push", "window-open"):
        before = books[name]
        after = imperfect.imperfect(before, kind, np.random.default_rng(0), VOCABULARY)
        assert after != before
        form = before.form
        parse_playbook(playbook_json(after), name, VOCABULARY, "key", "model", form)
    assert imperfect.imperfect(books["push"], "", np.random.default_rng(0), VOCABULARY) == books["push"]


def test_other_words_for_a_plan(playbooks_in_words: dict[str, Playbook]) -> None:
    from lago_skills.stages.planning.phrases import VERBS

    after = imperfect.reworded(playbooks_in_words["push"], (*VERBS, *GROUNDING.synonyms), 0)
    assert [a.until for a in after.steps] == [b.until for b in playbooks_in_words["push"].steps]
    assert any(a.skill != b.skill for a, b in zip(after.steps, playbooks_in_words["push"].steps, strict=True))


def test_rows_of_the_latent_table_are_measured_and_repeat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("studies", "scenes", "transcripts", "lint"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).symlink_to(ROOT / "data" / name)
    table = ["--root", str(tmp_path), "evaluate", "metaworld", "--table", "latent", "--tasks", "push", "--seeds", "0"]
    chosen = [
        "--methods",
        "numbers/controller-10,words/controller-metres,words/controller-10/reworded",
        "--episodes",
        "2",
    ]
    assert main([*table, *chosen, "--json"], never) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["plan_form"] for row in found["rows"]} == {"numbers", "words"}
    assert found["rows"][0]["success"] == 1.0
    assert all(
        {"task", "actor", "prior_of", "noise", "steps", "seed", "success_last"} <= set(row) for row in found["rows"]
    )
    assert main([*table, "--methods", "numbers/controller-10"], never) == 0
    assert "controller-10" in capsys.readouterr().out
    check = ["--check", "numbers/controller-10//push/0", "--methods", "numbers/controller-10"]
    assert main([*table, *check], never) == 0
    assert "the same" in capsys.readouterr().out
    assert main([*table, "--methods", "numbers/library/sideways"], never) == 2
    assert "expected FORM/ACTOR" in capsys.readouterr().err
    assert len(latent_table.METHODS) == 17


def test_relations_are_told_apart() -> None:
    kinds = {(each.mover, each.word, each.of) for each in VOCABULARY.relations}
    assert len(kinds) == len(VOCABULARY.relations) == 12
