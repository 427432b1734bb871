"""Judgement of experiments: hypotheses, tolerances, blast radius."""
