"""Signatures and wire models of activities: all that workflows import of them."""
