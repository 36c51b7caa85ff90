"""Drift statistics are scipy's on the same counts; an alarm takes an effect, more than chance, and rows enough."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from service.monitor import drift
from service.monitor.drift import Change, Psi

ordinary = st.integers(0, 2000)
any_count = ordinary | st.sampled_from([0, 1, 10**9, 10**15])


def pairs(count):
    """Counts now and in the reference, in the same cells."""
    return st.integers(1, 12).flatmap(
        lambda B: st.tuples(*[st.lists(count, min_size=B, max_size=B).map(np.array) for _ in range(2)])
    )


def smoothed(counts):
    """Half a case more in each cell, written out."""
    return np.array([(int(c) + 0.5) / (int(counts.sum()) + 0.5 * len(counts)) for c in counts])


NOW, THEN = np.array([30, 60, 110, 0, 50]), np.array([100, 100, 100, 100, 0])


@settings(deadline=None)
@given(st.lists(any_count, min_size=1, max_size=12).map(np.array))
@example(np.array([0, 0]))
@example(np.array([10**15, 0, 0]))
def test_proportions_have_half_a_case_more_in_each_cell(counts):
    """They add up to 1, and no cell is impossible."""
    found = drift.proportion(counts)
    assert found == pytest.approx(smoothed(counts), rel=1e-12)
    assert found.sum() == pytest.approx(1)
    assert (found > 0).all()


@settings(deadline=None)
@given(pairs(any_count))
@example((NOW, THEN))
def test_psi_and_jensen_shannon_are_those_of_scipy(pair):
    """The symmetric Kullback-Leibler divergence, and the distance with logarithms to base 2."""
    p, q = map(smoothed, pair)
    found = drift.psi(*pair, comparisons=7)
    if found is None:
        assert 0 in (pair[0].sum(), pair[1].sum(), len(pair[0]) - 1)
    else:
        assert found.value == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), rel=1e-9, abs=1e-12)
        assert 0 <= found.value < math.inf
        assert 0 <= found.critical < math.inf
    distance = drift.jensen_shannon_distance(*pair)
    with np.errstate(invalid="ignore"):  # scipy takes the root of -1e-17
        expected = np.nan_to_num(jensenshannon(p, q, base=2))
    # Near 0 a square root makes much of the last digit.
    assert distance**2 == pytest.approx(expected**2, rel=1e-9, abs=1e-12)
    assert 0 <= distance <= 1


@pytest.mark.parametrize("comparisons", [1, 19, 300])
def test_the_critical_value_is_a_quantile_shared_by_all_comparisons(comparisons):
    """Bonferroni, times 1/n + 1/m; one degree of freedom less than cells."""
    found = drift.psi(NOW, THEN, comparisons=comparisons)
    assert found.degrees_of_freedom == 4
    expected = stats.chi2.isf(0.005 / comparisons, 4) * (1 / 250 + 1 / 400)
    assert found.critical == pytest.approx(expected)


@pytest.mark.parametrize(("now", "then"), [([0, 0], [5, 5]), ([5, 5], [0, 0]), ([0], [0])])
def test_nothing_is_compared_without_rows(now, then):
    """On either side; undefined is None, not 0."""
    now, then = np.array(now), np.array(then)
    assert drift.psi(now, then, comparisons=1) is None
    assert drift.chi_squared(now, then) is None
    assert drift.kolmogorov_smirnov(now, then) is None
    assert drift.psi_state(None, 199) == "insufficient"


def test_a_single_cell_has_nothing_to_compare():
    """However many rows are in it: there is no degree of freedom."""
    one = np.array([1000])
    assert drift.psi(one, one, comparisons=1) is None
    assert drift.chi_squared(one, one) is None
    assert drift.jensen_shannon_distance(one, one) == 0
    assert drift.psi_state(None, 1000) == "ok"


@settings(deadline=None)
@given(pairs(ordinary))
@example((NOW, THEN))
def test_chi_squared_is_that_of_scipy(pair):
    """Of the table without its empty columns, without Yates' correction."""
    now, then = pair
    found = drift.chi_squared(now, then)
    table = np.stack([now, then])[:, now + then > 0]
    if table.shape[1] < 2 or not now.sum() or not then.sum():
        assert found is None
        return
    expected = stats.chi2_contingency(table, correction=False)
    assert found[0] == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    assert found[1] == expected.dof
    assert found[2] == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-300)


@settings(deadline=None)
@given(pairs(any_count))
def test_chi_squared_is_finite_for_any_counts(pair):
    """One huge count beside small ones."""
    found = drift.chi_squared(*pair)
    if found is not None:
        statistic, freedom, p_value = found
        assert 0 <= statistic < math.inf
        assert 1 <= freedom < len(pair[0])
        assert 0 <= p_value <= 1


@settings(deadline=None)
@given(pairs(st.integers(0, 25)))
@example((NOW, THEN))
def test_kolmogorov_smirnov_is_that_of_values_placed_in_the_bins(pair):
    """Scipy's on a value for each row."""
    now, then = pair
    found = drift.kolmogorov_smirnov(now, then)
    if not now.sum() or not then.sum():
        assert found is None
        return
    places = np.arange(len(now))
    values = np.repeat(places, now), np.repeat(places, then)
    expected = stats.ks_2samp(*values, method="exact").statistic
    assert found == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(pairs(any_count))
def test_no_statistic_of_any_counts_is_nan(pair):
    """Zeros and huge counts: None, or a number in its range."""
    found = drift.kolmogorov_smirnov(*pair)
    assert found is None or 0 <= found <= 1 + 1e-12


@pytest.mark.parametrize("times", [1, 3, 1000])
def test_a_distribution_that_is_the_reference_has_not_moved(times):
    """Whatever n is: 0 to rounding of the half cases."""
    full = np.array([100, 120, 80, 100])
    found = drift.psi(full * times, full, comparisons=1)
    assert found.value == pytest.approx(0, abs=1e-5)
    assert drift.psi_state(found, 400 * times) == "ok"
    assert drift.jensen_shannon_distance(full * times, full) == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize("n", [400, 10**4, 10**6])
def test_a_cell_that_is_empty_on_both_sides_adds_little(n):
    """Half a case among m beside one among n: q ln(n / m), which grows slowly and stays below chance."""
    then = np.array([100, 100, 100, 100, 0])
    found = drift.psi(then * (n // 400), then, comparisons=1)
    q = 0.5 / 402.5
    assert 0 <= found.value <= 1.1 * q * math.log(n / 400)
    assert found.value < found.critical


def test_opposite_distributions_are_as_far_as_can_be():
    """1 is the largest distance."""
    far = drift.jensen_shannon_distance(np.array([0, 10**9]), np.array([10**9, 0]))
    assert far == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("value", "critical", "n", "state"),
    [
        (0.5, 0.2, 200, "drift"),
        (0.5, 0.2, 199, "insufficient"),
        (0.5, 0.6, 5000, "ok"),  # beyond the floor, within chance
        (0.1, 0.01, 5000, "ok"),  # beyond chance, not beyond the floor
        (0.1001, 0.01, 5000, "drift"),
        (0.2, 0.2, 5000, "ok"),
    ],
)
def test_psi_alarms_only_where_floor_chance_and_rows_agree(value, critical, n, state):
    """Each alone does not."""
    assert drift.psi_state(Psi(value, critical, 9), n) == state


def test_a_share_is_compared_with_its_pooled_standard_error():
    """By hand: 30 of 300 beside 5 % of 1000."""
    change = drift.share_change(30, 300, 0.05, 1000, z=2.5)
    pooled = (30 + 50) / 1300
    assert (change.value, change.reference) == (0.1, 0.05)
    assert change.difference == pytest.approx(0.05)
    assert change.critical == pytest.approx(2.5 * math.sqrt(pooled * (1 - pooled) * (1 / 300 + 1 / 1000)))


@pytest.mark.parametrize(("n", "m"), [(0, 100), (100, 0), (0, 0)])
def test_a_share_of_nothing_is_undefined(n, m):
    """And judged as such."""
    change = drift.share_change(0, n, 0.0, m, z=2.0)
    assert change is None
    assert drift.share_state(change, n) == "insufficient"


@pytest.mark.parametrize(("count", "reference"), [(0, 0.0), (100, 1.0)])
def test_shares_of_all_or_nothing_have_no_error(count, reference):
    """Not the root of a negative number either."""
    assert drift.share_change(count, 100, reference, 1000, z=3.0).critical == 0.0


@pytest.mark.parametrize(
    ("change", "n", "state"),
    [
        (Change(0.2, 0.1, 0.02), 200, "drift"),
        (Change(0.2, 0.1, 0.02), 199, "insufficient"),
        (Change(0.2, 0.1, 0.11), 9000, "ok"),
        (Change(0.14, 0.1, 0.001), 9000, "ok"),
        (Change(0.1, 0.4, 0.02), 9000, "ok"),  # fewer missing values are no alarm
    ],
)
def test_a_share_alarms_where_it_has_grown_by_enough(change, n, state):
    """More than is tolerated, and more than chance explains."""
    assert drift.share_state(change, n) == state


@pytest.mark.parametrize(
    ("change", "n", "state"),
    [
        (Change(0.4, 0.3, 0.02), 200, "drift"),
        (Change(0.2, 0.3, 0.02), 200, "drift"),
        (Change(0.2, 0.3, 0.02), 199, "insufficient"),
        (Change(0.26, 0.3, 0.02), 9000, "ok"),
        (Change(0.2, 0.3, 0.11), 9000, "ok"),
        (None, 9000, "insufficient"),
    ],
)
def test_attributions_alarm_where_a_share_has_moved_either_way(change, n, state):
    """A feature that explains less is as remarkable as one that explains more."""
    assert drift.attribution_state(change, n) == state


def test_attributions_are_compared_with_the_deviation_of_the_reference():
    """s times the root of 1/n + 1/m."""
    change = drift.attribution_change(0.3, 0.2, 0.6, 400, 100, z=3.0)
    assert change.difference == pytest.approx(0.1)
    assert change.critical == pytest.approx(3.0 * 0.6 * math.sqrt(1 / 400 + 1 / 100))


@pytest.mark.parametrize("features", [1, 10, 30])
def test_normal_quantiles_are_shared_by_all_comparisons(features):
    """Three shares of each feature, one-sided; one share of the explanations, two-sided."""
    assert drift.share_z(features) == pytest.approx(stats.norm.isf(0.005 / (3 * features)))
    assert drift.attribution_z(features) == pytest.approx(stats.norm.isf(0.005 / features / 2))
