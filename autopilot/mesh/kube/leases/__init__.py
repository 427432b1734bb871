"""Leases in a cluster: taken, renewed, restored, overridden."""
