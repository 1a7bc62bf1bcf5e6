"""Offline episodes on disk."""
