"""Which numbers of an array a feature accepts, in tensors and in files alike."""

import numpy as np
import pytest

from service.api.values import accepted, bounds_of
from service.bulk.columns import first_bad
from service.manifest import Feature

SHARE = Feature(name="share", kind="numeric", minimum=0, maximum=0.1, nullable=True)
HOUR = Feature(name="hour", kind="integer", minimum=0, maximum=23)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_bound_is_accepted_as_the_caller_has_it(kind) -> None:
    """float32's 0.1 is 0.100000001 and was meant as 0.1; the next number up is not accepted."""
    numbers = np.array([0.1, np.nan], kind)
    assert first_bad(SHARE, numbers) is None
    numbers[1] = np.nextafter(kind(0.1), kind(1))
    assert first_bad(SHARE, numbers) == 1


@pytest.mark.parametrize(
    ("numbers", "bad"), [([0, 23], None), ([5, 24], 1), ([-1], 0), ([1.0, 1.5], 1), ([np.nan], 0), ([np.inf], 0)]
)
def test_whole_numbers_within_their_bounds(numbers, bad) -> None:
    """Of whatever type; a missing one only where that may be."""
    assert first_bad(HOUR, np.array(numbers)) == bad


def test_rules_of_several_features_at_once() -> None:
    """A row for each value, a column for each feature."""
    X = np.array([[0.5, 1, np.nan], [0.5, 1.5, np.nan], [2, 1, 3]], np.float32)
    low, high = bounds_of(X.dtype, [0, 0, 0], [1, 1, 5])
    found = accepted(X, low, high, whole=[False, True, False], nullable=[False, False, True])
    assert found.tolist() == [[True, True, True], [True, False, True], [False, True, True]]
