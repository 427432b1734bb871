"""What every operation does: lease, commands, watch, clean-up, report."""
