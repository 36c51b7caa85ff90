"""Intervals of differences and ratios: worked numbers, statsmodels', and nothing for no rows."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep

from service.monitor.intervals import katz_interval, newcombe_interval, quantile, wilson_interval

AFRICAN_AMERICAN, CAUCASIAN = (2174, 3696), (854, 2454)  # COMPAS: not called low risk, of all
Z = quantile(0.95)

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
small_counts = st.integers(1, 12).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
tables = st.tuples(counts | small_counts, counts | small_counts)
confidences = st.sampled_from([0.9, 0.95, 0.999])


def test_the_quantile_is_two_sided():
    """1.96 for 95 %."""
    assert quantile(0.95) == pytest.approx(1.959964, abs=1e-6)


def test_intervals_of_compas():
    """The published counts, with the figures that statsmodels gives."""
    assert newcombe_interval(AFRICAN_AMERICAN, CAUCASIAN, z=Z) == pytest.approx((0.215339, 0.264580), abs=1e-6)
    assert katz_interval(AFRICAN_AMERICAN, CAUCASIAN, z=Z) == pytest.approx((1.590995, 1.795642), abs=1e-6)


def test_intervals_of_a_small_table():
    """3 of 12 beside 30 of 60: neither bound of the difference is Wald's."""
    assert newcombe_interval((3, 12), (30, 60), z=Z) == pytest.approx((-0.452442, 0.057797), abs=1e-6)
    assert katz_interval((3, 12), (30, 60), z=Z) == pytest.approx((0.181724, 1.375715), abs=1e-6)


@settings(deadline=None)
@given(tables, confidences)
def test_newcombe_interval_agrees_with_statsmodels(table, confidence):
    """For any counts and confidence, zeros and full groups among them."""
    (k1, n1), (k2, n2) = table
    expected = confint_proportions_2indep(k1, n1, k2, n2, method="newcomb", alpha=1 - confidence)
    assert newcombe_interval(*table, z=quantile(confidence)) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(tables, confidences)
def test_katz_interval_agrees_with_statsmodels(table, confidence):
    """The log interval of the ratio; with half a case more in all four counts where a numerator is 0."""
    add = 0.5 if 0 in (table[0][0], table[1][0]) else 0
    (k1, n1), (k2, n2) = ((k + add, n + add) for k, n in table)
    assume((k1, k2) != (n1, n2))  # statsmodels warns of the logarithm of an interval without width
    expected = confint_proportions_2indep(
        k1, n1, k2, n2, method="log", compare="ratio", alpha=1 - confidence, correction=False
    )
    assert katz_interval(*table, z=quantile(confidence)) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(tables, st.floats(0.5, 5))
def test_intervals_contain_what_they_are_of_and_are_finite(table, z):
    """Never outside the possible range; swapping the groups turns them round."""
    (k1, n1), (k2, n2) = table
    low, high = newcombe_interval(*table, z=z)
    assert -1 - 1e-12 <= low <= k1 / n1 - k2 / n2 <= high <= 1 + 1e-12
    assert newcombe_interval(*reversed(table), z=z) == pytest.approx((-high, -low))
    low, high = katz_interval(*table, z=z)
    assert 0 < low <= high < math.inf
    assert katz_interval(*reversed(table), z=z) == pytest.approx((1 / high, 1 / low))
    if k1 and k2:
        assert low <= k1 / n1 / (k2 / n2) * (1 + 1e-12)
        assert high >= k1 / n1 / (k2 / n2) * (1 - 1e-12)


def test_nobody_of_many_is_not_nothing_known():
    """0 of 500 beside 250 of 500 is surely below 0.8; 0 of 5 beside 3 of 5 is not."""
    assert katz_interval((0, 500), (250, 500), z=Z)[1] < 0.05
    assert katz_interval((0, 5), (3, 5), z=Z)[1] > 0.8


@pytest.mark.parametrize(("one", "other"), [((0, 0), (1, 2)), ((1, 2), (0, 0)), ((0, 0), (0, 0))])
def test_no_rows_have_no_interval(one, other):
    """Whichever group is empty."""
    assert newcombe_interval(one, other, z=Z) is None
    assert katz_interval(one, other, z=Z) is None
    assert wilson_interval(0, 0) is None
