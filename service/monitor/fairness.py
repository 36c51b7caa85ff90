"""Group fairness as pure functions over counts, in fairlearn's names and signs; undefined stays None.

Knows no rows, no store and no clock: the offline evaluation and the service's reports count in their own ways and
compute here, so that a disparity means the same in both. Groups are compared within one sensitive feature.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from service.monitor.intervals import CONFIDENCE, wilson_interval

# Below this denominator a rate says too little about a group to enter an `eligible` gap, or to be judged.
ELIGIBLE_DENOMINATOR = 30

# What is tolerated between a group and the reference group. A `breach` is a one-sided interval beyond it, for all
# groups of a sensitive feature at once. Defaults of this project, not anybody's law.
LEAST_IMPACT_RATIO = 0.8  # selection rate, group / reference
MOST_ADVERSE_RATIO = 2.0  # share not selected, group / reference; the one that speaks where nearly all are selected
MOST_DIFFERENCE = 0.1  # |TPR|, |FPR|, |PPV| or |label coverage|, group - reference
BREACH_ERROR = 0.05  # chance of a false breach of a ratio, or of any difference, all groups together


@dataclass(frozen=True)
class Rate:
    """numerator / denominator, both counts; the value is None where the denominator is 0."""

    numerator: int
    denominator: int

    @property
    def value(self) -> float | None:
        """The share, in [0, 1], or None."""
        return self.numerator / self.denominator if self.denominator else None

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """The Wilson interval of the share, or None."""
        return wilson_interval(self.numerator, self.denominator, confidence=confidence)


@dataclass(frozen=True)
class Gap:
    """How far groups lie apart, with bounds that hold with at least 95 % confidence, however many groups there are."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Cells:
    """One group's confusion counts. Positive means `positive_class`, whether or not that is the favourable outcome."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0
    true_negative: int = 0

    @property
    def n(self) -> int:
        """Rows of the group that have both a prediction and a label."""
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative

    def rates(self, *, positive_is_favourable: bool) -> dict[str, Rate]:
        """selection = favourable / n, TPR = TP / (TP+FN), FPR = FP / (FP+TN), PPV = TP / (TP+FP), base = P / n."""
        positives = self.true_positive + self.false_negative
        predicted_positives = self.true_positive + self.false_positive
        favourable = predicted_positives if positive_is_favourable else self.n - predicted_positives
        return {
            "selection_rate": Rate(favourable, self.n),
            "true_positive_rate": Rate(self.true_positive, positives),
            "false_positive_rate": Rate(self.false_positive, self.n - positives),
            "positive_predictive_value": Rate(self.true_positive, predicted_positives),
            "base_rate": Rate(positives, self.n),
        }


def difference(rates: Mapping[str, Rate], *, least_denominator: int = 1, comparisons: int = 1) -> Gap | None:
    """max - min over the groups whose denominator is at least `least_denominator`; None for fewer than two groups.

    Bounds: with Wilson intervals [L, U] that hold for all groups at once (Bonferroni), the true gap lies between
    max L - min U, or 0, and max U - min L. Unlike a bootstrap of max - min they are not biased by small groups.
    `comparisons` counts how many such gaps are to hold together.
    """
    defined = _defined(rates, least_denominator, comparisons)
    if len(defined) < 2:
        return None
    values, lows, highs = zip(*defined, strict=True)
    return Gap(max(values) - min(values), max(0.0, max(lows) - min(highs)), max(highs) - min(lows))


def ratio(rates: Mapping[str, Rate], *, least_denominator: int = 1) -> Gap | None:
    """min / max over the groups whose denominator is at least `least_denominator`; None for fewer than two, or max 0.

    Bounds as for `difference`: min L / max U, and min U / max L but at most 1.
    """
    defined = _defined(rates, least_denominator, 1)
    if len(defined) < 2 or not any(value for value, _, _ in defined):
        return None
    values, lows, highs = zip(*defined, strict=True)
    # Some rate is above 0, and so is its lower bound.
    return Gap(min(values) / max(values), min(lows) / max(highs), min(1.0, min(highs) / max(lows)))


def signed_difference(rates: Mapping[str, Rate], group: str, reference_group: str) -> float | None:
    """rate(group) - rate(reference_group); None where either is undefined."""
    value, reference = rates[group].value, rates[reference_group].value
    return None if value is None or reference is None else value - reference


def gaps(groups: Mapping[str, Cells], *, positive_is_favourable: bool) -> dict[str, Gap | None]:
    """fairlearn's differences and ratio over declared groups, each also over the groups with denominator >= 30.

    `equalized_odds_difference` is the larger of the TPR and FPR differences, None unless both are defined. Callers
    leave `unknown`, `declined` and `other` out of `groups`: those are shown and never enter a gap.
    """
    rates = {group: cells.rates(positive_is_favourable=positive_is_favourable) for group, cells in groups.items()}

    def of(name: str) -> dict[str, Rate]:
        return {group: rate[name] for group, rate in rates.items()}

    found: dict[str, Gap | None] = {}
    for suffix, least in (("", 1), ("_eligible", ELIGIBLE_DENOMINATOR)):
        found |= {
            f"demographic_parity_difference{suffix}": difference(of("selection_rate"), least_denominator=least),
            f"demographic_parity_ratio{suffix}": ratio(of("selection_rate"), least_denominator=least),
            f"equal_opportunity_difference{suffix}": difference(of("true_positive_rate"), least_denominator=least),
            f"false_positive_rate_difference{suffix}": difference(of("false_positive_rate"), least_denominator=least),
            f"equalized_odds_difference{suffix}": _larger(
                difference(of("true_positive_rate"), least_denominator=least, comparisons=2),
                difference(of("false_positive_rate"), least_denominator=least, comparisons=2),
            ),
        }
    return found


def _larger(one: Gap | None, other: Gap | None) -> Gap | None:
    if one is None or other is None:
        return None
    return Gap(max(one.value, other.value), max(one.low, other.low), max(one.high, other.high))


def _defined(rates: Mapping[str, Rate], least_denominator: int, comparisons: int) -> list[tuple[float, float, float]]:
    """(value, low, high) of each rate with a sufficient denominator, the bounds holding for all of them at once."""
    kept = [rate for rate in rates.values() if rate.denominator >= max(least_denominator, 1)]
    confidence = 1 - (1 - CONFIDENCE) / (len(kept) * comparisons) if kept else CONFIDENCE
    return [
        (value, *interval)
        for rate in kept
        if (value := rate.value) is not None and (interval := rate.interval(confidence)) is not None
    ]
