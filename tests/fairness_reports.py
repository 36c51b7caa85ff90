"""Fairness reports made by hand, as `GET /v1/models/{name}/fairness` answers them, for tests of the page."""

UNDEFINED_RATE = {"value": None, "numerator": 0, "denominator": 0, "low": None, "high": None}
RATES = (
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "positive_predictive_value",
    "base_rate",
    "label_coverage",
)
COMPARISONS = (
    "impact_ratio",
    "adverse_ratio",
    "selection_rate_difference",
    "true_positive_rate_difference",
    "false_positive_rate_difference",
    "positive_predictive_value_difference",
    "label_coverage_difference",
)
DISPARITIES = (
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equal_opportunity_difference",
    "false_positive_rate_difference",
    "predictive_parity_difference",
    "equalized_odds_difference",
)


def rate(numerator, denominator):
    share = numerator / denominator
    return {
        "value": share,
        "numerator": numerator,
        "denominator": denominator,
        "low": max(0, share - 0.1),
        "high": min(1, share + 0.1),
    }


def group(name, n=1000, *, state="ok", kind="declared", **changes):
    """400 of 1000 selected, and the like."""
    compared = kind == "declared" and state != "reference"
    return {
        "group": name,
        "kind": kind,
        "state": state,
        "n": n,
        "predicted": {"0": n * 4 // 10, "1": n * 6 // 10},
        "labelled": n,
        "cells": {"true_positive": 301, "false_positive": 299, "false_negative": 202, "true_negative": 198},
        "rates": {name: rate(n * 4 // 10, n) for name in RATES},
        "against_reference": {name: {"value": 0.97, "low": 0.9, "high": 1.05, "state": "ok"} for name in COMPARISONS}
        if compared
        else None,
        "calibration": {
            "n": n,
            "mean_score": 0.52,
            "observed_rate": 0.5,
            "difference": 0.02,
            "bins": [
                {
                    "low": 0.0,
                    "high": 0.1,
                    "n": 120,
                    "mean_score": 0.06,
                    "observed_rate": 0.08,
                    "rate_low": 0.05,
                    "rate_high": 0.13,
                }
            ],
        },
        "attribution": {
            "n": 250,
            "mean_margin_difference": 0.41,
            "features": [{"feature": f"feature_{place}", "difference": 0.4 / 2**place} for place in range(14)],
        }
        if compared
        else None,
    } | changes


def hidden_group(name, **changes):
    suppressed = {"value": None, "low": None, "high": None, "state": "suppressed"}
    return group(
        name,
        state="suppressed",
        predicted=None,
        labelled=None,
        cells=None,
        rates=dict.fromkeys(RATES),
        against_reference=dict.fromkeys(COMPARISONS, suppressed),
        calibration=None,
        attribution=None,
    ) | {"n": None, **changes}


def feature(name, groups, *, state="ok", **changes):
    return {
        "name": name,
        "intersection_of": None,
        "reference_group": groups[0]["group"],
        "state": state,
        "groups": groups,
        "disparities": {name: {"value": 0.12, "low": 0.05, "high": 0.2} for name in DISPARITIES},
    } | changes


def report(*features, state="ok", **changes):
    return {
        "model_name": "compas",
        "model_versions": ["1"],
        "window": {"name": "7d", "start": "2026-11-17T15:00:00Z", "end": "2026-11-24T16:30:00+01:00"},
        "positive_class": 1,
        "favourable_outcome": 0,
        "suppression": {"enabled": True, "smallest_shown": 11},
        "state": state,
        "n": 7214,
        "labelled": 3607,
        "sensitive_features": list(features),
    } | changes
