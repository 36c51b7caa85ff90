"""The audit log: one row per prediction, joined by its outcome, in SQLite or PostgreSQL.

Knows no HTTP and no metrics.
"""
