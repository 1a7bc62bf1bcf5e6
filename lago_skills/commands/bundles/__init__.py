"""`lago bundle`, `lago guide`, `lago serve`: what leaves the project and guides somewhere else."""
