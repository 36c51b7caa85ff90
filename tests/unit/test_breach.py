"""What counts as a breach: rarely chance, hardly ever missed where there are rows enough, and never not a number."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.alerts import GROUPS, TRUE_RATIO, below_four_fifths, breaches, windows
from service.monitor.comparison import compare, worst
from service.monitor.disparities import disparities
from service.monitor.fairness import Cells, Rate
from service.monitor.groups import GroupSet

RUNS = 2000
PAIR = GroupSet("f", ("a", "b", "unknown", "declined", "other"), "b", ("f",))
QUANTILES = {"z": PAIR.simultaneous_z, "difference_z": PAIR.simultaneous_difference_z}
NAMES = ("selection_rate", "true_positive_rate", "false_positive_rate", "positive_predictive_value", "label_coverage")


def drawn(selection_rates, n, seed=11):
    return windows(selection_rates, n, RUNS, np.random.default_rng(seed))


def compared(one, other, **quantiles):
    """Comparisons of a group all of whose rates are `one` with a reference group of `other`."""
    return compare(dict.fromkeys(NAMES, Rate(*one)), dict.fromkeys(NAMES, Rate(*other)), **QUANTILES | quantiles)


def states(one, other):
    return {name: found["state"] for name, found in compared(one, other).items() if "state" in found}


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_six_groups_of_100_that_are_alike_hardly_ever_breach(rate):
    """All kinds and groups together in under 1 % of windows."""
    found = [breaches(window) for window in drawn([rate] * len(GROUPS), 100)]
    assert sum(map(bool, found)) < 0.01 * RUNS


def test_the_bare_four_fifths_rule_would_nearly_always():
    """What the interval is for."""
    assert sum(map(below_four_fifths, drawn([0.3] * len(GROUPS), 100))) > 0.85 * RUNS


def test_a_ratio_of_0_6_is_seen_among_2000_a_group():
    """0.3 against 0.5: in over 99 % of windows, and of that group alone."""
    found = [breaches(window) for window in drawn([TRUE_RATIO * 0.5, *[0.5] * (len(GROUPS) - 1)], 2000)]
    assert sum((GROUPS[0], "impact_ratio") in each for each in found) > 0.99 * RUNS
    others = [each for each in found if {group for group, _ in each} - {GROUPS[0]}]
    assert len(others) < 0.01 * RUNS


def test_nobody_of_500_against_half_is_a_breach():
    """Though the logarithm of the ratio is not defined."""
    found = compared((0, 500), (250, 500))
    assert found["impact_ratio"]["state"] == "breach"
    assert found["impact_ratio"]["value"] == 0.0
    assert 0 < found["impact_ratio"]["high"] < 0.05
    assert found["adverse_ratio"]["state"] == "ok"  # 2.0 is not more than 2
    assert set(states((0, 500), (250, 500)).values()) == {"breach", "ok"}


def test_all_rejected_against_few_is_an_adverse_breach():
    """Selected 90 and 99 of 100: a ratio of 0.91, and ten times as many turned down."""
    assert states((900, 1000), (990, 1000)) == {
        "impact_ratio": "ok",
        "adverse_ratio": "breach",
        **dict.fromkeys([f"{name}_difference" for name in NAMES[1:]], "ok"),
    }


@pytest.mark.parametrize(("one", "other"), [((0, 29), (300, 300)), ((0, 300), (29, 29)), ((0, 0), (30, 30))])
def test_denominators_of_29_are_insufficient(one, other):
    """However far apart the rates are."""
    assert set(states(one, other).values()) == {"insufficient"}


def test_denominators_of_30_are_sufficient():
    """None of 30 against all of 30."""
    found = states((0, 30), (30, 30))
    assert found.pop("adverse_ratio") == "breach"  # 1 against 0: no value, and surely more than 2
    assert set(found.values()) == {"breach"}


def test_an_effect_within_tolerance_is_none_however_many_rows():
    """0.42 against 0.5 of a million: surely different, and tolerated."""
    assert set(states((420_000, 1_000_000), (500_000, 1_000_000)).values()) == {"ok"}
    assert states((390_000, 1_000_000), (500_000, 1_000_000))["impact_ratio"] == "breach"


def test_differences_breach_on_either_side():
    """More true positives than the reference group are a difference too; more selected are not."""
    found = states((900, 1000), (500, 1000))
    assert (found["impact_ratio"], found["true_positive_rate_difference"]) == ("ok", "breach")


def test_a_group_without_positives_has_no_true_positive_rate():
    """It enters no gap, and is not judged for it."""
    groups = {
        "a": Cells(false_positive=40, true_negative=60),
        "b": Cells(30, 40, 30, 60),
        "c": Cells(50, 40, 50, 60),
    }
    rates = {
        group: cells.rates(positive_is_favourable=True) | {"label_coverage": Rate(cells.n, cells.n)}
        for group, cells in groups.items()
    }
    assert disparities(rates)["equal_opportunity_difference"]["value"] == 0.0
    found = compare(rates["a"], rates["c"], **QUANTILES)["true_positive_rate_difference"]
    assert found == {"value": None, "low": None, "high": None, "state": "insufficient"}


counts = st.integers(0, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(deadline=None)
@given(counts, counts, st.floats(1.6, 4))
def test_nothing_is_nan_or_infinite(one, other, z):
    """For any counts; what is undefined is None, and then there is no breach by value."""
    for found in compared(one, other, z=z, difference_z=z).values():
        numbers = [found[name] for name in ("value", "low", "high")]
        assert all(number is None or math.isfinite(number) for number in numbers)
        if found["value"]:  # a ratio of 0 has an interval of half a case, which is above it
            assert found["low"] - 1e-12 <= found["value"] <= found["high"] + 1e-12


def test_a_breach_goes_before_insufficient_before_ok():
    """Of several states the one that somebody has to know."""
    assert worst(["ok", "insufficient", "breach"]) == "breach"
    assert worst(["ok", "insufficient"]) == "insufficient"
    assert worst(["ok", "ok"]) == "ok"
    assert worst([]) == "ok"
