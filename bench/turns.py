"""Timing of several functions in turns, and what is told about each."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Figures:
    """Of `runs` runs: the median and the 99th percentile, and rows answered in a second of them."""

    runs: int
    p50_seconds: float
    p99_seconds: float
    rows_per_second: float


def in_turns(
    functions: dict[Key, Callable[[], object]], *, rows: int, seconds: float, least_runs: int
) -> dict[Key, Figures]:
    """Call all functions one after the other, again and again, each first once uncounted.

    A function is left out once it ran for `seconds` and `least_runs` times; one call answers `rows` rows.
    """
    taken: dict[Key, list[float]] = {key: [] for key in functions}
    for function in functions.values():
        function()
    waiting = dict(functions)
    while waiting:
        for key, function in list(waiting.items()):
            start = time.perf_counter()
            function()
            taken[key].append(time.perf_counter() - start)
            if len(taken[key]) >= least_runs and sum(taken[key]) >= seconds:
                del waiting[key]
    return {key: _figures(durations, rows) for key, durations in taken.items()}


def _figures(durations: list[float], rows: int) -> Figures:
    p50, p99 = np.quantile(durations, [0.5, 0.99])
    return Figures(len(durations), float(p50), float(p99), rows * len(durations) / sum(durations))
