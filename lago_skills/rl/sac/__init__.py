"""Soft actor-critic, plain and guided."""
