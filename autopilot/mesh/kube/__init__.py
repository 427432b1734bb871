"""The mesh of a Kubernetes cluster."""
