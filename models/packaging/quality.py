"""Quality of a packaged model on the rows that came with it, in the figures of `models.evaluate`, without a baseline.

Of a multi-class model the ranking figures and the groups are about the positive class against all others.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict

from models.evaluate import (
    DECIMALS,
    Confusion,
    Estimate,
    calibration_error,
    confusion,
    gap_estimates,
    group_confusions,
    groupings,
    ranking_intervals,
)
from models.packaging.agreement import Answers
from models.progress import progress
from models.task import Declaration, Floats, Integers, Rows
from service.monitor.fairness import Rate

SEED = 0


class Multiclass(BaseModel):
    """All classes at once: `confusion[i][j]` rows of class i that were called j; `log_loss` in nats."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    classes: list[str]
    accuracy: Estimate
    log_loss: float
    confusion: list[list[int]]


class Assessment(BaseModel):
    """The content of `evaluation.json`. `held_out` is what the user said: False means it may be training data."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    n: int
    positives: int
    held_out: bool
    auroc: Estimate
    average_precision: Estimate
    brier: float
    calibration_error: float
    threshold: float | None
    confusion: Confusion
    largest_margin: float
    groups: dict[str, dict[str, Confusion]]
    gaps: dict[str, dict[str, Estimate]]
    multiclass: Multiclass | None


def assess(
    declaration: Declaration,
    rows: Rows,
    answers: Answers,
    *,
    positive: int,
    threshold: float | None,
    held_out: bool,
    multiclass: Multiclass | None,
) -> Assessment:
    """Judge `answers` for `rows`, whose `y` is 1 for `positive`; without a threshold the likeliest class counts."""
    probability = answers.probability[:, positive]
    flagged = answers.probability.argmax(axis=1) == positive if threshold is None else probability >= threshold
    # The binary margin ranks as the probability does, without the ties that sigmoid makes near 0 and 1.
    score = answers.margin[:, 0] if threshold is not None else probability
    with progress(transient=True) as bar:
        bar.add_task("intervals of the quality", total=None)
        ((auroc, average_precision),) = ranking_intervals(rows.y, [score], SEED)
    groups = {
        name: group_confusions(rows.y, flagged, values, declared)
        for name, declared, values in groupings(declaration, rows)
    }
    return Assessment(
        n=len(rows),
        positives=int(rows.y.sum()),
        held_out=held_out,
        auroc=auroc,
        average_precision=average_precision,
        brier=round(float(np.mean((probability - rows.y) ** 2)), DECIMALS),
        calibration_error=round(calibration_error(rows.y, probability), DECIMALS),
        threshold=threshold,
        confusion=confusion(rows.y, flagged),
        largest_margin=round(float(np.abs(answers.margin).max()), 3),
        groups=groups,
        gaps={name: gap_estimates(declaration, counts) for name, counts in groups.items()},
        multiclass=multiclass,
    )


def assess_classes(y: Integers, probability: Floats, classes: list[str]) -> Multiclass:
    """Accuracy, log loss and confusion of `probability` `(n, k)` against the classes' columns `y` `(n,)`."""
    called = probability.argmax(axis=1)
    k = len(classes)
    table = np.bincount(y * k + called, minlength=k * k).reshape(k, k)
    right = Rate(int((called == y).sum()), len(y))
    low, high = right.interval() or (0.0, 1.0)
    loss = -np.log(np.maximum(probability[np.arange(len(y)), y], np.finfo(np.float32).tiny)).mean()
    accuracy = Estimate(value=round(right.value or 0.0, DECIMALS), low=round(low, DECIMALS), high=round(high, DECIMALS))
    return Multiclass(
        classes=classes, accuracy=accuracy, log_loss=round(float(loss), DECIMALS), confusion=table.tolist()
    )
