"""Probes of experiments: how each kind looks, and how its value is judged."""
