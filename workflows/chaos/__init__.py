"""The chaos experiment, and its scheduled runs."""
