"""Calibrators written as points give what the fitted regression gives."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from models.calibration import LEAST_OF_EACH, LEAST_ROWS, LEAST_ROWS_ISOTONIC, calibrator, calibrators
from service.reference import Calibrator


def drawn(n, seed=0):
    """Scores that are too sure, and outcomes."""
    dice = np.random.default_rng(seed)
    margin = dice.normal(-0.5, 1.5, n)
    return 1 / (1 + np.exp(-2 * margin)), dice.random(n) < 1 / (1 + np.exp(-margin))


def curve(made, score):
    Calibrator.model_validate(made)
    return np.interp(score, made["scores"], made["probabilities"])


def test_isotonic_points_are_the_regression():
    """At the scores themselves and between them."""
    score, positive = drawn(3000)
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(score, positive)
    made = calibrator(score, positive)
    assert (made["method"], made["n"]) == ("isotonic", 3000)
    asked = np.concatenate([score, np.linspace(0, 1, 999)])
    np.testing.assert_allclose(curve(made, asked), fitted.predict(asked), atol=1e-5)


def test_few_rows_get_a_sigmoid_that_undoes_the_sureness():
    """The margin was doubled: half of it is true."""
    score, positive = drawn(LEAST_ROWS_ISOTONIC - 1, seed=3)
    made = calibrator(score, positive)
    assert made["method"] == "sigmoid"
    asked = np.linspace(0.02, 0.98, 50)
    true = 1 / (1 + np.exp(-np.log(asked / (1 - asked)) / 2))
    np.testing.assert_allclose(curve(made, asked), true, atol=0.06)


@pytest.mark.parametrize("n", [50, 3000])
def test_rows_that_are_told_apart_are_not_told_for_sure(n):
    """Platt's targets keep the sigmoid finite; both methods stay within 0 and 1."""
    score = np.linspace(0, 1, n)
    made = calibrator(score, score > 0.5)
    found = curve(made, np.linspace(0, 1, 101))
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()
    assert (found[10], found[90]) == (pytest.approx(0, abs=0.1), pytest.approx(1, abs=0.1))


@pytest.mark.parametrize("margin", [-14, -24, -30, 24])
def test_scores_that_differ_in_the_last_digits_only_keep_their_base_rate(margin):
    """A model that is far too sure: most of its scores are one when written."""
    dice = np.random.default_rng(0)
    score = (1 / (1 + np.exp(-dice.normal(margin, 3, 5000)))).astype(np.float32).astype(np.float64)
    positive = dice.random(5000) < 0.1 + 0.5 * (score > np.median(score))
    assert curve(calibrator(score, positive), score).mean() == pytest.approx(positive.mean(), abs=0.02)


@pytest.mark.parametrize("n", [200, 3000])
def test_one_score_for_everybody_is_the_base_rate(n):
    """A curve of one level."""
    positive = np.arange(n) % 4 == 0
    found = curve(calibrator(np.full(n, 0.3), positive), np.array([0.3]))
    assert found == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("positives", [0, 10])
def test_rows_of_one_kind_have_no_calibrator(positives):
    """There is nothing to learn from them."""
    assert calibrators(np.linspace(0, 1, 10), np.arange(10) < positives, {}) is None


@pytest.mark.parametrize(
    ("n", "positives", "own"),
    [
        (LEAST_ROWS, LEAST_OF_EACH, True),
        (LEAST_ROWS - 1, LEAST_OF_EACH, False),
        (LEAST_ROWS, LEAST_OF_EACH - 1, False),
        (LEAST_ROWS, LEAST_ROWS - LEAST_OF_EACH + 1, False),
    ],
)
def test_a_group_needs_rows_and_some_of_either_kind(n, positives, own):
    """Else it is judged by all rows together."""
    group = np.array(["a"] * n + ["b"] * 500)
    positive = np.concatenate([np.arange(n) < positives, np.arange(500) % 2 == 0])
    score = np.random.default_rng(0).random(n + 500)
    made = calibrators(score, positive, {"g": group})
    assert ("a" in made["groups"]["g"]) == own
    assert made["pooled"]["n"] == n + 500
    if own:
        assert made["groups"]["g"]["a"] == calibrator(score[:n], positive[:n])
