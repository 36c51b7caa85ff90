"""The fairness report: everything that the counts of a window say about the groups of a model. Pure.

Numbers that would show 1 to 10 people, or that rest on some, are hidden unless suppression is off; see `suppression`.
A hidden number is null and its state `suppressed`; an undefined one is null with a denominator of 0.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from service.manifest import Manifest
from service.monitor.comparison import State, compare, worst
from service.monitor.counters import SCORE_BINS
from service.monitor.disparities import disparities
from service.monitor.fairness import Cells, Rate
from service.monitor.suppression import SMALLEST_SHOWN, Hidden, everything, hide, is_small
from service.monitor.tally import GroupTable

SUPPRESSED = {"suppressed": True}
DECISION_RATES = ("selection_rate",)
DECISION_COMPARISONS = ("impact_ratio", "adverse_ratio", "selection_rate_difference")
DECISION_GAPS = "demographic_parity"


def fairness_report(manifest: Manifest, tables: Sequence[GroupTable], *, suppress: bool) -> dict[str, Any]:
    """The report of one model version from its `tables`, without the window, which the caller knows."""
    hidden = hide(tables) if suppress else [everything(table, False) for table in tables]
    features = [_feature(manifest, table, mask, suppress=suppress) for table, mask in zip(tables, hidden, strict=True)]
    n, labelled = (int(tables[0].n.sum()), int(tables[0].labelled.sum())) if tables else (0, 0)
    if suppress and is_small(np.array([n])).any():
        n = None  # type: ignore[assignment]
    if n is None or (suppress and is_small(np.array([labelled, n - labelled])).any()):
        labelled = None  # type: ignore[assignment]
    return {
        "model_name": manifest.name,
        "model_versions": [manifest.version],
        "positive_class": manifest.positive_class,
        "favourable_outcome": manifest.favourable_outcome,
        "suppression": {"enabled": suppress, "smallest_shown": SMALLEST_SHOWN},
        "state": worst([feature["state"] for feature in features]) if features else "insufficient",
        "n": n,
        "labelled": labelled,
        "sensitive_features": features,
    }


def _feature(manifest: Manifest, table: GroupTable, hidden: Hidden, *, suppress: bool) -> dict[str, Any]:
    made = table.made
    declared = range(len(made.declared))
    reference = made.groups.index(made.reference_group)
    rates = [_rates(manifest, table, group) for group in range(len(made.groups))]
    groups = [
        _group(manifest, table, hidden, rates, group=group, reference=reference, suppress=suppress)
        for group in range(len(made.groups))
    ]
    gaps: dict[str, Any] = {}
    for name, gap in disparities({made.groups[group]: rates[group] for group in declared}).items():
        mask = hidden.decisions if name.startswith(DECISION_GAPS) else hidden.outcomes
        gaps[name] = SUPPRESSED if mask[: len(declared)].any() else gap
    states: list[State] = [
        "insufficient" if entry["state"] == "suppressed" else entry["state"]
        for entry in groups
        if entry["state"] not in ("reference", "not_compared")
    ]
    return {
        "name": made.name,
        "intersection_of": list(made.parts) if made.is_intersection else None,
        "reference_group": made.reference_group,
        "state": worst(states) if states else "insufficient",
        "groups": groups,
        "disparities": gaps,
    }


def _rates(manifest: Manifest, table: GroupTable, group: int) -> dict[str, Rate]:
    """All rates of one group; what the manifest gives no class for has denominator 0.

    Those of the outcomes, and the selection rate over all predictions, with or without an outcome.
    """
    predicted, n = table.predicted[group], int(table.n[group])
    confusion = _confusion(manifest, table, group) or Cells()
    made = confusion.rates(positive_is_favourable=True) | {"selection_rate": Rate(0, 0)}
    if manifest.favourable_outcome is not None:
        favourable = manifest.classes.index(manifest.favourable_outcome)
        made["selection_rate"] = Rate(int(predicted[favourable]), n)
    return made | {"label_coverage": Rate(int(table.labelled[group]), n)}


def _group(
    manifest: Manifest,
    table: GroupTable,
    hidden: Hidden,
    rates: Sequence[dict[str, Rate]],
    *,
    group: int,
    reference: int,
    suppress: bool,
) -> dict[str, Any]:
    made = table.made
    is_declared = group < len(made.declared)
    decisions, outcomes = bool(hidden.decisions[group]), bool(hidden.outcomes[group])
    confusion = _confusion(manifest, table, group)
    entry: dict[str, Any] = {
        "group": made.groups[group],
        "kind": "declared" if is_declared else "reserved",
        "state": "reference" if group == reference else "not_compared",
        "n": None if decisions else int(table.n[group]),
        "predicted": None if decisions else _by_class(manifest, table.predicted[group]),
        "labelled": None if outcomes else int(table.labelled[group]),
        "cells": None if outcomes or confusion is None else asdict(confusion),
        "rates": {
            name: None if (decisions if name in DECISION_RATES else outcomes) else _rate(rate)
            for name, rate in rates[group].items()
        },
        "against_reference": None,
        "calibration": None if outcomes else _calibration(manifest, table, group, hide_bins=bool(hidden.scores[group])),
        "attribution": None,
    }
    if not is_declared or group == reference:
        return entry
    compared = compare(
        rates[group], rates[reference], z=made.simultaneous_z, difference_z=made.simultaneous_difference_z
    )
    for name in compared:
        mask = hidden.decisions if name in DECISION_COMPARISONS else hidden.outcomes
        if mask[group] or mask[reference]:
            compared[name] = {"value": None, "low": None, "high": None, "state": "suppressed"}
    if not outcomes and not hidden.outcomes[reference]:
        compared |= _odds(rates[group], rates[reference])
    entry["against_reference"] = compared
    entry["state"] = _state(manifest, compared)
    if not decisions and not hidden.decisions[reference]:
        entry["attribution"] = _attribution(manifest, table, group, reference, suppress=suppress)
    return entry


def _state(manifest: Manifest, compared: dict[str, dict[str, Any]]) -> str:
    """Of what can be judged: a model without a favourable outcome has no impact ratio to wait for."""
    names = [name for name in compared if "state" in compared[name]]
    if manifest.favourable_outcome is None:
        names = [name for name in names if name not in DECISION_COMPARISONS]
    if manifest.positive_class is None:
        names = [name for name in names if name in DECISION_COMPARISONS or name.startswith("label_coverage")]
    states = [compared[name]["state"] for name in names]
    judged = [state for state in states if state != "suppressed"]
    if "breach" in judged:
        return "breach"
    return "suppressed" if len(judged) < len(states) else worst(judged)


def _rate(rate: Rate) -> dict[str, float | int | None]:
    low, high = rate.interval() or (None, None)
    return {
        "value": rate.value,
        "numerator": rate.numerator,
        "denominator": rate.denominator,
        "low": low,
        "high": high,
    }


def _by_class(manifest: Manifest, counts: Any) -> dict[str, int]:
    return {str(label): int(count) for label, count in zip(manifest.classes, counts, strict=True)}


def _confusion(manifest: Manifest, table: GroupTable, group: int) -> Cells | None:
    """The positive class against the rest; None without one."""
    if manifest.positive_class is None:
        return None
    cells, positive = table.cells[group], manifest.positive_index
    true_positive = int(cells[positive, positive])
    called, actual = int(cells[positive].sum()), int(cells[:, positive].sum())
    return Cells(
        true_positive=true_positive,
        false_positive=called - true_positive,
        false_negative=actual - true_positive,
        true_negative=int(cells.sum()) - called - actual + true_positive,
    )


def _odds(rates: dict[str, Rate], reference: dict[str, Rate]) -> dict[str, dict[str, float | None]]:
    """AIF360's averages of two signed differences, and the difference in accuracy; without intervals."""

    def apart(name: str) -> float | None:
        one, other = rates[name].value, reference[name].value
        return None if one is None or other is None else one - other

    tpr, fpr = apart("true_positive_rate"), apart("false_positive_rate")
    ppv, omission = apart("positive_predictive_value"), None
    false_omissions = [_false_omission_rate(found).value for found in (rates, reference)]
    if None not in false_omissions:
        omission = false_omissions[0] - false_omissions[1]  # type: ignore[operator]
    return {
        "average_odds_difference": {"value": None if tpr is None or fpr is None else (tpr + fpr) / 2},
        "average_predictive_value_difference": {
            "value": None if ppv is None or omission is None else (ppv + omission) / 2
        },
    }


def _false_omission_rate(rates: dict[str, Rate]) -> Rate:
    """Actual positives among those predicted negative: FN / (FN + TN)."""
    positives, predicted = rates["base_rate"], rates["positive_predictive_value"]
    return Rate(positives.numerator - predicted.numerator, positives.denominator - predicted.denominator)


def _calibration(manifest: Manifest, table: GroupTable, group: int, *, hide_bins: bool) -> dict[str, Any] | None:
    """Mean score beside the share of the positive class, overall and by score; None without outcomes."""
    n = int(table.labelled[group])
    if manifest.positive_class is None or n == 0:
        return None
    positives = int(table.cells[group][:, manifest.positive_index].sum())
    mean = float(table.score_sum[group].sum()) / n
    shown = not hide_bins and not table.made.is_intersection
    return {
        "n": n,
        "mean_score": mean,
        "observed_rate": positives / n,
        "difference": mean - positives / n,
        "bins": [_bin(manifest, table, group, number) for number in range(SCORE_BINS)] if shown else None,
    }


def _bin(manifest: Manifest, table: GroupTable, group: int, number: int) -> dict[str, Any]:
    counts = table.bins[group, number].sum(axis=0)  # by actual
    rate = Rate(int(counts[manifest.positive_index]), int(counts.sum()))
    low, high = rate.interval() or (None, None)
    mean = float(table.bin_score_sum[group, number]) / rate.denominator if rate.denominator else None
    return {
        "low": number / SCORE_BINS,
        "high": (number + 1) / SCORE_BINS,
        "n": rate.denominator,
        "mean_score": mean,
        "observed_rate": rate.value,
        "rate_low": low,
        "rate_high": high,
    }


def _attribution(
    manifest: Manifest, table: GroupTable, group: int, reference: int, *, suppress: bool
) -> dict[str, Any] | None:
    """Mean SHAP values of the group minus those of the reference: they add up to the difference of mean margins."""
    rows = table.explained[[group, reference]]
    if (rows == 0).any() or table.made.is_intersection or (suppress and is_small(rows).any()):
        return None
    means = table.attribution_sum[[group, reference]] / rows[:, None]
    margins = table.margin_sum[[group, reference]] / rows
    difference = means[0] - means[1]
    order = np.argsort(-np.abs(difference), kind="stable")
    return {
        "n": int(rows[0]),
        "mean_margin_difference": float(margins[0] - margins[1]),
        "features": [
            {"feature": manifest.features[index].name, "difference": float(difference[index])}
            for index in order.tolist()
        ],
    }
