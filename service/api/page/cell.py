"""A number in a table, in words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One number and what stands beside it, such as its interval; or why there is none."""

    words: str
    beside: str = ""
    state: str = ""
    known: bool = False
