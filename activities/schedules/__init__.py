"""Activities of scheduled runs."""
