"""What an estimate is worth on the committed diagnosis model: 500 held-out or perturbed rows."""

import numpy as np
import pytest

from models.explainer.calibrate import certified


def relative_errors(explained, reference):
    """The largest error of each row, as a share of its largest value."""
    return np.abs(explained.values - reference).max(1) / np.abs(reference).max(1)


@pytest.mark.parametrize(("plan", "allowed"), [("default", 0.05), ("doubled", 0.03)])
def test_the_largest_error_is_small_beside_the_largest_value(diagnosis_explained, plan, allowed):
    """For 95 % of the rows: at most 5 % with the default plan, 3 % with the doubled one."""
    errors = relative_errors(getattr(diagnosis_explained, plan), diagnosis_explained.reference)
    assert np.quantile(errors, 0.95) <= allowed


@pytest.mark.parametrize("plan", ["default", "doubled"])
def test_error_bars_cover_what_they_say(diagnosis_explained, plan):
    """1.96 standard errors hold 93 to 99 % of the errors."""
    explained = getattr(diagnosis_explained, plan)
    covered = np.abs(explained.values - diagnosis_explained.reference) <= 1.96 * explained.error_std
    assert 0.93 <= covered.mean() <= 0.99


@pytest.mark.parametrize("plan", ["default", "doubled"])
def test_a_certified_top_four_is_hardly_ever_wrong(diagnosis_explained, plan):
    """In less than 1 % of the rows; and most rows are certified."""
    explained = getattr(diagnosis_explained, plan)
    top, sure = certified(explained.values, explained.error_std)
    expected, _ = certified(diagnosis_explained.reference, np.zeros_like(diagnosis_explained.reference))
    wrong = (top != expected).any(1) & sure
    assert wrong.mean() < 0.01
    assert sure.mean() > 0.5


@pytest.mark.parametrize("plan", ["default", "doubled"])
def test_values_add_up_to_the_margin_on_every_row(diagnosis_explained, plan):
    """base + sum of values = fx to 1e-5 * max(1, |margin|)."""
    assert getattr(diagnosis_explained, plan).residual.max() <= 1e-5


def test_the_doubled_plan_asks_twice_and_errs_less(diagnosis_explained):
    """Its first half is the default plan."""
    compiled = diagnosis_explained.compiled
    assert compiled.doubled.n_evals == 2 * compiled.explainer.n_evals
    errors = [
        relative_errors(explained, diagnosis_explained.reference).mean()
        for explained in (diagnosis_explained.default, diagnosis_explained.doubled)
    ]
    assert errors[1] < errors[0]


def test_explanations_are_an_estimate_with_its_calibration(diagnosis_explained):
    """What the manifest says of them."""
    info = diagnosis_explained.compiled.info()
    assert info.algorithm == "stratified_wls"
    assert info.background_rows == 50
    assert info.calibration["error_p95"] <= info.calibration["tolerance"]
    assert info.calibration["rows"] == 64
    assert info.doubled is not None
