"""Autopilot's own metrics and audit stream."""
