"""The meshes that a process drives, each with its telemetry."""
