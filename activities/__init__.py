"""Temporal activities: every side effect."""
