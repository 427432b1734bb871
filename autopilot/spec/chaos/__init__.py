"""MeshExperiment: hypotheses, faults, limits, schedules."""
