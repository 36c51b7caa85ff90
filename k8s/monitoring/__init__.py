"""Prometheus rules of the fairness monitor, rendered from the constants of the code."""
