"""Routes of every kind: what leads to a target, and how its weights are changed and restored."""
