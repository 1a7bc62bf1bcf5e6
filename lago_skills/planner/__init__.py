"""Playbooks: asking for them, parsing them, evaluating them for a batch."""
