"""Prefect flows: thin. The work is in plain functions of `lago_skills.stages`."""
