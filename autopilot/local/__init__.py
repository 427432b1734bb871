"""The embedded stack: real Envoys, Temporal and Prometheus as processes of one machine."""
