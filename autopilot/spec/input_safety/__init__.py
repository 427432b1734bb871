"""What makes input safe to read, keep and show."""
