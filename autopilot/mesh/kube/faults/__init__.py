"""Faults in a cluster: in VirtualServices, as EnvoyFilters, and as NetworkPolicies."""
