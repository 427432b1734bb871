"""MeshDetour: all of a service's traffic to one arm, for a while."""
