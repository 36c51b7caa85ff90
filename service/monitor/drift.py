"""Drift as pure functions over counts in frozen bins: how far, and whether farther than chance goes.

An alarm takes an effect that matters, one beyond what the n rows seen would give by chance, and rows enough: PSI > 0.1
alone fires on 46 % of windows of 100 rows in which nothing has changed. Knows no store and no clock; rows are taken as
independent, which makes chance look rarer than it is where the same people come again.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.monitor.distributions import chi_squared_quantile, chi_squared_survival, normal_quantile

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
State = Literal["drift", "ok", "insufficient"]

# Below this, nothing is said about a window.
LEAST_OBSERVATIONS = 200
# What matters: a moderate shift of the distribution, a share of rows, a share of the explanations.
LEAST_PSI = 0.1
LEAST_SHARE_INCREASE = 0.05
LEAST_ATTRIBUTION_CHANGE = 0.05
# Nominal chance of a false alarm of one kind (features, scores, shares, attributions) in a window, all features
# together. Half of the 1 % that is promised: so far out the chi-squared quantile is passed up to twice as often.
DRIFT_ERROR = 0.005
HALF_A_CASE = 0.5


@dataclass(frozen=True)
class Psi:
    """Population stability index, and what it would exceed by chance with DRIFT_ERROR over all comparisons."""

    value: float
    critical: float
    degrees_of_freedom: int


@dataclass(frozen=True)
class Change:
    """A share now and in the reference, and by how much it may differ by chance."""

    value: float
    reference: float
    critical: float

    @property
    def difference(self) -> float:
        """value - reference."""
        return self.value - self.reference


def proportion(counts: Integers) -> Floats:
    """(c + 1/2) / (n + C/2): Jeffreys' estimate of the share of each cell `(C,)`, so that none is 0."""
    made: Floats = (counts + HALF_A_CASE) / (counts.sum() + HALF_A_CASE * len(counts))
    return made


def psi(counts: Integers, reference: Integers, *, comparisons: int) -> Psi | None:
    """sum (p - q) ln(p / q) of counts by cell `(C,)`; None without rows on either side or with a single cell.

    Without drift PSI / (1/n + 1/m) is chi-squared with C - 1 degrees of freedom (Yurdakul 2018).
    """
    n, m, freedom = int(counts.sum()), int(reference.sum()), len(counts) - 1
    if n == 0 or m == 0 or freedom < 1:
        return None
    p, q = proportion(counts), proportion(reference)
    value = float(((p - q) * np.log(p / q)).sum())
    return Psi(value, psi_quantile(freedom, comparisons) * (1 / n + 1 / m), freedom)


def psi_quantile(degrees_of_freedom: int, comparisons: int) -> float:
    """The chi-squared quantile for one of several comparisons that share DRIFT_ERROR (Bonferroni)."""
    return chi_squared_quantile(DRIFT_ERROR / comparisons, degrees_of_freedom)


def psi_state(found: Psi | None, n: int) -> State:
    """Drift where PSI exceeds both the floor and its critical value, and rows are enough to say so.

    A single cell has no PSI and cannot drift; what lies outside it is judged by its share.
    """
    if n < LEAST_OBSERVATIONS:
        return "insufficient"
    return "drift" if found is not None and found.value > LEAST_PSI and found.value > found.critical else "ok"


def jensen_shannon_distance(counts: Integers, reference: Integers) -> float:
    """Square root of the Jensen-Shannon divergence, log base 2, of the proportions that PSI compares; in [0, 1]."""
    p, q = proportion(counts), proportion(reference)
    middle = (p + q) / 2
    divergence = float((p * np.log2(p / middle) + q * np.log2(q / middle)).sum() / 2)
    return math.sqrt(max(divergence, 0.0))


def chi_squared(counts: Integers, reference: Integers) -> tuple[float, int, float] | None:
    """Two-sample chi-squared test of counts `(C,)`: statistic, degrees of freedom, p-value; empty cells are left out.

    None without rows on either side or with a single cell.
    """
    both = np.stack([counts, reference])[:, counts + reference > 0].astype(np.float64)
    if both.shape[1] < 2 or not both.sum(axis=1).all():
        return None
    expected = both.sum(axis=1, keepdims=True) * both.sum(axis=0) / both.sum()
    statistic = float(((both - expected) ** 2 / expected).sum())
    freedom = both.shape[1] - 1
    return statistic, freedom, chi_squared_survival(statistic, freedom)


def kolmogorov_smirnov(counts: Integers, reference: Integers) -> float | None:
    """Largest difference of the two distribution functions at the edges between bins `(B,)`; no missing values here."""
    if not counts.sum() or not reference.sum():
        return None
    return float(np.abs(np.cumsum(counts) / counts.sum() - np.cumsum(reference) / reference.sum()).max())


def share_change(count: int, n: int, reference: float, m: int, *, z: float) -> Change | None:
    """A share count/n beside that of m reference rows; critical is z standard errors of their difference, pooled."""
    if n == 0 or m == 0:
        return None
    pooled = (count + m * reference) / (n + m)
    return Change(count / n, reference, z * math.sqrt(max(0.0, pooled * (1 - pooled)) * (1 / n + 1 / m)))


def share_state(change: Change | None, n: int) -> State:
    """Drift where the share has grown by more than is tolerated and more than chance explains."""
    if change is None or n < LEAST_OBSERVATIONS:
        return "insufficient"
    return "drift" if change.difference > max(LEAST_SHARE_INCREASE, change.critical) else "ok"


def attribution_change(share: float, reference: float, deviation: float, n: int, m: int, *, z: float) -> Change:
    """A feature's share of |SHAP| from n rows beside that of m reference rows; `deviation` as in the reference."""
    return Change(share, reference, z * deviation * math.sqrt(1 / n + 1 / m))


def attribution_state(change: Change | None, n: int) -> State:
    """Drift where the share has moved, either way, by more than is tolerated and more than chance explains."""
    if change is None or n < LEAST_OBSERVATIONS:
        return "insufficient"
    return "drift" if abs(change.difference) > max(LEAST_ATTRIBUTION_CHANGE, change.critical) else "ok"


def share_z(features: int) -> float:
    """One-sided normal quantile for three kinds of share of each feature."""
    return normal_quantile(DRIFT_ERROR / (3 * features))


def attribution_z(features: int) -> float:
    """Two-sided normal quantile for the attributions of all features."""
    return normal_quantile(DRIFT_ERROR / (2 * features))
