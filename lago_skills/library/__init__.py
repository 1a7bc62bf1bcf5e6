"""The skill library: durable records in SQLite, nearest neighbours in FAISS, one door to each."""

from lago_skills.library.library import SkillLibrary
from lago_skills.library.storage.checks import NewSkill

__all__ = ["NewSkill", "SkillLibrary"]
