"""Overlays as EnvoyFilters of our own, which expire in the proxies."""
