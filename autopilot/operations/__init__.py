"""Commands to operations, and what they say of themselves: wire models that load no specification."""
