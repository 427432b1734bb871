"""The port that operations change a mesh through, and its providers."""
