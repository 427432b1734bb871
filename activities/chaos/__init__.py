"""Activities of an experiment: the steady state, the watch while faults are laid."""
