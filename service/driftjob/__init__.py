"""What one job says that counters cannot: `python -m service drift-job`, for the leader, not for each replica.

Reads the audit records and the packages, writes nothing but its result: two jobs at once are harmless.
"""
