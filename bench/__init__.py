"""Measurements that a person runs and reads: `python -m bench --help`. Prints figures, asserts nothing about time."""
