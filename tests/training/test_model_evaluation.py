"""Evaluation against scikit-learn, and worked numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from models.evaluate import (
    Cost,
    baseline_probability,
    calibration_error,
    choose_threshold,
    confusion,
    gap_estimates,
    group_confusions,
    ranking_intervals,
    ranking_quality,
)
from models.task import Declaration, Rows
from service.manifest import Feature

FLAT_COST = Cost(alarm=1.0, missed=lambda rows: np.full(len(rows), 5.0), unit="alarms", stated="")
QUESTION = Declaration(
    name="toy",
    description="",
    classes=("no", "yes"),
    favourable_outcome="no",
    features=[Feature(name="x", kind="numeric")],
)


def rows_of(y):
    """Rows with labels `y` and no features worth mentioning."""
    return Rows(np.zeros((len(y), 1), np.float32), np.asarray(y))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=4, max_size=60))
def test_ranking_agrees_with_scikit_learn(pairs):
    """AUROC and average precision, also where many scores are equal."""
    y, score = (np.array(column) for column in zip(*pairs, strict=True))
    if y.min() == y.max():
        return
    rank = np.unique(score, return_inverse=True)[1]
    auroc, precision = ranking_quality(np.bincount(rank, y, rank.max() + 1), np.bincount(rank, 1 - y, rank.max() + 1))
    assert auroc == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    assert precision == pytest.approx(average_precision_score(y, score), abs=1e-12)


def test_bootstrap_intervals_surround_the_value_and_are_paired():
    """A score against itself differs by exactly 0; a good one against noise by clearly more."""
    rng = np.random.default_rng(0)
    y = (rng.random(400) < 0.3).astype(np.int64)
    good, noise = y + rng.normal(0, 0.8, 400), rng.normal(size=400)
    (auroc, precision), _, (gain, _) = ranking_intervals(y, [good, noise], seed=1)
    assert auroc.value == pytest.approx(roc_auc_score(y, good), abs=1e-5)
    assert precision.value == pytest.approx(average_precision_score(y, good), abs=1e-5)
    assert auroc.low < auroc.value < auroc.high
    assert gain.low > 0
    same = ranking_intervals(y, [good, good], seed=1)[2][0]
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_the_auroc_interval_has_the_width_of_hanley_and_mcneil():
    """Within a tenth of the closed form's (1982) 95 % width on 2,000 rows."""
    rng = np.random.default_rng(2)
    y = (rng.random(2000) < 0.3).astype(np.int64)
    score = y + rng.normal(size=2000)
    auroc = ranking_intervals(y, [score, score], seed=0)[0][0]
    a, p, n = auroc.value, y.sum(), (1 - y).sum()
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = np.sqrt((a * (1 - a) + (p - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (p * n))
    assert auroc.high - auroc.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_one_class_has_no_ranking():
    """Undefined, not 0.5."""
    (auroc, precision), *_ = ranking_intervals(np.ones(5, np.int64), [np.arange(5.0), np.arange(5.0)], seed=0)
    assert auroc.value is auroc.low is precision.value is None


def test_the_threshold_minimises_the_stated_cost():
    """Six rows by hand: flagging three costs 3, any other number more; the cut lies halfway between 0.6 and 0.3."""
    probability = np.array([0.9, 0.8, 0.6, 0.3, 0.2, 0.1])
    y = rows_of([1, 0, 1, 0, 0, 0])
    assert choose_threshold(y, probability, FLAT_COST) == 0.45


def test_a_missed_fraud_costs_its_amount():
    """With an investigation at 10, a fraud of 4 is let pass and one of 400 is not."""
    rows = Rows(np.array([[400.0], [4.0], [50.0]], np.float32), np.array([1, 1, 0]))
    cost = Cost(alarm=10.0, missed=lambda rows: rows.X[:, 0].astype(float), unit="EUR", stated="")
    threshold = choose_threshold(rows, np.array([0.7, 0.5, 0.1]), cost)
    assert threshold == 0.6


def test_no_threshold_cuts_between_equal_probabilities():
    """Three rows at 0.5 are flagged together or not at all."""
    threshold = choose_threshold(rows_of([1, 0, 0, 0]), np.array([0.5, 0.5, 0.5, 0.1]), FLAT_COST)
    assert threshold == 0.3


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 999)), min_size=1, max_size=40))
def test_no_other_threshold_is_cheaper(pairs):
    """Exhaustively, on the rows it was chosen by."""
    y, thousandths = (np.array(column) for column in zip(*pairs, strict=True))
    probability, rows = thousandths / 1000, rows_of(y)
    chosen = FLAT_COST.total(rows, probability >= choose_threshold(rows, probability, FLAT_COST))
    cheapest = min(FLAT_COST.total(rows, probability >= t) for t in [*probability, 2.0])
    assert chosen == pytest.approx(cheapest)


def test_calibration_error_of_worked_bins():
    """Ten bins of two rows: nine exact, one off by a half, weighs a tenth of a half."""
    probability = np.repeat(np.linspace(0.05, 0.95, 10), 2)
    y = np.zeros(20, np.int64)
    exact = np.zeros(20)
    assert calibration_error(y, exact) == 0
    assert calibration_error(y, np.where(np.arange(20) < 18, 0.0, 0.5)) == pytest.approx(0.05)
    assert calibration_error((probability > 0.5).astype(np.int64), (probability > 0.5).astype(float)) == 0


def test_groups_are_counted_apart_and_an_empty_one_is_undefined():
    """Confusions per group by hand; a declared group without rows has counts of 0 and enters no gap."""
    y = np.array([1, 1, 0, 0, 1])
    flagged = np.array([True, False, False, True, True])
    groups = group_confusions(y, flagged, np.array(["a", "a", "a", "b", "b"]), ["a", "b", "c"])
    assert groups["a"] == confusion(y[:3], flagged[:3])
    assert (groups["a"].true_positive, groups["a"].false_negative, groups["a"].true_negative) == (1, 1, 1)
    assert groups["c"].cells.n == 0
    gaps = gap_estimates(QUESTION, groups)
    # Favourable is "no": two of three in a, none of two in b.
    assert gaps["demographic_parity_difference"].value == pytest.approx(2 / 3, abs=1e-5)
    assert gaps["equal_opportunity_difference"].value == 0.5
    assert gaps["demographic_parity_difference_eligible"].value is None


def test_the_baseline_takes_categories_and_missing_values():
    """A colour that decides alone is found although its index orders nothing, and NaN is no error."""
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 3, 600)
    size = np.where(rng.random(600) < 0.2, np.nan, rng.normal(size=600))
    rows = Rows(np.stack([colour, size], axis=1).astype(np.float32), (colour == 1).astype(np.int64))
    features = [
        Feature(name="colour", kind="categorical", categories=list("abc")),
        Feature(name="size", kind="numeric"),
    ]
    (probability,) = baseline_probability(features, rows, rows)
    assert probability[colour == 1].min() > 0.9 > 0.1 > probability[colour != 1].max()
