"""The skill library: durable records in SQLite, nearest neighbours in FAISS, one door to each."""

from lago_skills.library.checks import NewSkill
from lago_skills.library.library import SkillLibrary

__all__ = ["NewSkill", "SkillLibrary"]
