"""A study with several plans of a task: planned, built, followed and trained through its stages."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lago_skills.commands.cli import main
from lago_skills.core import Playbook
from lago_skills.errors import ArtifactCorrupt, ArtifactMissing, LagoError, PlanError, StudyError
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.plan_numbers import numbers_of, with_numbers
from lago_skills.guide.portfolio import PlanOfTask
from lago_skills.llm.transcripts import answered
from lago_skills.playbook import FORMS
from lago_skills.rl.config import PPOConfig
from lago_skills.rl.plans import training as plan_training
from lago_skills.rl.plans.best import load_best, save_best
from lago_skills.rl.plans.search import SearchedPlan
from lago_skills.rl.plans.training import TrainedByPlan, find_plan, train_by_best_plan
from lago_skills.rl.problem import Problem
from lago_skills.stages import evaluate, found_plans, plan, portfolios, train
from lago_skills.stages.workspace import Workspace, open_workspace
from tests.conftest import ROOT, run_stages
from tests.small_envs import SMALL, Pointing, Walk, problem

STUDY = """
name = "{name}"
[tasks]
seen = ["push"]
unseen = ["reach"]
[plan]
name = "metaworld"
{plan}
[collect]
episodes_per_task = 1
[zero_shot]
episodes = 2
[train]
tasks = ["reach"]
algorithms = ["guided-sac"]
seeds = [0]
final_episodes = 1
trial_episodes = 2
[train.sac]
n_steps = 500
random_steps = 100
eval_every = 500
eval_episodes = 1
hidden_size = 16
batch_size = 16
"""


def workspace(root: Path, name: str = "several", settings: str = "portfolio = 2") -> Workspace:
    """A study with the project's recorded answers."""
    path = root / f"data/studies/{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STUDY.format(name=name, plan=settings), encoding="utf-8")
    for kind, end in (("transcripts", "jsonl"), ("scenes", "json"), ("lint", "jsonl")):
        (root / "data" / kind).mkdir(exist_ok=True)
        if not (root / f"data/{kind}/metaworld.{end}").exists():
            shutil.copy(ROOT / f"data/{kind}/metaworld.{end}", root / f"data/{kind}/metaworld.{end}")
    return open_workspace(root, path)


def steps_of(book: Playbook) -> list[dict[str, object]]:
    return [{k: v for k, v in FORMS[book.form].write(step).items() if v is not None} for step in book.steps]


def give_portfolio(space: Workspace, *ways: tuple[str, Playbook | None]) -> None:
    """Record an answer; a way without a playbook is not valid."""
    asked = plan.plans(space)["reach"].portfolio
    assert asked is not None
    plans = [{"way": way, "steps": steps_of(book) if book else []} for way, book in ways]
    plan.planner(space).transcripts.append(answered(asked.request, json.dumps({"plans": plans}), "m", "test"))


def test_plans_of_a_portfolio_are_an_artifact_and_labelled_with_the_others(
    tmp_path: Path, playbooks: dict[str, Playbook]
) -> None:
    space = workspace(tmp_path)
    with pytest.raises(LagoError, match="portfolio/reach"):
        plan.jobs(space)
    give_portfolio(space, ("as ever", playbooks["reach"]), ("by magic", None), ("roundabout", playbooks["push"]))
    run_stages(space, plan)
    folder, vocabulary = space.artifact("playbooks"), space.study.grounding.vocabulary
    entries = json.loads((folder / plan.PORTFOLIOS_FILE).read_text(encoding="utf-8"))["reach"]
    assert [(each["number"], each["way"], each["playbook"] is None) for each in entries] == [
        (1, "as ever", False),
        (2, "by magic", True),
        (3, "roundabout", False),
    ]
    assert "found no list of 1 to" in entries[1]["findings"][0]["text"]
    books = plan.load_portfolios(folder, vocabulary)
    assert list(books) == ["reach/1", "reach/3"]
    assert {book.task_id for book in books.values()} == {"reach"}


def test_a_portfolio_without_a_valid_plan_is_refused_and_the_remedy_works(
    tmp_path: Path, playbooks: dict[str, Playbook]
) -> None:
    space = workspace(tmp_path)
    give_portfolio(space, ("by magic", None))
    with pytest.raises(PlanError, match=r"has no portfolio: .*--again portfolio/reach, or set plan.portfolio = 0"):
        plan.jobs(space)
    assert plan.jobs(workspace(tmp_path, settings="portfolio = 0"))
    give_portfolio(space, ("as ever", playbooks["reach"]))
    assert plan.jobs(space)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    """A project with the bundle of the tests under the name of a study, and of another beside it."""
    root = tmp_path_factory.mktemp("several")
    for name in ("several", "other"):
        shutil.copytree(bundle, workspace(root, name).artifact("bundle"))
    return root


def test_plans_of_studies_beside_count_too(several: Path) -> None:
    alone = workspace(several, settings="")
    (task,) = alone.study.unseen
    assert [each.name for each in portfolios.plans_of(alone, task)] == ["reach"]
    assert portfolios.recipe(alone) == {}
    both = workspace(several, "both", 'beside = ["other"]')
    with pytest.raises(ArtifactMissing):
        portfolios.plans_of(both, task)
    shutil.copytree(alone.artifact("bundle"), both.artifact("bundle"))
    plans = portfolios.plans_of(both, task)
    assert [each.name for each in plans] == ["both: reach", "other: reach"]
    assert portfolios.plan_named(plans, task, "other: reach").guide is plans[1].guide
    with pytest.raises(StudyError, match="found plan 'other: reach/4'"):
        portfolios.plan_named(plans, task, "other: reach/4")
    workspace(several, "unbuilt", "")
    lacking = workspace(several, "both", 'beside = ["unbuilt"]')
    with pytest.raises(ArtifactMissing, match=r"has 'unbuilt' beside it .*run: lago build unbuilt"):
        portfolios.plans_of(lacking, task)


def test_several_plans_are_evaluated_and_trained_by_and_the_run_says_which(several: Path) -> None:
    space = workspace(several, "trained", 'beside = ["other"]')
    shutil.copytree(several / "checkpoints/other/bundle", space.artifact("bundle"))
    run_stages(space, evaluate, train)
    (training_run,) = train.training_runs(space.study)
    folder = space.artifact("runs", training_run.name)
    summary = train.verify(folder).summary
    assert summary["plan"] in ("trained: reach", "other: reach")
    assert sum(each["episodes"] for each in summary["trial"]["plans"]) == 2
    assert summary["steps"] == 500, "those of the trial among them"
    learned = train.problem_of(space, training_run)
    act, _ = train.load_policy(folder, training_run, learned, space.study.train, space.study.grounding)
    assert act(np.zeros((1, 39))).shape == (1, 4)


# Training after a trial ----------------------------------------------------------------------------------------------------

FIVE = {"away": Pointing(-1.0), "nowhere": Pointing(0.0), "towards": Pointing(1.0)}


def test_what_succeeds_in_the_trial_is_learned_from_and_its_steps_count() -> None:
    reported: list[int] = []
    trained = train_by_best_plan(
        lambda guide: problem(Walk, guide),
        FIVE,
        SMALL,
        0,
        trial_episodes=10,
        report=lambda step, row: reported.append(step),
    )
    trial = trained.best.trial
    assert trial is not None
    assert trial.plans[trial.best].name == "towards"
    assert trained.result.curve[-1]["step"] >= SMALL.n_steps
    assert trained.result.curve[-1]["step"] < SMALL.n_steps + 40
    assert min(reported) > trial.steps
    assert trained.problem.first_seed == 10


def test_a_trial_leaves_the_learner_its_half() -> None:
    trained = train_by_best_plan(lambda guide: problem(Walk, guide), FIVE, SMALL, 0, trial_episodes=1_000)
    trial = trained.best.trial
    assert trial is not None
    assert SMALL.n_steps / 2 <= trial.steps < SMALL.n_steps / 2 + 40, "an episode has 40 steps"
    assert trained.result.curve[-1]["step"] >= SMALL.n_steps


def test_a_run_that_was_cut_does_not_try_its_plans_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(folder: str, cut_at: int = 10_000, guides: dict[str, Pointing] = FIVE) -> TrainedByPlan:
        def report(step: int, row: object) -> None:
            if step >= cut_at:
                raise KeyboardInterrupt

        return train_by_best_plan(
            lambda guide: problem(Walk, guide),
            guides,
            SMALL,
            0,
            trial_episodes=6,
            folder=tmp_path / folder,
            recipe={"a": 1},
            report=report,
        )

    undisturbed = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("cut", cut_at=450)
    with monkeypatch.context() as context:
        context.setattr(plan_training, "find_plan", None)  # it would be missed
        again = run("cut")
        assert again.best.summary() == undisturbed.best.summary()
        assert again.best.n_starts == undisturbed.best.n_starts
        curves = [
            [
                {key: repr(value) for key, value in row.items() if not key.startswith("time/")}
                for row in each.result.curve
            ]
            for each in (again, undisturbed)
        ]
        assert curves[0] == curves[1]
    (tmp_path / "cut/best/trial.npz").write_bytes(b"damaged")
    with pytest.raises(ArtifactCorrupt, match="damaged"):
        run("cut")


def test_with_one_plan_or_without_a_trial_training_is_as_ever() -> None:
    one = train_by_best_plan(lambda guide: problem(Walk, guide), {"towards": Pointing(1.0)}, SMALL, 0, trial_episodes=9)
    untried = train_by_best_plan(lambda guide: problem(Walk, guide), FIVE, SMALL, 0, trial_episodes=0)
    assert one.best.trial is None
    assert untried.best.trial is None
    assert [row["step"] for row in one.result.curve] == [300, 600]


def test_ppo_takes_no_demonstrations_from_a_trial() -> None:
    config = PPOConfig(n_steps=400, rollout_steps=100, eval_every=400, eval_episodes=1, hidden_size=16, n_epochs=1)
    trained = train_by_best_plan(lambda guide: problem(Walk, guide), FIVE, config, 0, trial_episodes=5)
    assert trained.best.trial is not None


def test_the_numbers_of_a_plan_are_searched_and_what_is_found_is_learned_from(several: Path) -> None:
    space = workspace(several, "searched", "")
    shutil.copytree(several / "checkpoints/other/bundle", space.artifact("bundle"))
    (training_run,) = train.training_runs(space.study)
    guides = {each.name: each.guide for each in portfolios.plans_of(space, training_run.task)}
    found = find_plan(
        lambda guide: train.problem(space.study, training_run, guide), guides, 0, trial_episodes=3, search_steps=1_500
    )
    assert found.trial is None, "there is one plan"
    assert found.search is not None
    assert found.steps == found.search.steps <= 1_500
    assert found.n_starts == found.search.n_starts
    assert found.summary()["search"]["episodes"] == found.search.episodes
    assert (found.search.first_success is None) == (not found.search.harvested)
    save_best(found, "reach", several / "best", {"a": 1})
    again = load_best(guides, "reach", several / "best", {"a": 1})
    assert again is not None
    assert again.summary() == found.summary()
    assert again.n_starts == found.n_starts
    assert isinstance(again.guide, LibraryGuide)
    assert isinstance(found.guide, LibraryGuide)
    assert again.guide.books == found.guide.books
    assert load_best(guides, "reach", several / "best", {"a": 2}) is None, "of another recipe"
    assert load_best(guides, "reach", several / "nothing", {"a": 1}) is None


def test_a_run_that_searched_is_followed_again_with_the_numbers_that_it_found(
    several: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = workspace(several, "found", "")
    shutil.copytree(several / "checkpoints/other/bundle", space.artifact("bundle"))
    (training_run,) = train.training_runs(space.study)
    searched: list[SearchedPlan] = []

    def lucky(problem: Problem, followed: PlanOfTask, n_steps: int, seed: int, *, rival: PlanOfTask) -> SearchedPlan:
        book = followed.guide.books["reach"]
        values, _ = numbers_of(book, space.study.grounding.vocabulary)
        better = with_numbers(book, values + 0.01, space.study.grounding.vocabulary)
        guide = followed.guide.with_steps(better, followed.guide.step_latents["reach"])
        found = PlanOfTask(followed.name, guide)
        searched.append(
            SearchedPlan(found, improved=True, steps=50, episodes=1, n_starts=1, worth=(0, 1), harvested=())
        )
        return searched[0]

    monkeypatch.setattr(plan_training, "search_plan", lucky)
    settings = space.study.train.model_copy(update={"search_steps": 100})
    space = replace(space, study=space.study.model_copy(update={"train": settings}))
    run_stages(space, train)
    folder = space.artifact("runs", training_run.name)
    assert train.verify(folder).summary["search"]["improved"]
    observations = np.random.default_rng(0).normal(0.0, 0.3, (5, 39))
    adviser = train.problem_of(space, training_run).adviser
    assert adviser is not None
    again = adviser.prior(observations, np.zeros(5, np.int64), [None] * 5)
    assert np.allclose(again.greedy(), searched[0].plan.guide.prior(observations, "reach").greedy())
    found = found_plans.found_by(space, "reach", None)
    assert found.run == training_run.name
    assert "search: worth 0.00 before, 1.00 after" in found.how
    adopt = ["--root", str(several), "plan", "adopt", "reach", "--study", "found"]
    assert main(adopt, lambda space, stages, runner: None) == 0
    said = capsys.readouterr()
    assert "recorded in study 'found'; to follow it: lago build found" in said.err
    assert "[search (2)]" in said.out
    assert main(adopt, lambda space, stages, runner: None) == 0
    assert "follows this plan already; nothing is recorded" in capsys.readouterr().err
    of_task = plan.plans(space)["reach"]
    assert of_task.chosen is not None
    assert of_task.book == replace(
        searched[0].plan.guide.books["reach"], transcript_key=of_task.book.transcript_key, model="search"
    )
    assert set(of_task.chosen.authors) == {"search (2)"}
    assert f"run {training_run.name} of study found" in of_task.chosen.transcript.source
    assert found_plans.record(found, "reach") is None, "it is there already"
    assert len(of_task.versions) == 2, "the model's own stays"


def test_a_run_that_kept_to_its_plan_has_nothing_to_adopt(several: Path) -> None:
    space = workspace(several, "kept", 'beside = ["other"]')
    with pytest.raises(PlanError, match=r"found 0 runs of 'reach' .*or train with several plans"):
        found_plans.found_by(space, "reach", None)
    with pytest.raises(PlanError, match="found --run 'nowhere', but there is no such finished run"):
        found_plans.found_by(space, "reach", "nowhere")


def test_other_plans_of_a_task_are_shown_with_their_ways(capsys: pytest.CaptureFixture[str]) -> None:
    show = ["--root", str(ROOT), "plan", "show", "handle-pull", "--study", "frontier-numbers"]
    assert main(show, lambda space, stages, runner: None) == 0
    said = capsys.readouterr().out
    assert "other plans: claude, recorded by hand" in said
    for number in range(1, 6):
        assert f"\nplan {number}: " in said
    assert said.count("heads for ") > 10
