"""Chi-squared and normal quantiles, exact to rounding, without a library of statistics in the service.

For whole degrees of freedom the chi-squared survival function is a finite sum (Abramowitz and Stegun 26.4.4, 26.4.5).
"""

import math
from functools import lru_cache
from statistics import NormalDist

BISECTIONS = 200


def chi_squared_survival(statistic: float, degrees_of_freedom: int) -> float:
    """P(X > statistic) of a chi-squared variable; 1 for a statistic of 0 or no degrees of freedom."""
    half = statistic / 2  # of the smallest float, 0
    if half <= 0 or degrees_of_freedom < 1:
        return 1.0
    odd = degrees_of_freedom % 2
    total = math.erfc(math.sqrt(half)) if odd else math.exp(-half)
    # half^k / Gamma(k + 1) for k = 1, 2, ... or 1/2, 3/2, ..., in logarithms: both parts may be out of range
    for number in range(1, (degrees_of_freedom + 1) // 2):
        k = number - 0.5 if odd else float(number)
        total += math.exp(k * math.log(half) - half - math.lgamma(k + 1))
    return min(total, 1.0)


@lru_cache(maxsize=4096)
def chi_squared_quantile(survival: float, degrees_of_freedom: int) -> float:
    """The statistic that is exceeded with probability `survival`; 0 for no degrees of freedom."""
    if degrees_of_freedom < 1:
        return 0.0
    low, high = 0.0, 1.0
    while chi_squared_survival(high, degrees_of_freedom) > survival:
        high *= 2
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if chi_squared_survival(middle, degrees_of_freedom) > survival else (low, middle)
    return high


def normal_quantile(survival: float) -> float:
    """The standard normal deviate that is exceeded with probability `survival`."""
    return NormalDist().inv_cdf(1 - survival)
