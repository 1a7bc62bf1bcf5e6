"""Artifacts: folders with a manifest that says what they were made from."""
