"""A study: one TOML file that says what is run."""

from lago_skills.study.config import MAX_SEED, CollectConfig, GuideConfig, TrainConfig
from lago_skills.study.load import STUDIES_DIR, load_study, study_path
from lago_skills.study.study import Study

__all__ = [
    "MAX_SEED",
    "STUDIES_DIR",
    "CollectConfig",
    "GuideConfig",
    "Study",
    "TrainConfig",
    "load_study",
    "study_path",
]
