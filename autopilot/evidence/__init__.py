"""Judgement: pure functions from ticks to verdicts."""
