"""Chi-squared and normal quantiles are those of scipy."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from service.monitor.distributions import chi_squared_quantile, chi_squared_survival, normal_quantile

FREEDOMS = range(1, 401)
survivals = st.floats(1e-12, 1 - 1e-9)


@pytest.mark.parametrize("part", [1e-6, 0.01, 0.5, 1.0, 1.5, 3.0, 20.0])
def test_survival_is_that_of_scipy(part):
    """For 1 to 400 degrees of freedom, at multiples of what is to be expected."""
    for freedom in FREEDOMS:
        expected = stats.chi2.sf(part * freedom, freedom)
        assert chi_squared_survival(part * freedom, freedom) == pytest.approx(expected, rel=1e-10, abs=1e-300)


@pytest.mark.parametrize("survival", [0.5, 0.05, 0.01, 0.01 / 30, 0.01 / 400, 1e-9, 0.999])
def test_quantiles_are_those_of_scipy(survival):
    """For few and many degrees of freedom."""
    for freedom in (*range(1, 31), 99, 100, 255, 399, 400):
        expected = stats.chi2.isf(survival, freedom)
        assert chi_squared_quantile(survival, freedom) == pytest.approx(expected, rel=1e-10)


@settings(deadline=None)
@given(st.floats(0, 5000), st.integers(1, 400))
def test_any_survival_is_a_probability_and_that_of_scipy(statistic, freedom):
    """Also where parts of the sum are out of the range of floats."""
    found = chi_squared_survival(statistic, freedom)
    assert 0 <= found <= 1
    assert found == pytest.approx(stats.chi2.sf(statistic, freedom), rel=1e-9, abs=1e-300)


@settings(deadline=None)
@given(survivals, st.integers(1, 400))
def test_the_quantile_is_where_the_survival_falls_to_it(survival, freedom):
    """To the last digits."""
    quantile = chi_squared_quantile(survival, freedom)
    assert chi_squared_survival(quantile, freedom) <= survival
    assert chi_squared_survival(quantile * (1 - 1e-9), freedom) == pytest.approx(survival, rel=1e-5)


@pytest.mark.parametrize("freedom", [1, 2, 9, 400])
@pytest.mark.parametrize(("statistic", "expected"), [(0.0, 1.0), (-1.0, 1.0), (5e-324, 1.0), (1e6, 0.0), (1e300, 0.0)])
def test_extreme_statistics(freedom, statistic, expected):
    """Nothing is an error, and nothing is NaN."""
    assert chi_squared_survival(statistic, freedom) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("freedom", [0, -1])
def test_without_degrees_of_freedom_nothing_is_surprising(freedom):
    """A distribution of one bin has no chance to differ."""
    assert chi_squared_survival(7.0, freedom) == 1.0
    assert chi_squared_quantile(0.01, freedom) == 0.0


def test_extreme_quantiles():
    """Of everything and nearly nothing."""
    assert chi_squared_quantile(1.0, 5) == pytest.approx(0.0, abs=1e-2)
    assert chi_squared_quantile(1e-300, 3) == pytest.approx(stats.chi2.isf(1e-300, 3), rel=1e-9)


@given(st.floats(1e-9, 0.999))
def test_normal_quantiles_are_those_of_scipy(survival):
    """One-sided."""
    assert normal_quantile(survival) == pytest.approx(stats.norm.isf(survival), rel=1e-7, abs=1e-12)
    assert math.isfinite(normal_quantile(survival))
