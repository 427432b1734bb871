"""What operations are told when they start, and the reports that they leave: wire models."""
