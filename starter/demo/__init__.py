"""The demo on the embedded stack."""
