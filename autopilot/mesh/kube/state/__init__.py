"""What Autopilot keeps in the cluster: lease records, the audit log, and the order of writes."""
