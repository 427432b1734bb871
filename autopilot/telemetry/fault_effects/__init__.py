"""Whether faults take effect, and what callers get meanwhile."""
