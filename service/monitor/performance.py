"""Performance without labels: what rates are to be expected if the scores mean what they meant in the reference.

Confidence-based performance estimation (NannyML's CBPE): with calibrated probabilities p, the sum of p over rows that
were predicted positive is the expected number of true positives among them, and so on. It sees a change of who comes,
not a change of what the same features and scores mean.
"""

import math

import numpy as np
from numpy.typing import NDArray

from service.monitor.fairness import ELIGIBLE_DENOMINATOR
from service.monitor.intervals import CONFIDENCE, quantile

Floats = NDArray[np.float64]
DECIMALS = 4


def expected_rates(
    predictions: Floats, calibrated: Floats, variance: Floats, *, positive: int, rounded: bool
) -> dict[str, dict[str, float] | None] | None:
    """TPR, FPR and PPV from counts, sums of p and sums of p (1 - p) by predicted class, each `(K,)`.

    The interval is about the sampling of outcomes, by the delta method; it knows no error of the calibration. None for
    fewer than 30 rows; a rate is None where its denominator is 0.
    """
    if predictions.sum() < ELIGIBLE_DENOMINATOR:
        return None
    n1, s1, v1 = (float(table[positive]) for table in (predictions, calibrated, variance))
    n0, s0, v0 = (float(table.sum()) - mine for table, mine in ((predictions, n1), (calibrated, s1), (variance, v1)))
    return {
        "true_positive_rate": _share(s1, s0, v1, v0, rounded=rounded),
        "false_positive_rate": _share(n1 - s1, n0 - s0, v1, v0, rounded=rounded),
        "positive_predictive_value": _interval(s1 / n1, v1 / n1**2, rounded=rounded) if n1 else None,
    }


def _share(
    one: float, other: float, one_variance: float, other_variance: float, *, rounded: bool
) -> dict[str, float] | None:
    """one / (one + other) of two independent sums."""
    total = one + other
    if total <= 0:
        return None
    share = one / total
    variance = ((1 - share) ** 2 * one_variance + share**2 * other_variance) / total / total  # a square may be 0
    return _interval(share, variance, rounded=rounded)


def _interval(value: float, variance: float, *, rounded: bool) -> dict[str, float]:
    half = quantile(CONFIDENCE) * math.sqrt(max(variance, 0.0))
    made = {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}
    return {name: round(number, DECIMALS) for name, number in made.items()} if rounded else made
