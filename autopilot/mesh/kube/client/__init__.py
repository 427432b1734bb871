"""The API server's client, and how objects are read and patched."""
