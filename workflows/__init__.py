"""Temporal workflows: what happens, and in which order."""
