"""Counts in bins beside a reference as two replicas export them, and what scipy and statsmodels say of the same counts.

numpy's arrays: `counts` and `reference` (B,) are whole numbers per bin; `kinds` says of each bin what it holds, `cells`
with which others it is compared.
"""

from dataclasses import dataclass, field

import numpy as np
from promtool import REPLICAS, SAMPLES, close, constant, selector, series, spread, stepping
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import chi2, norm
from statsmodels.stats.proportion import proportions_ztest

MODEL = {"model_name": "m", "model_version": "1"}
REFERENCE = MODEL | {"reference": "0123456789ab"}
SHARES = {"missing": {"missing"}, "out_of_range": {"underflow", "overflow"}, "unseen": {"unseen", "other"}}
LEVELS = {"feature": "model_feature", "score": "model_class", "group_score": "model_group_class"}


@dataclass
class Binned:
    """One distribution: of a feature, of the probability of a class, or of that in a group."""

    labels: dict
    counts: list
    reference: list
    kinds: list = field(default_factory=list)
    cells: list = field(default_factory=list)  # each bin by itself, unless given
    name: str = "feature"
    error: float = 0.005  # of the chi-squared quantile

    def __post_init__(self):
        self.labels = REFERENCE | self.labels
        self.kinds = self.kinds or ["bin"] * len(self.counts)
        self.bins = [f"{number:02} from {number}" for number in range(len(self.counts))]
        self.cells = self.cells or [name[:2] for name in self.bins]
        self.n, self.m = sum(self.counts), sum(self.reference)
        self.in_cells, before = (dict.fromkeys(self.cells, 0) for _ in range(2))
        for cell, count, r in zip(self.cells, self.counts, self.reference, strict=True):
            self.in_cells[cell] += count
            before[cell] += r
        self.p, self.q = (
            np.add(list(of.values()), 0.5) / (sum(of.values()) + len(of) / 2) for of in (self.in_cells, before)
        )
        self.psi = rel_entr(self.p, self.q).sum() + rel_entr(self.q, self.p).sum()
        self.quantile = chi2.isf(self.error, len(before) - 1) if len(before) > 1 else 0.0
        self.critical = self.quantile * (1 / self.n + 1 / self.m) if self.n else np.nan

    def each_bin(self):
        for name, kind, cell in zip(self.bins, self.kinds, self.cells, strict=True):
            yield self.labels | {"bin": name, "kind": kind, "cell": cell}

    def counters(self, replicas=REPLICAS):
        for labels, count in zip(self.each_bin(), self.counts, strict=True):
            yield from spread(f"plumbline_{self.name}_observations_total", count, replicas, SAMPLES, **labels)

    def gauges(self, replicas=REPLICAS, samples=SAMPLES):
        stem = f"plumbline_{self.name}"
        for replica in replicas:
            for labels, r in zip(self.each_bin(), self.reference, strict=True):
                yield series(f"{stem}_reference_observations", constant(r, samples), replica, **labels)
            quantile = constant(float(self.quantile), samples)
            yield series(f"{stem}_psi_chi2_quantile", quantile, replica, **self.labels)

    def expected(self, window):
        """Every recorded value of the distribution."""

        def shown(value, name, operation="ratio_increase", of="", labels=self.labels, **floor):
            level = LEVELS[self.name] + of
            return same(f"{level}:plumbline_{self.name}_{name}:{operation}{window}", labels, value, window, **floor)

        yield shown(self.n, "observations", "increase")
        for labels, count, r in zip(self.each_bin(), self.counts, self.reference, strict=True):
            if count:
                yield shown(count, "observations", "increase", "_bin", labels)
            yield shown(count / self.n, "proportion", of="_bin", labels=labels)
            yield shown(r / self.m, "reference_proportion", of="_bin", labels=labels)
        for (cell, count), p, q in zip(self.in_cells.items(), self.p, self.q, strict=True):
            labels = self.labels | {"cell": cell}
            if count:
                yield shown(count, "observations", "increase", "_cell", labels)
            yield shown(p, "cell_proportion", of="_cell", labels=labels)
            yield shown(q, "cell_reference_proportion", of="_cell", labels=labels)
        yield shown(self.psi, "psi")
        yield shown(self.critical, "psi_critical")
        if self.name != "group_score":
            # The root of a difference that rounds at 1e-16: a distance near 0 has fewer digits.
            yield shown(jensenshannon(self.p, self.q, base=2), "jensen_shannon_distance", floor=1e-10)

    def share(self, share):
        """(count, share in the reference) of the values of a share; None where there can be none."""
        chosen = np.array([kind in SHARES[share] for kind in self.kinds])
        count, r = (np.asarray(numbers)[chosen].sum() for numbers in (self.counts, self.reference))
        return (count, r / self.m) if chosen.any() else None

    def share_critical(self, share, z):
        """statsmodels' pooled standard error, times z."""
        count, r = self.share(share)
        # Against a difference of -1, so that none is 0: where both shares are alike there is an error too.
        statistic, _ = proportions_ztest([count, self.m * r], [self.n, self.m], value=-1)
        return z * (count / self.n - r + 1) / statistic


def share_z(features):
    return norm.isf(0.005 / (3 * features))


def share_gauge(z, replicas=REPLICAS, samples=SAMPLES, labels=REFERENCE):
    for replica in replicas:
        yield series("plumbline_input_share_z", constant(float(z), samples), replica, **labels)


def expected_shares(feature, z, window):
    """Every recorded value of the shares that a feature can have."""
    for share in SHARES:
        if found := feature.share(share):
            count, r = found
            n, m = feature.n, feature.m
            for suffix, value in (
                ("", count / n),
                ("_reference", r),
                ("_pooled", (count + m * r) / (n + m)),
                ("_critical", feature.share_critical(share, z)),
            ):
                name = f"model_feature:plumbline_feature_{share}{suffix}:ratio_increase{window}"
                yield same(name, feature.labels, value, window)


@dataclass
class Attributed:
    """Mean |SHAP value| per feature over `rows` rows, and what the reference says of the shares."""

    magnitudes: dict
    rows: int
    reference_shares: dict
    deviations: dict
    reference_rows: int
    labels: dict = field(default_factory=lambda: MODEL)

    def __post_init__(self):
        self.z = norm.isf(0.005 / (2 * len(self.magnitudes)))

    def counters(self):
        for feature, magnitude in self.magnitudes.items():
            yield from split(
                "plumbline_attribution_magnitude_sum_total", magnitude * self.rows, **self.labels, feature=feature
            )
        yield from spread("plumbline_attribution_magnitude_rows_total", self.rows, REPLICAS, SAMPLES, **self.labels)

    def gauges(self, samples=SAMPLES):
        labels = REFERENCE | self.labels
        for replica in REPLICAS:
            for name, values in (("share", self.reference_shares), ("deviation", self.deviations)):
                for feature, value in values.items():
                    name_ = f"plumbline_attribution_reference_{name}"
                    yield series(name_, constant(float(value), samples), replica, **labels, feature=feature)
            rows = constant(self.reference_rows, samples)
            yield series("plumbline_attribution_reference_rows", rows, replica, **labels)
            yield series("plumbline_attribution_share_z", constant(float(self.z), samples), replica, **labels)

    def expected(self, window):
        rows = f"model:plumbline_attribution_magnitude_rows:increase{window}"
        yield same(rows, self.labels, self.rows, window)
        total = sum(self.magnitudes.values())
        for feature, magnitude in self.magnitudes.items():
            labels = self.labels | {"feature": feature}
            error = self.deviations[feature] * np.sqrt(1 / self.rows + 1 / self.reference_rows)
            for suffix, value in (
                ("", magnitude / total),
                ("_difference", magnitude / total - self.reference_shares[feature]),
                ("_critical", self.z * error),
            ):
                name = f"model_feature:plumbline_attribution_share{suffix}:ratio_increase{window}"
                yield same(name, labels, value, window)


@dataclass
class Calibrated:
    """Calibrated probabilities of the positive class "1" (n,), and whether each row is predicted positive (n,)."""

    labels: dict
    probabilities: np.ndarray
    positive: np.ndarray

    def counters(self):
        for predicted, chosen in (("1", self.positive), ("0", ~self.positive)):
            p, labels = self.probabilities[chosen], self.labels | {"predicted": predicted}
            yield from spread("plumbline_predictions_total", len(p), REPLICAS, SAMPLES, **labels)
            yield from split("plumbline_calibrated_score_sum_total", p.sum(), **labels)
            yield from split("plumbline_calibrated_score_variance_sum_total", (p * (1 - p)).sum(), **labels)

    def expected(self, window):
        """Each outcome is independent: the variance of a rate adds up over the rows, by its derivative there."""
        p, positive = self.probabilities, self.positive
        spread_ = p * (1 - p)
        for name, value in (
            ("true_positives", p[positive].sum()),
            ("false_positives", (1 - p[positive]).sum()),
            ("false_negatives", p[~positive].sum()),
            ("true_negatives", (1 - p[~positive]).sum()),
            ("positive_variance", spread_[positive].sum()),
            ("negative_variance", spread_[~positive].sum()),
        ):
            yield same(f"model_group:plumbline_expected_{name}:increase{window}", self.labels, value, window)
        tpr, fpr = p[positive].sum() / p.sum(), (1 - p[positive]).sum() / (1 - p).sum()
        for rate, value, slopes in (
            ("true_positive_rate", tpr, (positive - tpr) / p.sum()),
            ("false_positive_rate", fpr, (positive - fpr) / (1 - p).sum()),
            ("positive_predictive_value", p[positive].mean(), positive / positive.sum()),
        ):
            error = np.sqrt((slopes**2 * spread_).sum())
            low, high = np.clip(norm.interval(0.95, value, error), 0, 1)
            for suffix, shown in (("", value), ("_standard_error", error), ("_lower", low), ("_upper", high)):
                name = f"model_group:plumbline_expected_{rate}{suffix}:ratio_increase{window}"
                yield same(name, self.labels, shown, window)


def split(name, total, **labels):
    """A sum that is not whole, spread over two replicas."""
    for replica, share in zip(REPLICAS, (0.25, 0.75), strict=True):
        yield series(name, stepping(float(total) * share), replica, **labels)


def same(name, labels, value, window, floor=1e-14):
    """Expects a recorded series with this value, to nine digits or within the floor."""
    return close(selector(name, labels), value, window, float(max(1e-9 * abs(value), floor)))
