"""Intervals of shares, of their differences and of their ratios, from counts. Closed forms; undefined is None.

Wilson (1927) for one share, Newcombe (1998, hybrid score) for a difference, Katz (1978, log) for a ratio: they hold
where counts are small and never leave the possible range, as the textbook interval does.
"""

import math
from statistics import NormalDist

CONFIDENCE = 0.95

Interval = tuple[float, float]


def quantile(confidence: float) -> float:
    """The standard normal z of a two-sided interval."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson_interval(numerator: int, denominator: int, *, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """(p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n): Wilson (1927) score interval of a share, or None for n = 0."""
    n = denominator
    if n == 0:
        return None
    return _wilson(numerator, n, quantile(confidence))


def _wilson(numerator: int, n: int, z: float) -> Interval:
    p = numerator / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half_width = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    # At 0 of n and n of n the bound is exactly 0 or 1; rounding would leave it a hair off.
    low = 0.0 if numerator == 0 else centre - half_width
    high = 1.0 if numerator == n else centre + half_width
    return low, high


def newcombe_interval(one: tuple[int, int], other: tuple[int, int], *, z: float) -> Interval | None:
    """Of p1 - p2, each given as (numerator, denominator): d - √((p1-L1)² + (U2-p2)²), d + √((U1-p1)² + (p2-L2)²)."""
    (k1, n1), (k2, n2) = one, other
    if n1 == 0 or n2 == 0:
        return None
    p1, p2 = k1 / n1, k2 / n2
    (low1, high1), (low2, high2) = _wilson(k1, n1, z), _wilson(k2, n2, z)
    d = p1 - p2
    return d - math.hypot(p1 - low1, high2 - p2), d + math.hypot(high1 - p1, p2 - low2)


def katz_interval(one: tuple[int, int], other: tuple[int, int], *, z: float) -> Interval | None:
    """Of p1 / p2: exp(ln(p1/p2) ± z √(1/k1 - 1/n1 + 1/k2 - 1/n2)).

    Where one of the numerators is 0 half a case is added to all four counts (Walter 1975), so that nobody selected out
    of thousands is not taken for nothing known.
    """
    if one[1] == 0 or other[1] == 0:
        return None
    add = 0.5 if one[0] == 0 or other[0] == 0 else 0.0
    (k1, n1), (k2, n2) = (one[0] + add, one[1] + add), (other[0] + add, other[1] + add)
    ratio = (k1 / n1) / (k2 / n2)
    spread = math.exp(z * math.sqrt(max(0.0, 1 / k1 - 1 / n1 + 1 / k2 - 1 / n2)))
    return ratio / spread, ratio * spread
