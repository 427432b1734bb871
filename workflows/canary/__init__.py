"""The canary rollout."""
