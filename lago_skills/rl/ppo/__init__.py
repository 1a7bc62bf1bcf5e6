"""Proximal policy optimisation, plain and guided."""
