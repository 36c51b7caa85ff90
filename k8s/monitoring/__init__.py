"""Prometheus rules of fairness and drift, rendered from the constants of the code."""
