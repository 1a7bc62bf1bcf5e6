"""The verbs of `lago`."""
