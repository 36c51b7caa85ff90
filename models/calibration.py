"""From scores to honest probabilities, for all rows and for each group: what performance is estimated with online.

A pooled calibrator misjudges groups whose scores mean something else (on Adult it estimated a TPR gap of 0.150 where
0.054 was true); groups with rows enough get their own.
"""

from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from models.task import Booleans, Floats, Strings

# Isotonic regression follows the rows too closely where these are fewer (scikit-learn's guide says the same).
LEAST_ROWS_ISOTONIC = 1000
# A group with fewer rows, or fewer of either kind, is judged by all rows together.
LEAST_ROWS = 100
LEAST_OF_EACH = 20
# The points at which the sigmoid is written down; margins beyond them are as sure as it gets.
LARGEST_MARGIN, POINTS = 12.0, 49
DIGITS = 9


def calibrators(score: Floats, positive: Booleans, groups: dict[str, Strings]) -> dict[str, Any] | None:
    """Calibrators of the scores `(n,)` for all rows and by sensitive feature and group; None without both kinds."""
    if positive.all() or not positive.any():
        return None
    found: dict[str, dict[str, Any]] = {}
    for name, values in groups.items():
        for group in np.unique(values):
            mine = values == group
            of_each = min(int(positive[mine].sum()), int((~positive[mine]).sum()))
            if mine.sum() >= LEAST_ROWS and of_each >= LEAST_OF_EACH:
                found.setdefault(name, {})[str(group)] = calibrator(score[mine], positive[mine])
    return {"pooled": calibrator(score, positive), "groups": found}


def calibrator(score: Floats, positive: Booleans) -> dict[str, Any]:
    """Points of the calibration curve of scores `(n,)`: isotonic where there are rows enough, else sigmoid."""
    if len(score) >= LEAST_ROWS_ISOTONIC:
        # Of rounded scores, as they are written: those that are one then share one probability.
        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(score.round(DIGITS), positive)
        method, x, y = "isotonic", fitted.X_thresholds_, fitted.y_thresholds_
    else:
        method, (x, y) = "sigmoid", _sigmoid(score, positive)
    x, kept = np.unique(x.round(DIGITS), return_index=True)
    return {"method": method, "n": len(score), "scores": x.tolist(), "probabilities": y[kept].round(DIGITS).tolist()}


def _sigmoid(score: Floats, positive: Booleans) -> tuple[Floats, Floats]:
    """Platt's (1999) logistic regression on the margin, with his targets, which keep separable rows finite."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    target = np.where(positive, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    margin = _logit(score)[:, None]
    fitted = LogisticRegression(C=np.inf).fit(
        np.concatenate([margin, margin]),
        np.repeat([1, 0], len(score)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    points = np.linspace(-LARGEST_MARGIN, LARGEST_MARGIN, POINTS)
    return 1 / (1 + np.exp(-points)), fitted.predict_proba(points[:, None])[:, 1]


def _logit(score: Floats) -> Floats:
    least = 1 / (1 + np.exp(LARGEST_MARGIN))
    kept = np.clip(score, least, 1 - least)
    return np.log(kept) - np.log1p(-kept)
