"""The project-local Prefect server, and the guard that stops it after the last command."""
