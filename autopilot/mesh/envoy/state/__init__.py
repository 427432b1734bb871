"""What Autopilot keeps on disk: leases, overlays, overrides, the audit log."""
