"""Which numbers a feature accepts, said of whole arrays: what `api.schema` says of one value."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[Any]


def bounds_of(numbers: np.dtype[Any], low: ArrayLike, high: ArrayLike) -> tuple[Numbers, Numbers]:
    """Bounds as numbers of this type have them: a caller's float32 0.1 is not more than 0.1."""
    kind = np.float32 if numbers == np.float32 else np.float64
    return np.asarray(low, kind), np.asarray(high, kind)


def accepted(numbers: Numbers, low: Numbers, high: Numbers, *, whole: ArrayLike, nullable: ArrayLike) -> Numbers:
    """Which of `numbers` are within bounds, whole where they must be, or NaN where that may be; arrays broadcast."""
    whole, missing = np.asarray(whole), np.isnan(numbers)
    fits: Numbers = (numbers >= low) & (numbers <= high)  # false for NaN
    if whole.any():
        with np.errstate(invalid="ignore"):
            fits &= ~whole | (np.trunc(numbers) == numbers)
    fits |= missing & np.asarray(nullable)
    return fits
