"""Rollouts, tables with intervals, and the report."""
