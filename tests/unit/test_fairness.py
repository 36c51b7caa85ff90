"""Fairness over counts: worked numbers, published COMPAS figures, and scipy's Wilson interval."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.monitor.fairness import Cells, Rate, difference, gaps, ratio, signed_difference, wilson_interval

# Counts as published in Aequitas's COMPAS example (a score that is not low = predicted to reoffend).
AFRICAN_AMERICAN = Cells(true_positive=1369, false_positive=805, false_negative=532, true_negative=990)
CAUCASIAN = Cells(true_positive=505, false_positive=349, false_negative=461, true_negative=1139)

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_rates_of_a_worked_group():
    """Ten rows, counted by hand; favourable is the negative class."""
    rates = Cells(true_positive=3, false_positive=1, false_negative=1, true_negative=5).rates(
        positive_is_favourable=False
    )
    assert rates["selection_rate"].value == 0.6
    assert rates["true_positive_rate"].value == 0.75
    assert rates["false_positive_rate"].value == pytest.approx(1 / 6)
    assert rates["positive_predictive_value"].value == 0.75
    assert rates["base_rate"].value == 0.4


def test_selection_is_the_share_predicted_favourable_either_way_round():
    """The two directions add up to 1, while TPR, FPR and PPV stay about the positive class."""
    there = CAUCASIAN.rates(positive_is_favourable=True)
    back = CAUCASIAN.rates(positive_is_favourable=False)
    assert there.pop("selection_rate").value + back.pop("selection_rate").value == pytest.approx(1)
    assert there == back


def test_a_group_without_positives_has_no_true_positive_rate():
    """Undefined stays None, and does not enter the gap as 0."""
    groups = {
        "a": Cells(true_negative=4, false_positive=1),
        "b": Cells(true_positive=2, false_negative=2, true_negative=4),
        "c": Cells(true_positive=3, false_negative=1, true_negative=4),
    }
    assert groups["a"].rates(positive_is_favourable=False)["true_positive_rate"].value is None
    assert gaps(groups, positive_is_favourable=False)["equal_opportunity_difference"].value == 0.25


def test_compas_gaps_are_those_of_the_reference_libraries():
    """Difference and ratio as AIF360 and fairlearn give them on the published counts."""
    groups = {"African-American": AFRICAN_AMERICAN, "Caucasian": CAUCASIAN}
    found = gaps(groups, positive_is_favourable=True)
    rates = {name: cells.rates(positive_is_favourable=True)["selection_rate"] for name, cells in groups.items()}
    assert signed_difference(rates, "African-American", "Caucasian") == pytest.approx(0.2402002032, abs=1e-10)
    assert found["demographic_parity_difference"].value == pytest.approx(0.2402002032, abs=1e-10)
    assert found["demographic_parity_ratio"].value == pytest.approx(1 / 1.6902240032, abs=1e-10)
    assert found["equal_opportunity_difference"].value == pytest.approx(0.1973729638, abs=1e-10)
    assert found["equalized_odds_difference"].value == pytest.approx(0.2139250, abs=1e-7)


def test_wilson_interval_of_compas_selection_rates():
    """The figures that statsmodels gives."""
    assert wilson_interval(2174, 3696) == pytest.approx((0.572253, 0.603971), abs=1e-6)
    assert wilson_interval(854, 2454) == pytest.approx((0.329408, 0.367074), abs=1e-6)


@settings(deadline=None)
@given(counts, st.sampled_from([0.9, 0.95, 0.999]))
def test_wilson_interval_agrees_with_scipy(scipy_stats, count, confidence):
    """The same bounds as scipy.stats.binomtest, for any count and confidence."""
    expected = scipy_stats.binomtest(*count).proportion_ci(confidence, method="wilson")
    assert wilson_interval(*count, confidence=confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.fixture(scope="module")
def scipy_stats():
    """scipy.stats, which comes with scikit-learn."""
    return pytest.importorskip("scipy.stats", reason="scipy is not installed; it comes with scikit-learn")


def test_wilson_interval_of_nothing_is_undefined():
    """No rows, no interval."""
    assert wilson_interval(0, 0) is None
    assert Rate(0, 0).interval() is None


@given(st.lists(counts, min_size=2, max_size=6))
def test_bounds_of_a_gap_contain_it(group_counts):
    """For any groups: 0 <= low <= difference <= high <= 1, and the same for the ratio."""
    rates = {str(i): Rate(*count) for i, count in enumerate(group_counts)}
    for gap in (difference(rates), ratio(rates)):
        if gap is not None:
            assert 0 <= gap.low <= gap.value + 1e-12
            assert gap.value - 1e-12 <= gap.high <= 1


def test_bounds_of_a_worked_gap():
    """Two groups: each Wilson interval holds with 97.5 %, and the bounds are the corners of the two."""
    gap = difference({"a": Rate(90, 100), "b": Rate(30, 100)})
    (low_a, high_a), (low_b, high_b) = (wilson_interval(k, 100, confidence=0.975) for k in (90, 30))
    assert gap.value == pytest.approx(0.6)
    assert gap.low == pytest.approx(low_a - high_b)
    assert gap.high == pytest.approx(high_a - low_b)
    assert math.isclose(difference({"a": Rate(9, 10), "b": Rate(7, 10)}).low, 0.0)


def test_small_groups_enter_no_eligible_gap():
    """A denominator of 29 is left out, 30 is taken in."""
    rates = {"a": Rate(30, 60), "b": Rate(29, 29), "c": Rate(15, 60), "d": Rate(27, 30)}
    assert difference(rates).value == 0.75
    assert difference(rates, least_denominator=30).value == pytest.approx(0.65)
    assert ratio(rates, least_denominator=30).value == pytest.approx(0.25 / 0.9)


def test_one_group_has_no_gap():
    """A difference needs two defined groups; a ratio also a maximum above 0."""
    assert difference({"a": Rate(1, 2), "b": Rate(0, 0)}) is None
    assert ratio({"a": Rate(0, 5), "b": Rate(0, 7)}) is None
    assert signed_difference({"a": Rate(1, 2), "b": Rate(0, 0)}, "a", "b") is None
