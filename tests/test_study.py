from __future__ import annotations

from pathlib import Path

import pytest

from lago_skills.errors import StudyError
from lago_skills.study import load_study, study_path
from tests.conftest import ROOT

HEAD = 'name = "x"\n[tasks]\nseen = ["reach"]\nunseen = ["push"]\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "x.toml"
    path.write_text(text)
    return path


def test_the_demo_study_is_valid() -> None:
    study = load_study(study_path("demo", ROOT))
    assert len(study.seen) == 10
    assert len(study.unseen) == 9
    assert study.collect.episodes_per_task == 5
    assert set(study.train.tasks) <= {task.id for task in study.unseen}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "cannot be read"),
        ('name = "x"\n[tasks]\nsen = ["ten"]', r"unknown key 'tasks\.sen'.*did you mean 'seen'"),
        (HEAD + "[train.sac]\nn_step = 3\nbatchsize = 4", r"unknown key 'train\.sac\.batchsize'.*'batch_size'"),
        (HEAD + "[qqq]\nx = 1", r"unknown key 'qqq'.*remove it"),
        (
            HEAD + "[collect]\nepisodes_per_task = 0",
            r"found collect\.episodes_per_task = 0 and no \[\[data\]\] of task 'reach'",
        ),
        (
            HEAD + "[collect]\nepisodes_per_task = -1",
            r"found collect\.episodes_per_task = -1; expected: .*greater than or equal to 0",
        ),
        (HEAD + '[collect]\naction_noise_std = "much"', r"found collect\.action_noise_std = 'much'"),
        (HEAD + "[train.sac]\ngamma = 1.5", r"found train\.sac\.gamma = 1\.5"),
        (HEAD + "[train.ppo]\nclip = 0", r"found train\.ppo\.clip = 0"),
        ('[tasks]\nseen = ["reach"]', "found no 'name'"),
        ('name = "demo"\n[tasks]\nseen = ["reach"]', r"found name = 'demo'; expected 'x'"),
        ('name = "x"\n[tasks]\nseen = ["reech"]', r"unknown task 'reech'.*'reach'"),
        ('name = "x"\n[tasks]\nseen = ["reach"]\nunseen = ["reach"]', "in both tasks.seen and tasks.unseen"),
        (HEAD + '[train]\ntasks = ["pick-place"]', r"found 'pick-place' in train\.tasks"),
        (HEAD + "[decoder]\nhidden_sizes = []", r"found decoder\.hidden_sizes = \[\]"),
        (HEAD + "[decoder]\nlearning_rate = inf", r"found decoder\.learning_rate = inf"),
        (HEAD + "[train]\nseeds = [-1]", r"found train\.seeds\.0 = -1"),
        (HEAD + "[train]\nseeds = [0, 0]", r"found train\.seeds = \[0, 0\]; expected each once"),
        (HEAD + '[train]\nalgorithms = ["dqn"]', r"found 'dqn' in train\.algorithms; expected one of"),
        ('name = "../x"\n[tasks]\nseen = ["reach"]', r"found name = '\.\./x'"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        load_study(write(tmp_path, text))


def test_an_unknown_study_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no study 'demoo'.*\['ball-push', 'ball-push-small', 'cartpole', 'demo'"):
        study_path("demoo", ROOT)
    with pytest.raises(StudyError, match="no study"):
        study_path(str(tmp_path / "none.toml"), ROOT)
