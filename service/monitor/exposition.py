"""The counts of all models as Prometheus series, computed at scrape time: a model that is gone has none.

Every label set of a model exists, at 0, from its first scrape on: a series first seen at 5 has an increase of 0. Label
values come from the manifest alone. What is exported is additive over replicas; ratios are made by the rules.
A person stands in one group of *each* sensitive feature: sums over `sensitive_feature` count people several times.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.errors import PackageError
from service.manifest import RESERVED_GROUPS, Manifest
from service.monitor.counters import DELAY_BUCKETS, SCORE_BINS, Counters, bytes_per_combination
from service.monitor.groups import DECLINED, OTHER, UNKNOWN, GroupSet, group_sets

MODEL = ("model_name", "model_version")
GROUP = (*MODEL, "sensitive_feature", "group")
SIGNS = ("positive", "negative")
STATUSES = ("known", UNKNOWN, DECLINED, OTHER)
BINS = tuple(f"{number / SCORE_BINS:.1f}-{(number + 1) / SCORE_BINS:.1f}" for number in range(SCORE_BINS))


# What the tables of one model may take where callers send every combination of groups.
MOST_BYTES = 512 * 2**20
# The service's own default, PLUMBLINE_MAX_SERIES.
MOST_SERIES = 2000


def series_count(manifest: Manifest) -> int:
    """How many series one version of this model exports for its groups."""
    classes, features = len(manifest.classes), len(manifest.features) if manifest.explainer else 0
    outcomes = classes * classes + classes * classes * (classes - 1)
    total = classes + len(DELAY_BUCKETS) + 3
    for made in group_sets(manifest):
        total += len(made.groups) * (classes + classes + outcomes + classes) + len(STATUSES) + 3
        if not made.is_intersection:
            total += len(made.groups) * SCORE_BINS * (1 + classes)
            total += len(made.declared) * (2 * features + 3) if features else 0
    return total


def check_series(manifest: Manifest, *, most: int) -> None:
    """Raise PackageError if a model would export more than `most` series, or needs more memory than a monitor should.

    Also if two groups of an intersection would have one name.
    """
    combinations = math.prod(len(feature.groups) + len(RESERVED_GROUPS) for feature in manifest.sensitive_features)
    if combinations * bytes_per_combination(manifest) > MOST_BYTES:
        raise PackageError(
            f"its sensitive features have {combinations} combinations of groups, too many to count each: declare fewer "
            "features or groups"
        )
    for made in group_sets(manifest):
        if len(set(made.groups)) != len(made.groups):
            raise PackageError(f"sensitive feature {made.name}: two of its groups have the same name")
    found = series_count(manifest)
    if found > most:
        raise PackageError(
            f"its groups make {found} series, PLUMBLINE_MAX_SERIES allows {most}: declare fewer groups or "
            "intersections, or raise the setting"
        )


class FairnessCollector(Collector):
    """Families for the exposition, from the counters of what is loaded now."""

    def __init__(self, counters: Callable[[], Iterable[Counters]]) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """All families, also without a model."""
        families = _Families()
        for counters in self._counters():
            families.add(counters)
        yield from families.all


class _Families:
    """One family of each kind, to which models are added."""

    def __init__(self) -> None:
        self.all: list[Metric] = []
        self.predictions = self._counter("predictions", "Predictions, by group.", *GROUP, "predicted")
        self.outcomes = self._counter(
            "outcomes", "First outcomes of predictions, by group.", *GROUP, "predicted", "actual"
        )
        self.corrections = self._counter(
            "outcome_corrections",
            "Outcomes that were corrected; the cell from_actual loses one, the cell to_actual gains one.",
            *(*GROUP, "predicted", "from_actual", "to_actual"),
        )
        self.score_sum = self._counter("score_sum", "Sum of scores of predictions.", *GROUP, "predicted")
        self.score_bins = self._counter("score_bin", "Predictions, by score.", *GROUP, "bin")
        self.outcome_score_sum = self._counter(
            "outcome_score_sum", "Sum of scores of predictions with an outcome.", *GROUP, "actual"
        )
        self.outcome_score_bins = self._counter(
            "outcome_score_bin", "Predictions with an outcome, by score.", *GROUP, "bin", "actual"
        )
        self.attribution_sum = self._counter(
            "attribution_sum",
            "Sum of the absolute SHAP values of this sign, margin units, over explained rows of a group.",
            *(*GROUP, "feature", "sign"),
        )
        self.margin_sum = self._counter(
            "attribution_margin_sum", "Sum of the absolute margins of this sign, over the same rows.", *GROUP, "sign"
        )
        self.attribution_rows = self._counter("attribution_rows", "Rows in the attribution sums.", *GROUP)
        self.coverage = self._counter(
            "sensitive_feature_values", "Predictions, by what was known.", *MODEL, "sensitive_feature", "status"
        )
        self.delay = HistogramMetricFamily(
            "plumbline_label_delay_seconds", "From a prediction to its outcome.", labels=MODEL
        )
        self.all.append(self.delay)
        self.classes = self._gauge("class_info", "A class of a model.", *MODEL, "class", "positive", "favourable")
        self.reference = self._gauge("reference_group_info", "The group that others are compared with.", *GROUP)
        self.z = self._gauge(
            "simultaneous_z",
            "One-sided normal quantile that holds for all groups of a sensitive feature at once (Bonferroni).",
            *(*MODEL, "sensitive_feature"),
        )
        self.difference_z = self._gauge(
            "simultaneous_difference_z",
            "The same for differences of TPR, FPR and PPV to either side, all together.",
            *(*MODEL, "sensitive_feature"),
        )

    def _counter(self, name: str, text: str, *labels: str) -> CounterMetricFamily:
        self.all.append(made := CounterMetricFamily(f"plumbline_{name}", text, labels=labels))
        return made

    def _gauge(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        self.all.append(made := GaugeMetricFamily(f"plumbline_{name}", text, labels=labels))
        return made

    def add(self, counters: Counters) -> None:
        """The series of one model version."""
        manifest = counters.manifest
        model = (manifest.name, manifest.version)
        for label, name in zip(manifest.classes, counters.class_names, strict=True):
            positive = str(label == manifest.positive_class).lower()
            favourable = str(label == manifest.favourable_outcome).lower()
            self.classes.add_metric((*model, name, positive, favourable), 1)
        counts = np.cumsum(counters.delay_counts).tolist()
        bounds = [*map(str, map(float, DELAY_BUCKETS)), "+Inf"]
        self.delay.add_metric(model, list(zip(bounds, counts, strict=True)), counters.delay_sum)
        for index, made in enumerate(counters.groups.sets):
            self._add_groups(counters, index, made, model)

    def _add_groups(self, counters: Counters, index: int, made: GroupSet, model: tuple[str, str]) -> None:
        feature = (*model, made.name)
        classes = counters.class_names
        self.reference.add_metric((*feature, made.reference_group), 1)
        self.z.add_metric(feature, made.simultaneous_z)
        self.difference_z.add_metric(feature, made.simultaneous_difference_z)
        tables: list[tuple[CounterMetricFamily, np.ndarray, tuple[Sequence[str], ...]]] = [
            (self.predictions, counters.predictions, (classes,)),
            (self.score_sum, counters.score_sum, (classes,)),
            (self.outcomes, counters.outcomes, (classes, classes)),
            (self.outcome_score_sum, counters.outcome_score_sum, (classes,)),
        ]
        if not made.is_intersection:
            tables += [
                (self.score_bins, counters.score_bins, (BINS,)),
                (self.outcome_score_bins, counters.outcome_score_bins, (BINS, classes)),
            ]
        for family, table, labels in tables:
            _add_table(family, counters.by_group(table, index), (*feature,), (made.groups, *labels))
        corrections = counters.by_group(counters.corrections, index)
        for cell, number in np.ndenumerate(corrections):
            group, predicted, before, after = cell
            if before != after:
                labels_ = (*feature, made.groups[group], classes[predicted], classes[before], classes[after])
                self.corrections.add_metric(labels_, int(number))
        if counters.manifest.explainer is not None and not made.is_intersection:
            names = counters.manifest.feature_names
            tables = [
                (self.attribution_rows, counters.attribution_rows, ()),
                (self.attribution_sum, counters.attribution_sum, (names, SIGNS)),
                (self.margin_sum, counters.margin_sum, (SIGNS,)),
            ]
            for family, table, labels in tables:
                declared = counters.by_group(table, index)[: len(made.declared)]
                _add_table(family, declared, feature, (made.declared, *labels))
        by_group = counters.by_group(counters.predictions, index).sum(axis=1)
        known = int(by_group[: len(made.declared)].sum())
        for status, number in zip(STATUSES, (known, *by_group[len(made.declared) :].tolist()), strict=True):
            self.coverage.add_metric((*feature, status), number)


def _add_table(
    family: CounterMetricFamily, table: np.ndarray, before: tuple[str, ...], labels: tuple[Sequence[str], ...]
) -> None:
    """A series for each cell of `table`; `labels` name the places along each of its axes."""
    names = [list(axis) for axis in labels]
    for cell, number in np.ndenumerate(table):
        family.add_metric((*before, *(axis[place] for axis, place in zip(names, cell, strict=True))), number.item())
