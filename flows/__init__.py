"""The Prefect flows of lago-skills, where Prefect looks for them; their code is `lago_skills.flows`, so that installing the package brings no other name."""
