"""Environments, their named features, and their demonstrators."""
