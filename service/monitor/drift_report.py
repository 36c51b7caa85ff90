"""The drift report: what the counts of a window say about inputs, scores, explanations and performance. Pure.

With suppression on, bins of 1 to 10 rows are pooled with neighbours before anything is computed, so that nothing
hidden can be worked out from what is shown; what is about groups follows the fairness report of the same window.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.monitor import drift
from service.monitor.bins import SHARES, Bins, Integers
from service.monitor.drift_counters import DriftLayout, Floats
from service.monitor.groups import GroupSet
from service.monitor.performance import expected_rates
from service.monitor.pooling import Pool, each_bin, each_cell, in_order, leaves_small_count, without_small_counts
from service.monitor.suppression import SMALLEST_SHOWN, is_small

Json = dict[str, Any]
PSI_DECIMALS = 3  # of a group, where small cells are hidden


def drift_report(layout: DriftLayout, values: Floats, fairness: Mapping[str, Any], *, suppress: bool) -> Json:
    """The report of one model version from the `values` of its layout, without the window, which the caller knows.

    `fairness` is the fairness report of the same window and suppression.
    """
    manifest, reference = layout.manifest, layout.reference
    features = [
        {
            "feature": feature.name,
            "kind": feature.kind,
            "unit": feature.unit,
            **_feature(layout.of_feature(values, number), bins, len(manifest.features), suppress=suppress),
        }
        for number, (feature, bins) in enumerate(zip(manifest.features, layout.table.columns, strict=True))
    ]
    scores = [
        {"class": label, **_score(layout.view(values, f"score {label}"), bins, len(layout.scores), suppress=suppress)}
        for label, (_, bins) in layout.scores.items()
    ]
    known = {found["name"]: found["groups"] for found in fairness["sensitive_features"]}
    groups = [_group_scores(layout, values, made, known[made.name], suppress=suppress) for _, made in layout.sets]
    attribution = _attribution(layout, values, suppress=suppress)
    judged = [*features, *scores, *(entry for part in groups for entry in part["groups"])]
    judged += [share for entry in features for share in entry["shares"].values() if "state" in share]
    judged += [] if attribution is None else [attribution]
    return {
        "model_name": manifest.name,
        "model_version": manifest.version,
        "state": _worst([entry["state"] for entry in judged]),
        "n": features[0]["n"],
        "reference": {"id": layout.id, "n": reference.n, "data_fingerprint": reference.data_fingerprint},
        "suppression": {"enabled": suppress, "smallest_shown": SMALLEST_SHOWN},
        "limits": {
            "least_psi": drift.LEAST_PSI,
            "least_observations": drift.LEAST_OBSERVATIONS,
            "error": drift.DRIFT_ERROR,
            "least_share_increase": drift.LEAST_SHARE_INCREASE,
            "least_attribution_change": drift.LEAST_ATTRIBUTION_CHANGE,
        },
        "features": features,
        "scores": scores,
        "group_scores": [part for part in groups if part["groups"]],
        "attribution": attribution,
        "performance": [
            _performance(layout, values, made, known[made.name], suppress=suppress)
            for _, made in layout.sets
            if layout.calibrators is not None
        ],
    }


def _worst(states: Sequence[str]) -> str:
    if "drift" in states:
        return "drift"
    return "ok" if "ok" in states else "insufficient"


def _whole(counts: Floats) -> Integers:
    return np.asarray(counts).round().astype(np.int64)


def _both(pools: Sequence[Pool]) -> tuple[Integers, Integers]:
    """Counts `(P,)` now and in the reference."""
    return np.array([made.count for made in pools], np.int64), np.array([made.reference for made in pools], np.int64)


def _pools(counts: Integers, bins: Bins, *, suppress: bool) -> list[Pool]:
    """What is shown of a distribution."""
    return without_small_counts(counts, bins) if suppress else each_bin(counts, bins)


def _distribution(counts: Integers, bins: Bins, shown: Sequence[Pool], comparisons: int, *, suppress: bool) -> Json:
    """The comparison of one distribution with its reference; with suppression of the pools that are `shown`.

    The state is that of the cells as they are, as in the rules: pooled ones may hide what moved between them.
    """
    n = int(counts.sum())
    made: Json = {"n": n, "reference_n": bins.m, "state": "insufficient"}
    if suppress and is_small(np.array([n])).any():
        nothing = ("psi", "jensen_shannon", "chi_squared")
        return made | {"n": None, "state": "suppressed", **dict.fromkeys(nothing), "bins": []}
    compared = shown if suppress else each_cell(counts, bins)
    judged = drift.psi(bins.in_cells(counts), bins.in_cells(bins.reference), comparisons=comparisons)
    now, then = _both(compared)
    psi, test = drift.psi(now, then, comparisons=comparisons), drift.chi_squared(now, then)
    distance = None if psi is None else drift.jensen_shannon_distance(now, then)
    return made | {
        "state": drift.psi_state(judged, n),
        "psi": _psi(psi),
        "jensen_shannon": None if distance is None else {"distance": distance, "log_base": 2},
        "chi_squared": None
        if test is None
        else dict(zip(("statistic", "degrees_of_freedom", "p_value"), test, strict=True)),
        "bins": [
            {
                "bin": part.words(bins),
                "kind": part.kind(bins),
                "n": part.count,
                "share": part.count / n if n else None,
                "reference_n": part.reference,
                "reference_share": part.reference / bins.m if bins.m else None,
            }
            for part in shown
        ],
    }


def _score(found: Floats, bins: Bins, classes: int, *, suppress: bool) -> Json:
    counts = _whole(found)
    return _distribution(counts, bins, _pools(counts, bins, suppress=suppress), classes, suppress=suppress)


def _psi(found: drift.Psi | None, decimals: int | None = None) -> Json | None:
    if found is None:
        return None
    value = found.value if decimals is None else round(found.value, decimals)
    return {"value": value, "critical": found.critical, "degrees_of_freedom": found.degrees_of_freedom}


def _feature(found: Floats, bins: Bins, features: int, *, suppress: bool) -> Json:
    counts = _whole(found)
    pools = _pools(counts, bins, suppress=suppress)
    made = _distribution(counts, bins, pools, features, suppress=suppress)
    hidden = made["state"] == "suppressed"
    ordered = in_order(pools, bins.missing) if "overflow" in bins.kinds and not hidden else None
    distance = None if ordered is None else drift.kolmogorov_smirnov(*_both(ordered))
    made["kolmogorov_smirnov"] = None if distance is None else {"statistic": distance}
    made["shares"] = {}
    told: list[int] = []
    for name, kinds in SHARES.items():
        mine = np.flatnonzero(np.isin(bins.kinds, kinds)).tolist()
        if not mine:
            continue
        if hidden or (suppress and any(leaves_small_count(counts, pools, [*mine, *more]) for more in ([], told))):
            made["shares"][name] = {"suppressed": True}
        else:
            made["shares"][name] = _share(counts, bins, mine, features)
            told += mine
    return made


def _share(counts: Integers, bins: Bins, mine: Sequence[int], features: int) -> Json:
    """Of values that are missing, out of range or unseen."""
    count, n = int(counts[mine].sum()), int(counts.sum())
    reference = int(bins.reference[mine].sum()) / bins.m if bins.m else 0.0
    change = drift.share_change(count, n, reference, bins.m, z=drift.share_z(features))
    return _change(change, drift.share_state(change, n))


def _change(change: drift.Change | None, state: str) -> Json:
    names = ("value", "reference", "difference", "critical")
    return {name: None if change is None else getattr(change, name) for name in names} | {"state": state}


def _group_scores(
    layout: DriftLayout, values: Floats, made: GroupSet, known: Sequence[Json], *, suppress: bool
) -> Json:
    """Scores of each group against its own reference; groups that the reference does not know are left out."""
    with_reference = layout.group_bins(made)
    shown = {entry["group"]: entry["n"] for entry in known}
    groups = []
    for group, bins in with_reference.items():
        counts = _whole(layout.view(values, f"group score {made.name}")[made.groups.index(group)])
        n = int(counts.sum())
        psi = drift.psi(bins.in_cells(counts), bins.in_cells(bins.reference), comparisons=len(with_reference))
        state: str = drift.psi_state(psi, n)
        if suppress and (shown[group] is None or is_small(np.array([n])).any()):
            n, psi, state = None, None, "suppressed"  # type: ignore[assignment]
        elif suppress and (state == "insufficient" or is_small(bins.in_cells(counts)).any()):
            psi = None  # small cells would follow from it
        digits = PSI_DECIMALS if suppress else None
        groups.append({"group": group, "n": n, "reference_n": bins.m, "state": state, "psi": _psi(psi, digits)})
    return {"sensitive_feature": made.name, "class": layout.positive, "groups": groups}


def _attribution(layout: DriftLayout, values: Floats, *, suppress: bool) -> Json | None:
    """Shares of |SHAP| now and in the reference."""
    reference = layout.reference.attributions
    if reference is None:
        return None
    sums, n = layout.view(values, "magnitude"), int(layout.view(values, "magnitude rows")[0])
    if suppress and is_small(np.array([n])).any():
        return {"n": None, "reference_n": reference.n, "state": "suppressed", "features": []}
    z, total = drift.attribution_z(len(reference.features)), float(sums.sum())
    features = []
    for part, mine in zip(reference.features, sums.tolist(), strict=True):
        change = None
        if n and total:
            change = drift.attribution_change(mine / total, part.share, part.deviation, n, reference.n, z=z)
        entry = _change(change, drift.attribution_state(change, n))
        entry["share"], entry["reference_share"] = entry.pop("value"), part.share
        del entry["reference"]
        features.append({"feature": part.name} | entry)
    return {
        "n": n,
        "reference_n": reference.n,
        "state": _worst([entry["state"] for entry in features]),
        "features": features,
    }


def _performance(layout: DriftLayout, values: Floats, made: GroupSet, known: Sequence[Json], *, suppress: bool) -> Json:
    """Expected rates of the declared groups, beside what outcomes say so far."""
    assert layout.calibrators is not None
    own = layout.calibrators.groups.get(made.name, {})
    predictions, calibrated, variance = (
        layout.view(values, f"{name} {made.name}") for name in ("predictions", "calibrated", "variance")
    )
    groups = []
    for number, group in enumerate(made.declared):
        entry = next(found for found in known if found["group"] == group)
        hidden = suppress and (entry["n"] is None or bool(is_small(_whole(predictions[number])).any()))
        rates = expected_rates(
            predictions[number],
            calibrated[number],
            variance[number],
            positive=layout.manifest.positive_index,
            rounded=suppress,
        )
        enough = rates is not None
        groups.append(
            {
                "group": group,
                "n": entry["n"],
                "labelled": entry["labelled"],
                "calibrator": "group" if group in own else "pooled",
                "state": "suppressed" if hidden else "ok" if enough else "insufficient",
                "rates": {
                    name: {
                        "expected": None if hidden or rates is None else rates[name],
                        "realised": entry["rates"][name],
                    }
                    for name in ("true_positive_rate", "false_positive_rate", "positive_predictive_value")
                },
            }
        )
    return {"sensitive_feature": made.name, "groups": groups}
