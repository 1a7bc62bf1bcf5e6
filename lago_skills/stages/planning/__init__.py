"""Rooms around the plan stage: ranges of features, lint, other words, motions without a playbook."""
