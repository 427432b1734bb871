"""Counters read directly from Envoys."""
