"""Counters, histograms and queries from a Prometheus or its like."""
