"""Expected rates: what outcomes drawn from the calibrated probabilities give, on average and within the interval."""

import math

import numpy as np
import pytest
from frozen import AGE_BAND, SEX, frozen, frozen_manifest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.calibration import calibrators
from service.monitor.counters import Counters
from service.monitor.performance import expected_rates

RATES = ("true_positive_rate", "false_positive_rate", "positive_predictive_value")


def sums(p, predicted, K=2):
    """Counts, sums of p and of p (1 - p) by predicted class."""
    return tuple(np.bincount(predicted, weights, K).astype(float) for weights in (None, p, p * (1 - p)))


def realised(positive, called):
    """TPR, FPR and PPV of outcomes."""
    return (
        (positive & called).sum() / positive.sum(),
        (~positive & called).sum() / (~positive).sum(),
        (positive & called).sum() / called.sum(),
    )


def test_rates_by_hand():
    """Ten of each: S1 = 8, S0 = 2 of N1 = N0 = 20."""
    found = expected_rates(
        np.array([20.0, 20.0]), np.array([2.0, 8.0]), np.array([1.8, 4.8]), positive=1, rounded=False
    )
    assert [found[name]["value"] for name in RATES] == pytest.approx([8 / 10, 12 / 30, 8 / 20])
    half = {
        "true_positive_rate": math.sqrt((0.2**2 * 4.8 + 0.8**2 * 1.8) / 10**2),
        "false_positive_rate": math.sqrt((0.6**2 * 4.8 + 0.4**2 * 1.8) / 30**2),
        "positive_predictive_value": math.sqrt(4.8) / 20,
    }
    for name, error in half.items():
        rate = found[name]
        assert rate["high"] == pytest.approx(min(1, rate["value"] + 1.959964 * error))
        assert rate["low"] == pytest.approx(max(0, rate["value"] - 1.959964 * error))


@pytest.mark.parametrize("n", [200, 3000])
def test_outcomes_drawn_from_the_probabilities_have_the_expected_rates(n):
    """Their mean is the estimate, and 95 % of the draws lie within the interval."""
    dice = np.random.default_rng(11)
    p = dice.beta(1.2, 2.0, n)
    called = p >= 0.4
    found = expected_rates(*sums(p, called.astype(int)), positive=1, rounded=False)
    draws = np.array([realised(dice.random(n) < p, called) for _ in range(3000)])
    for name, drawn in zip(RATES, draws.T, strict=True):
        rate = found[name]
        assert drawn.mean() == pytest.approx(rate["value"], abs=4 * drawn.std() / math.sqrt(3000) + 0.3 / n)
        covered = ((drawn >= rate["low"]) & (drawn <= rate["high"])).mean()
        assert covered == pytest.approx(0.95, abs=0.02)
        assert (rate["high"] - rate["low"]) / 2 == pytest.approx(1.96 * drawn.std(), rel=0.06)


@pytest.mark.parametrize("positive", [0, 2])
def test_several_classes_are_the_positive_one_against_the_rest(positive):
    """In whichever column it stands."""
    dice = np.random.default_rng(5)
    p, predicted = dice.random(500), dice.integers(0, 3, 500)
    found = expected_rates(*sums(p, predicted, 3), positive=positive, rounded=False)
    binary = expected_rates(*sums(p, (predicted == positive).astype(int)), positive=1, rounded=False)
    for name in RATES:
        assert found[name] == pytest.approx(binary[name])


@pytest.mark.parametrize(("n", "known"), [(0, False), (29, False), (30, True)])
def test_few_rows_say_nothing(n, known):
    """As for realised rates: 30 are expected."""
    found = expected_rates(np.array([0.0, n]), np.array([0.0, n / 2]), np.array([0.0, n / 4]), positive=1, rounded=True)
    assert (found is not None) == known


def test_a_rate_without_a_denominator_is_undefined():
    """Nobody called positive; nobody positive; nobody negative."""
    nobody_called = expected_rates(
        np.array([50.0, 0.0]), np.array([5.0, 0.0]), np.array([4.5, 0.0]), positive=1, rounded=False
    )
    assert nobody_called["positive_predictive_value"] is None
    assert nobody_called["true_positive_rate"]["value"] == 0.0
    never = expected_rates(np.array([30.0, 20.0]), np.zeros(2), np.zeros(2), positive=1, rounded=False)
    assert never["true_positive_rate"] is None
    assert never["false_positive_rate"] == {"value": 0.4, "low": 0.4, "high": 0.4}
    always = expected_rates(np.array([30.0, 20.0]), np.array([30.0, 20.0]), np.zeros(2), positive=1, rounded=False)
    assert always["false_positive_rate"] is None
    assert always["positive_predictive_value"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_rounding_hides_what_lies_behind_the_fourth_decimal():
    """From exact rates sums could be worked out."""
    dice = np.random.default_rng(2)
    p = dice.random(100)
    found = expected_rates(*sums(p, (p > 0.5).astype(int)), positive=1, rounded=True)
    exact = expected_rates(*sums(p, (p > 0.5).astype(int)), positive=1, rounded=False)
    for name in RATES:
        assert found[name] == {key: round(number, 4) for key, number in exact[name].items()}
        assert found[name] != exact[name]


probabilities = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=30, max_size=80)


@settings(deadline=None)
@given(probabilities)
@example([(0.0, 0)] * 29 + [(1e-300, 0)])
def test_rates_and_bounds_are_shares(rows):
    """Never outside 0 to 1, never NaN, with the estimate between its bounds."""
    p, predicted = np.array([p for p, _ in rows]), np.array([predicted for _, predicted in rows])
    for rate in expected_rates(*sums(p, predicted), positive=1, rounded=False).values():
        if rate is not None:
            assert 0 <= rate["low"] <= rate["value"] + 1e-9
            assert rate["value"] - 1e-9 <= rate["high"] <= 1


# Whether a calibrator for each group is worth its points


def people(dice, n):
    """Scores that mean less for women than for men, as where the model does not know the sex: p, y, sex."""
    sex = dice.choice(["female", "male"], n, p=[0.33, 0.67])
    women = sex == "female"
    margin = dice.normal(np.where(women, -1.6, -0.7), 1.6)
    true = 1 / (1 + np.exp(-(margin + np.where(women, -1.1, 0.35))))
    return 1 / (1 + np.exp(-margin)), dice.random(n) < true, sex


def gap(found):
    return found["male"] - found["female"]


@pytest.fixture(scope="module")
def estimates():
    """TPR by sex: estimated with the calibrator of all rows, with those of the groups, and realised."""
    dice = np.random.default_rng(20)
    score, positive, sex = people(dice, 20_000)
    made = calibrators(score, positive, {"sex": sex})
    score, positive, sex = people(dice, 20_000)
    called = score >= 0.5
    found = {}
    for name, groups in (("pooled", {}), ("group", made["groups"])):
        counters = Counters(
            frozen_manifest(SEX, AGE_BAND), frozen(calibrators={"pooled": made["pooled"], "groups": groups})
        )
        joint = np.array([counters.groups.of({"sex": one}).number for one in sex])
        probability = np.stack([1 - score, score], axis=1).astype(np.float32)
        counters.drift.add(np.zeros((len(score), 4), np.float32), probability, joint, called.astype(np.int64))
        layout, values = counters.drift.layout, counters.drift.values
        tables = [layout.view(values, f"{part} sex") for part in ("predictions", "calibrated", "variance")]
        found[name] = {
            group: expected_rates(*(table[row] for table in tables), positive=1, rounded=False)
            for row, group in enumerate(SEX[1])
        }
    actual = {group: realised(positive[sex == group], called[sex == group]) for group in SEX[1]}
    return found["pooled"], found["group"], actual


def test_a_pooled_calibrator_sees_a_gap_that_is_not_there(estimates):
    """Scores of women promise too much, and those of men too little: the gap is another."""
    pooled, _, actual = estimates
    real = gap({group: rates[0] for group, rates in actual.items()})
    seen = gap({group: rates["true_positive_rate"]["value"] for group, rates in pooled.items()})
    assert (seen, real) == (pytest.approx(0.17, abs=0.02), pytest.approx(0.01, abs=0.02))


def test_calibrators_of_the_groups_estimate_what_came_true(estimates):
    """Every rate of both within 0.03, and the gap within 0.02."""
    _, group, actual = estimates
    for name, rates in actual.items():
        for kind, real in zip(RATES, rates, strict=True):
            assert group[name][kind]["value"] == pytest.approx(real, abs=0.03)
    real = gap({group: rates[0] for group, rates in actual.items()})
    seen = gap({name: rates["true_positive_rate"]["value"] for name, rates in group.items()})
    assert seen == pytest.approx(real, abs=0.02)
