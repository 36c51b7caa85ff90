"""Held-out quality with intervals, beside a logistic regression on the same split, and per sensitive group.

Everything is computed from labels and probabilities of the served graph; nothing here knows how a model was trained.
Intervals are 95 %: percentile bootstrap for rankings, Wilson for shares of a count, simultaneous Wilson for gaps.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from models.task import Booleans, Declaration, Floats, Integers, Rows, Splits, Strings
from service.manifest import Feature
from service.monitor.fairness import Cells, gaps

EVALUATION_FILE = "evaluation.json"
REPLICATES = 1000
CALIBRATION_BINS = 10
# Stored figures keep this many decimals: finer ones are float32 noise and would differ between processors.
DECIMALS = 5


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(_Part):
    """A figure and its 95 % interval; all None where it is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Confusion(_Part):
    """Counts at the threshold; positive means `positive_class`."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def cells(self) -> Cells:
        """The same counts, as `service.monitor.fairness` takes them."""
        return Cells(**self.model_dump())


class Quality(_Part):
    """One model on the held-out rows. `cost_per_row` is in the unit of the stated cost."""

    auroc: Estimate
    average_precision: Estimate
    brier: float
    calibration_error: float
    threshold: float
    confusion: Confusion
    cost_per_row: float


class Evaluation(_Part):
    """What the held-out rows say. `groups` and `gaps` are keyed by sensitive feature; empty where the data has none."""

    n: int
    positives: int
    model: Quality
    baseline: Quality
    auroc_gain: Estimate
    average_precision_gain: Estimate
    largest_margin: float
    groups: dict[str, dict[str, Confusion]] = {}
    gaps: dict[str, dict[str, Estimate]] = {}
    ablation: dict[str, Estimate] = {}


@dataclass(frozen=True)
class Cost:
    """What decisions cost: `alarm` for every row flagged positive, `missed(rows)` `(n,)` for each positive not flagged.

    `stated` says the same in words, for the card.
    """

    alarm: float
    missed: Callable[[Rows], Floats]
    unit: str
    stated: str

    def total(self, rows: Rows, flagged: Booleans) -> float:
        """alarm * #flagged + sum of missed over the positives not flagged, in `unit`."""
        return self.alarm * int(flagged.sum()) + float(self.missed(rows)[(rows.y == 1) & ~flagged].sum())


def choose_threshold(rows: Rows, probability: Floats, cost: Cost) -> float:
    """The threshold with the least total cost on `rows`; the middle one where several cost the same. 4 decimals.

    Flagging the k most probable rows costs alarm * k + the missed positives after them; a threshold lies halfway
    between two neighbouring probabilities.
    """
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    saved = np.concatenate([[0.0], np.cumsum(np.where(rows.y == 1, cost.missed(rows), 0.0)[order])])
    totals = cost.alarm * np.arange(len(ranked) + 1) - saved
    edges = np.concatenate([[1.0], ranked, [0.0]])
    # Between equal probabilities no threshold can cut.
    totals[edges[:-1] == edges[1:]] = np.inf
    best = np.flatnonzero(totals <= totals.min() + 1e-9)
    middle = int(best[len(best) // 2])
    return float(round((edges[middle] + edges[middle + 1]) / 2, 4))


def baseline_probability(features: Sequence[Feature], training: Rows, *others: Rows) -> list[Floats]:
    """Probability of the positive class for each of `others`, by a logistic regression fitted on `training`.

    Numbers are standardised, missing ones replaced by the median and marked; categories are one-hot.
    """
    categorical = [i for i, feature in enumerate(features) if feature.kind == "categorical"]
    numeric = [i for i, feature in enumerate(features) if feature.kind != "categorical"]
    model = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), numeric),
            (OneHotEncoder(handle_unknown="ignore"), categorical),
        ),
        LogisticRegression(max_iter=1000),
    )
    model.fit(training.X.astype(np.float64), training.y)
    return [model.predict_proba(rows.X.astype(np.float64))[:, 1] for rows in others]


def evaluate(
    declaration: Declaration,
    splits: Splits,
    cost: Cost,
    *,
    threshold: float,
    margin: Floats,
    probability: Floats,
    seed: int,
) -> Evaluation:
    """Judge `margin`, `probability` `(n,)` of the held-out rows at `threshold`, beside the baseline and per group."""
    rows = splits.held_out
    validation, held_out = baseline_probability(declaration.features, splits.training, splits.validation, rows)
    baseline_threshold = choose_threshold(splits.validation, validation, cost)
    # The margin ranks as the probability does, without the ties that sigmoid makes near 0 and 1.
    rankings = ranking_intervals(rows.y, [margin, held_out], seed)
    groups = {
        name: group_confusions(rows.y, probability >= threshold, values, declared)
        for name, declared, values in groupings(declaration, rows)
    }
    return Evaluation(
        n=len(rows),
        positives=int(rows.y.sum()),
        model=_quality(rows, probability, threshold, cost, rankings[0]),
        baseline=_quality(rows, held_out, baseline_threshold, cost, rankings[1]),
        auroc_gain=rankings[2][0],
        average_precision_gain=rankings[2][1],
        largest_margin=round(float(np.abs(margin).max()), 3),
        groups=groups,
        gaps={name: gap_estimates(declaration, counts) for name, counts in groups.items()},
    )


def groupings(declaration: Declaration, rows: Rows) -> Iterator[tuple[str, list[str], Strings]]:
    """Each sensitive feature, then each declared intersection, with its groups and the group of every row."""
    declared = {feature.name: feature.groups for feature in declaration.sensitive_features}
    for name, values in rows.groups.items():
        yield name, declared[name], values
    for names in declaration.intersections:
        if all(name in rows.groups for name in names):
            crossed = [""]
            for name in names:
                crossed = [f"{left}, {right}".removeprefix(", ") for left in crossed for right in declared[name]]
            pairs = zip(*(rows.groups[name].tolist() for name in names), strict=True)
            yield " x ".join(names), crossed, np.array([", ".join(pair) for pair in pairs])


def _quality(
    rows: Rows, probability: Floats, threshold: float, cost: Cost, ranking: tuple[Estimate, Estimate]
) -> Quality:
    flagged = probability >= threshold
    return Quality(
        auroc=ranking[0],
        average_precision=ranking[1],
        brier=_rounded(float(np.mean((probability - rows.y) ** 2))),
        calibration_error=_rounded(calibration_error(rows.y, probability)),
        threshold=threshold,
        confusion=confusion(rows.y, flagged),
        cost_per_row=_rounded(cost.total(rows, flagged) / len(rows)),
    )


def confusion(y: Integers, flagged: Booleans) -> Confusion:
    """Counts of labels `y` `(n,)` against decisions `flagged` `(n,)`."""
    return Confusion(
        true_positive=int((flagged & (y == 1)).sum()),
        false_positive=int((flagged & (y == 0)).sum()),
        false_negative=int((~flagged & (y == 1)).sum()),
        true_negative=int((~flagged & (y == 0)).sum()),
    )


def group_confusions(y: Integers, flagged: Booleans, values: Strings, groups: Sequence[str]) -> dict[str, Confusion]:
    """The confusion of each of `groups`, also of one without rows."""
    return {group: confusion(y[values == group], flagged[values == group]) for group in groups}


def ranking_quality(positives: Floats, negatives: Floats) -> tuple[float, float]:
    """AUROC = P(s+ > s-) + P(s+ = s-)/2, AP = sum of (R_k - R_(k-1)) P_k; from counts per distinct score, ascending."""
    total = positives.sum()
    below = np.cumsum(negatives) - negatives
    auroc = (positives * (below + negatives / 2)).sum() / (total * negatives.sum())
    true, false = np.cumsum(positives[::-1]), np.cumsum(negatives[::-1])
    precision = true / np.maximum(true + false, 1)
    return float(auroc), float((positives[::-1] * precision).sum() / total)


def ranking_intervals(y: Integers, scores: list[Floats], seed: int) -> list[tuple[Estimate, Estimate]]:
    """(AUROC, AP) of each of `scores` `(n,)`; of two also of the first minus the second. Undefined with one class.

    Stratified bootstrap: positives and negatives are resampled apart, and both scores see the same rows, so that the
    difference is a paired one.
    """
    figures = {1: 1, 2: 3}[len(scores)]
    if y.min() == y.max():
        return [(Estimate(value=None), Estimate(value=None))] * figures
    rng = np.random.default_rng(seed)
    ranks = [np.unique(score, return_inverse=True)[1] for score in scores]

    def each(weight: Floats) -> list[tuple[float, float]]:
        return [
            ranking_quality(
                np.bincount(rank, weight * y, rank.max() + 1).astype(np.float64),
                np.bincount(rank, weight * (1 - y), rank.max() + 1).astype(np.float64),
            )
            for rank in ranks
        ]

    classes = [np.flatnonzero(y == label) for label in (0, 1)]
    drawn = np.empty((REPLICATES, len(scores), 2))  # replicate, score, (AUROC, AP)
    for replicate in drawn:
        rows = np.concatenate([rng.choice(index, len(index)) for index in classes])
        replicate[:] = each(np.bincount(rows, minlength=len(y)).astype(np.float64))
    observed = np.array(each(np.ones(len(y))))
    observed = np.concatenate([observed, observed[:1] - observed[1:2]])
    drawn = np.concatenate([drawn, drawn[:, :1] - drawn[:, 1:2]], axis=1)
    return [
        (_estimate(observed[i, 0], drawn[:, i, 0]), _estimate(observed[i, 1], drawn[:, i, 1])) for i in range(figures)
    ]


def gap_estimates(declaration: Declaration, groups: dict[str, Confusion]) -> dict[str, Estimate]:
    """Each gap of `service.monitor.fairness.gaps` between `groups`, with its bounds."""
    favourable = declaration.favourable_outcome == declaration.positive_class
    found = gaps({name: counts.cells for name, counts in groups.items()}, positive_is_favourable=favourable)
    return {
        name: Estimate(value=None)
        if gap is None
        else Estimate(value=_rounded(gap.value), low=_rounded(gap.low), high=_rounded(gap.high))
        for name, gap in found.items()
    }


def calibration_error(y: Integers, probability: Floats) -> float:
    """Sum over ten bins of (n_b / n) |mean probability - share of positives|; bins hold equally many rows each."""
    order = np.argsort(probability, kind="stable")
    bins = np.array_split(order, CALIBRATION_BINS)
    return float(sum(len(b) * abs(probability[b].mean() - y[b].mean()) for b in bins if len(b)) / len(y))


def _estimate(value: float, drawn: Floats) -> Estimate:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value=_rounded(value), low=_rounded(low), high=_rounded(high))


def _rounded(value: float) -> float:
    return round(value, DECIMALS)
