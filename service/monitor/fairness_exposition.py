"""Which series show the counts by group of one model version."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from service.monitor.counters import DELAY_BUCKETS, SCORE_BINS, Counters
from service.monitor.groups import DECLINED, OTHER, UNKNOWN, GroupSet
from service.monitor.series import Axis, Column, Family

SIGNS = ("positive", "negative")
STATUSES = ("known", UNKNOWN, DECLINED, OTHER)
BINS = tuple(f"{number / SCORE_BINS:.1f}-{(number + 1) / SCORE_BINS:.1f}" for number in range(SCORE_BINS))

PREDICTIONS = Family("plumbline_predictions_total", "counter", "Predictions, by group.")
OUTCOMES = Family("plumbline_outcomes_total", "counter", "First outcomes of predictions, by group.")
CORRECTIONS = Family(
    "plumbline_outcome_corrections_total",
    "counter",
    "Outcomes that were corrected; the cell from_actual loses one, the cell to_actual gains one.",
)
SCORE_SUM = Family("plumbline_score_sum_total", "counter", "Sum of scores of predictions.")
OUTCOME_SCORE_SUM = Family(
    "plumbline_outcome_score_sum_total", "counter", "Sum of scores of predictions with an outcome."
)
OUTCOME_SCORE_BINS = Family("plumbline_outcome_score_bin_total", "counter", "Predictions with an outcome, by score.")
ATTRIBUTION_SUM = Family(
    "plumbline_attribution_sum_total",
    "counter",
    "Sum of the absolute SHAP values of this sign, margin units, over explained rows of a group.",
)
MARGIN_SUM = Family(
    "plumbline_attribution_margin_sum_total", "counter", "Sum of the absolute margins of this sign, over the same rows."
)
ATTRIBUTION_ROWS = Family("plumbline_attribution_rows_total", "counter", "Rows in the attribution sums.")
COVERAGE = Family("plumbline_sensitive_feature_values_total", "counter", "Predictions, by what was known.")
DELAY = Family("plumbline_label_delay_seconds", "histogram", "From a prediction to its outcome.")
CLASSES = Family("plumbline_class_info", "gauge", "A class of a model.")
REFERENCE_GROUP = Family("plumbline_reference_group_info", "gauge", "The group that others are compared with.")
Z = Family(
    "plumbline_simultaneous_z",
    "gauge",
    "One-sided normal quantile that holds for all groups of a sensitive feature at once (Bonferroni).",
)
DIFFERENCE_Z = Family(
    "plumbline_simultaneous_difference_z",
    "gauge",
    "The same for differences of TPR, FPR and PPV to either side, all together.",
)
FAMILIES = (
    *(PREDICTIONS, OUTCOMES, CORRECTIONS, SCORE_SUM, OUTCOME_SCORE_SUM, OUTCOME_SCORE_BINS, ATTRIBUTION_SUM),
    *(MARGIN_SUM, ATTRIBUTION_ROWS, COVERAGE, DELAY, CLASSES, REFERENCE_GROUP, Z, DIFFERENCE_Z),
)


def columns(counters: Counters) -> Iterator[Column[Counters]]:
    """All of them; `counters` tell which groups and classes there are."""
    manifest = counters.manifest
    model = (("model_name", manifest.name), ("model_version", manifest.version))
    classes = [
        (
            name,
            str(label == manifest.positive_class).lower(),
            str(label == manifest.favourable_outcome).lower(),
        )
        for label, name in zip(manifest.classes, counters.class_names, strict=True)
    ]
    roles = Axis(("class", "positive", "favourable"), classes)
    yield Column(CLASSES, model, (roles,), lambda _: np.ones(len(classes), np.int64))
    bounds = Axis.of("le", [*map(str, map(float, DELAY_BUCKETS)), "+Inf"])
    yield Column(DELAY, model, (bounds,), lambda now: np.cumsum(now.delay_counts), suffix="_bucket")
    yield Column(DELAY, model, (), lambda now: [now.delay_counts.sum()], suffix="_count")
    yield Column(DELAY, model, (), lambda now: [now.delay_sum], suffix="_sum")
    for index, made in enumerate(counters.groups.sets):
        feature = (*model, ("sensitive_feature", made.name))
        yield from _constants(feature, made)
        yield from _tables(feature, counters, index, made)
        if manifest.explainer is not None and not made.is_intersection:
            yield from _attributions(feature, counters, index, made)


def _constants(feature: Sequence[tuple[str, str]], made: GroupSet) -> Iterator[Column[Counters]]:
    reference = (*feature, ("group", made.reference_group))
    for family, labels, number in (
        (REFERENCE_GROUP, reference, 1.0),
        (Z, feature, made.simultaneous_z),
        (DIFFERENCE_Z, feature, made.simultaneous_difference_z),
    ):
        yield Column(family, labels, (), _constant(number))


def _constant(number: float) -> Any:
    return lambda _: [number]


def _tables(
    feature: Sequence[tuple[str, str]], counters: Counters, index: int, made: GroupSet
) -> Iterator[Column[Counters]]:
    names = counters.class_names
    groups, bins = Axis.of("group", made.groups), Axis.of("bin", BINS)
    predicted, actual = Axis.of("predicted", names), Axis.of("actual", names)
    tables = [
        (PREDICTIONS, "predictions", (predicted,)),
        (SCORE_SUM, "score_sum", (predicted,)),
        (OUTCOMES, "outcomes", (predicted, actual)),
        (OUTCOME_SCORE_SUM, "outcome_score_sum", (actual,)),
    ]
    if not made.is_intersection:
        tables.append((OUTCOME_SCORE_BINS, "outcome_score_bins", (bins, actual)))
    for family, name, axes in tables:
        yield Column(family, feature, (groups, *axes), _by_group(name, index))

    changes = [(one, other) for one in range(len(names)) for other in range(len(names)) if one != other]
    change = Axis(("from_actual", "to_actual"), [(names[one], names[other]) for one, other in changes])
    before, after = np.array(changes).T
    yield Column(
        CORRECTIONS,
        feature,
        (groups, predicted, change),
        lambda now: now.by_group(now.corrections, index)[:, :, before, after],
    )

    def known(now: Counters) -> list[int]:
        by_group = now.by_group(now.predictions, index).sum(axis=1)
        declared = len(made.declared)
        return [int(by_group[:declared].sum()), *by_group[declared:].tolist()]

    yield Column(COVERAGE, feature, (Axis.of("status", STATUSES),), known)


def _attributions(
    feature: Sequence[tuple[str, str]], counters: Counters, index: int, made: GroupSet
) -> Iterator[Column[Counters]]:
    """Of declared groups."""
    declared, sign = Axis.of("group", made.declared), Axis.of("sign", SIGNS)
    names = Axis.of("feature", counters.manifest.feature_names)
    for family, name, axes in (
        (ATTRIBUTION_ROWS, "attribution_rows", ()),
        (ATTRIBUTION_SUM, "attribution_sum", (names, sign)),
        (MARGIN_SUM, "margin_sum", (sign,)),
    ):
        yield Column(family, feature, (declared, *axes), _by_group(name, index, len(made.declared)))


def _by_group(name: str, index: int, groups: int | None = None) -> Any:
    """Reads a table added up for each group of a set, the first `groups` of them."""
    return lambda now: now.by_group(getattr(now, name), index)[:groups]
