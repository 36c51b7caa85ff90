"""Scoring of whole files and streams: Arrow, CSV or Parquet in, Arrow out, in bounded memory.

Lies beside the way of single requests and shares its rules: what a value must be (`api.schema`), how a decision is made
(`api.codec`), when an explanation is trusted (`api.explaining`). pyarrow, an extra, is imported by what reads and
writes, and only when something is scored.
"""
