"""Can recent rows be told from the reference? Only where they differ, also in what is missing and in categories."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from service.driftjob.classifier import auc, p_value, separation
from service.driftjob.report import rows_of
from service.manifest import Feature

NAMES = ("a", "b", "c", "d")
SEEDS = 20


@pytest.fixture(autouse=True)
def one_thread():
    """So few rows are not worth a second one, which may be busy."""
    with threadpool_limits(1):
        yield


def rows(seed, n=200):
    """Rows of four features: two numeric ones, one half missing, a category of three."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(n, 4)).astype(np.float32)
    made[rng.random(n) < 0.5, 2] = np.nan
    made[:, 3] = rng.integers(0, 3, n)
    return made


def judge(reference, current, seed=0, permutations=199):
    return separation(reference, current, NAMES, recorded=len(current), permutations=permutations, seed=seed)


def test_nothing_is_found_where_nothing_has_changed():
    """The p-value is below a half in about half of the runs, and below 0.01 in one of twenty at most."""
    found = np.array([judge(rows(seed), rows(1000 + seed), seed).p_value for seed in range(SEEDS)])
    assert (found < 0.01).sum() <= 1
    assert 4 <= (found < 0.5).sum() <= 16
    assert found.min() >= 1 / 200


def moved(current, rng):
    current[:, 1] += 1.5
    return 1


def missing(current, rng):
    current[:, 2] = np.nan
    return 2


def other_categories(current, rng):
    current[:, 3] = np.where(rng.random(len(current)) < 0.8, 2, current[:, 3])
    return 3


def together(current, rng):
    """No feature alone has changed: two of them go together now."""
    current[:, 0] = current[:, 1] + rng.normal(scale=0.1, size=len(current))
    return None


@pytest.mark.parametrize("change", [moved, missing, other_categories, together])
def test_drift_is_found_and_its_feature_named(change):
    """The lowest p-value that there can be, and the changed feature first."""
    current = rows(1, n=600)
    column = change(current, np.random.default_rng(2))
    found = judge(rows(0, n=600), current)
    assert found.auc > 0.7
    assert found.p_value == 1 / 200
    named = [importance.feature for importance in found.features]
    assert named[0] == NAMES[column] if column is not None else {"a", "b"} == set(named[:2])
    assert (found.reference_rows, found.current_rows, found.held_out_rows) == (600, 600, 600)


def test_the_same_seed_gives_the_same_answer():
    """Everything of it, and another seed another one; the rows that were handed over stay as they are."""
    reference, current = rows(0), rows(1)
    before = current.copy()
    found = judge(reference, current)
    assert judge(reference, current) == found
    assert judge(reference, current, seed=2**40) != found
    assert np.array_equal(current, before, equal_nan=True)


def test_a_feature_without_a_value_says_nothing():
    """Missing everywhere, or the same everywhere."""
    reference, current = rows(0), rows(1)
    for part in (reference, current):
        part[:, 0], part[:, 1] = np.nan, 7
    found = judge(reference, current)
    assert not {"a", "b"} & {importance.feature for importance in found.features}


def test_auc_is_scikit_learns():
    """Also with ties, and for several rows of scores at once."""
    rng = np.random.default_rng(3)
    scores, labels = rng.integers(0, 9, (4, 101)).astype(float), rng.random(101) < 0.3
    assert auc(scores, labels) == pytest.approx([roc_auc_score(labels, row) for row in scores], abs=1e-12)


def test_p_value_is_that_of_the_rank_sum_test():
    """As far as 9,999 permutations go."""
    rng = np.random.default_rng(4)
    labels = np.arange(80) < 40
    scores = rng.normal(size=80) + 0.3 * labels
    exact = mannwhitneyu(scores[labels], scores[~labels], alternative="greater", method="exact").pvalue
    assert 0.01 < exact < 0.5
    assert p_value(scores, labels, 9999, rng) == pytest.approx(exact, abs=0.02)


def test_a_classifier_that_says_nothing_proves_nothing():
    """With the same score for all, every permutation is as high."""
    labels = np.arange(30) < 10
    assert auc(np.zeros(30), labels) == 0.5
    assert p_value(np.zeros(30), labels, 99, np.random.default_rng(0)) == 1


def test_p_values_are_spread_evenly_without_drift():
    """Labels dealt at random: as many below a tenth, a half and nine tenths as there should be, ties or not."""
    rng = np.random.default_rng(5)
    labels = np.arange(60) < 20
    for levels in (4, 10_000):
        found = np.array([p_value(rng.integers(0, levels, 60) * 1.0, labels, 99, rng) for _ in range(400)])
        for level in (0.1, 0.5, 0.9):
            assert (found <= level).mean() == pytest.approx(level, abs=0.08)


def test_instances_become_rows():
    """Categories by their index, missing ones as NaN, an unknown one too."""
    features = [
        Feature(name="x", kind="numeric", nullable=True),
        Feature(name="b", kind="binary"),
        Feature(name="c", kind="categorical", categories=["p", "q"]),
    ]
    made = rows_of(features, [{"x": 0.1, "b": True, "c": "q"}, {"c": "r", "b": 0, "x": None}])
    assert np.array_equal(made, np.array([[0.1, 1, 1], [np.nan, 0, np.nan]], np.float32), equal_nan=True)
    assert made.dtype == np.float32
