"""Activities of a rollout: the history baseline, the analysis of a step."""
