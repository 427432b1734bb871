"""Pods and nodes: actions on them, and which endpoints are ready."""
