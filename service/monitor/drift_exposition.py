"""Which series show drift of one model version: what was counted in the frozen bins, and what to compare it with.

The reference stands beside the counts as constants, the same on every replica, so that rules need no other source.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from service.monitor import drift
from service.monitor.bins import Bins
from service.monitor.counters import Counters
from service.monitor.drift_counters import DriftLayout
from service.monitor.groups import GroupSet
from service.monitor.series import Axis, Column, Family

Labels = Sequence[tuple[str, str]]


def _of(subject: str, words: str) -> tuple[Family, Family, Family]:
    """What is exported of a distribution: counts, those of the reference, and the quantile to judge them by."""
    return (
        Family(f"plumbline_{subject}_observations_total", "counter", f"Rows, by bin of {words}."),
        Family(f"plumbline_{subject}_reference_observations", "gauge", f"Reference rows, by bin of {words}."),
        Family(
            f"plumbline_{subject}_psi_chi2_quantile",
            "gauge",
            f"Chi-squared quantile that PSI / (1/n + 1/m) of {words} should exceed by chance in "
            f"{drift.DRIFT_ERROR:.1%} of windows, all comparisons together.",
        ),
    )


REFERENCE = Family("plumbline_reference_info", "gauge", "The reference that drift is measured against.")
FEATURES = _of("feature", "a feature")
SCORES = _of("score", "the probability of a class")
GROUP_SCORES = _of("group_score", "the probability of the positive class, by group")
CALIBRATED = Family(
    "plumbline_calibrated_score_sum_total", "counter", "Sum of calibrated probabilities of the positive class."
)
VARIANCE = Family(
    "plumbline_calibrated_score_variance_sum_total", "counter", "Sum of p (1 - p) of the same probabilities p."
)
MAGNITUDE = Family(
    "plumbline_attribution_magnitude_sum_total",
    "counter",
    "Sum of the absolute SHAP values of a feature, margin units, over explained rows.",
)
MAGNITUDE_ROWS = Family("plumbline_attribution_magnitude_rows_total", "counter", "Rows in those sums.")
REFERENCE_SHARE = Family(
    "plumbline_attribution_reference_share", "gauge", "A feature's share of the absolute SHAP values of reference rows."
)
REFERENCE_DEVIATION = Family(
    "plumbline_attribution_reference_deviation",
    "gauge",
    "s, where the standard error of such a share from n rows is s / sqrt(n).",
)
REFERENCE_ROWS = Family("plumbline_attribution_reference_rows", "gauge", "Reference rows that were explained.")
SHARE_Z = Family(
    "plumbline_input_share_z",
    "gauge",
    "One-sided normal quantile for the shares of missing, outlying and unseen values of all features.",
)
ATTRIBUTION_Z = Family(
    "plumbline_attribution_share_z", "gauge", "Two-sided normal quantile for the attribution shares of all features."
)
FAMILIES = (
    *(REFERENCE, *FEATURES, *SCORES, *GROUP_SCORES, CALIBRATED, VARIANCE, MAGNITUDE, MAGNITUDE_ROWS),
    *(REFERENCE_SHARE, REFERENCE_DEVIATION, REFERENCE_ROWS, SHARE_Z, ATTRIBUTION_Z),
)


def columns(layout: DriftLayout) -> Iterator[Column[Counters]]:
    """All of them."""
    manifest = layout.manifest
    model = (("model_name", manifest.name), ("model_version", manifest.version))
    own = (*model, ("reference", layout.id))
    yield _constant(REFERENCE, own, 1)
    yield _constant(SHARE_Z, own, drift.share_z(len(manifest.features)))
    for number, (feature, bins) in enumerate(zip(manifest.features, layout.table.columns, strict=True)):
        labels = (*own, ("feature", feature.name))
        yield from _distribution(FEATURES, labels, bins, _feature(number), comparisons=len(manifest.features))
    for label, (_, bins) in layout.scores.items():
        labels = (*own, ("class", label))
        yield from _distribution(SCORES, labels, bins, _part(f"score {label}"), comparisons=len(layout.scores))
    for _, made in layout.sets:
        yield from _groups(layout, made, model, own)
    if layout.attributed:
        yield from _attributions(layout, model, own)


def _groups(layout: DriftLayout, made: GroupSet, model: Labels, own: Labels) -> Iterator[Column[Counters]]:
    if layout.positive is not None:
        of_set = (*own, ("sensitive_feature", made.name), ("class", layout.positive))
        known = layout.group_bins(made)
        for number, group in enumerate(made.groups):
            bins = known.get(group, layout.scores[layout.positive][1])
            labels = (*of_set, ("group", group))
            yield Column(GROUP_SCORES[0], labels, (_axis(bins),), _group_score(made.name, number))
            if group in known:
                yield from _compared(GROUP_SCORES, labels, bins, comparisons=len(known))
    if layout.calibrators is not None:
        axes = Axis.of("group", made.groups), Axis.of("predicted", map(str, layout.manifest.classes))
        for family, name in ((CALIBRATED, "calibrated"), (VARIANCE, "variance")):
            yield Column(family, (*model, ("sensitive_feature", made.name)), axes, _part(f"{name} {made.name}"))


def _attributions(layout: DriftLayout, model: Labels, own: Labels) -> Iterator[Column[Counters]]:
    reference = layout.reference.attributions
    assert reference is not None
    names = Axis.of("feature", layout.manifest.feature_names)
    yield Column(MAGNITUDE, model, (names,), _part("magnitude"))
    yield Column(MAGNITUDE_ROWS, model, (), _part("magnitude rows"))
    shares, deviations = ([getattr(part, name) for part in reference.features] for name in ("share", "deviation"))
    yield Column(REFERENCE_SHARE, own, (names,), lambda _: shares)
    yield Column(REFERENCE_DEVIATION, own, (names,), lambda _: deviations)
    yield _constant(REFERENCE_ROWS, own, reference.n)
    yield _constant(ATTRIBUTION_Z, own, drift.attribution_z(len(reference.features)))


def _distribution(
    families: Sequence[Family], labels: Labels, bins: Bins, read: Any, *, comparisons: int
) -> Iterator[Column[Counters]]:
    """The counts of one distribution, and its reference."""
    yield Column(families[0], labels, (_axis(bins),), read)
    yield from _compared(families, labels, bins, comparisons=comparisons)


def _compared(
    families: Sequence[Family], labels: Labels, bins: Bins, *, comparisons: int
) -> Iterator[Column[Counters]]:
    yield Column(families[1], labels, (_axis(bins),), lambda _: bins.reference)
    yield _constant(families[2], labels, drift.psi_quantile(len(bins.cells) - 1, comparisons))


def _axis(bins: Bins) -> Axis:
    cells = [bins.cells[cell] for cell in bins.cell_of]
    return Axis(("bin", "kind", "cell"), list(zip(bins.names, bins.kinds, cells, strict=True)))


def _part(name: str) -> Any:
    """Reads one part of what was counted."""
    return lambda now: now.drift.layout.view(now.drift.values, name)


def _group_score(name: str, number: int) -> Any:
    return lambda now: now.drift.layout.view(now.drift.values, f"group score {name}")[number]


def _feature(number: int) -> Any:
    return lambda now: now.drift.layout.of_feature(now.drift.values, number)


def _constant(family: Family, labels: Labels, number: float) -> Column[Counters]:
    return Column(family, labels, (), lambda _: np.array([number]))
