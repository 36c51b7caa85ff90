"""What two replicas of a biased and drifting model export, as series that `promtool` takes: scraped every 15 s.

`toy` version 1 has classes 0 (favourable) and 1 (positive), two sensitive features and two features. Of age_band, 18-29
is favoured least and 50+ hardly seen; `amount` has moved, `entry_mode` has not.
"""

import itertools

from promtool import REPLICAS, series

STEPS = 24
EVERY = "15s"
MODEL = {"model_name": "toy", "model_version": "1"}
REFERENCE = MODEL | {"reference": "0123456789ab"}
CLASSES = ("0", "1")
# Sensitive feature: (reference group, {group: predictions of each class in a step}).
GROUPS = {
    "sex": ("male", {"female": (10, 10), "male": (10, 10), "unknown": (1, 1)}),
    "age_band": ("30-49", {"18-29": (4, 16), "30-49": (16, 4), "50+": (1, 0), "other": (1, 1)}),
}
# Feature: {bin: (kind, observations in a step, share of the reference)}.
FEATURES = {
    "amount": {
        "00 below 1": ("underflow", 8, 0.02),
        "01 1 to 10": ("bin", 2, 0.48),
        "02 from 10": ("overflow", 20, 0.48),
        "03 missing": ("missing", 12, 0.02),
    },
    "entry_mode": {
        "00 chip": ("bin", 20, 0.5),
        "01 online": ("bin", 20, 0.48),
        "02 phone": ("unseen", 1, 0.01),
        "03 other": ("other", 1, 0.01),
    },
}
SCORES = {"00 0 to 0.5": ("bin", 12, 0.8), "01 0.5 to 1": ("bin", 30, 0.2)}
QUANTILE = 9.0


def exported():
    """Every series of every replica."""
    return [*itertools.chain(of_the_service(), of_groups(), of_drift())]


def counter(name, step, **labels):
    """A counter of each replica that grows by as much in each step."""
    return [series(f"plumbline_{name}", f"0+{step}x{STEPS}", replica, **labels) for replica in REPLICAS]


def gauge(name, value, **labels):
    """A gauge of each replica that stays."""
    return [series(f"plumbline_{name}", f"{value}+0x{STEPS}", replica, **labels) for replica in REPLICAS]


def histogram(name, **labels):
    """Three observations a step, one of them in each bucket but the last."""
    for bound, step in (("0.001", 1), ("0.01", 2), ("0.1", 3), ("+Inf", 3)):
        yield from counter(f"{name}_bucket", step, **labels, le=bound)
    yield from counter(f"{name}_sum", 0.05, **labels)
    yield from counter(f"{name}_count", 3, **labels)


def of_the_service():
    """Requests, runs, explanations, records, the monitor."""
    route = {"route": "/v1/models/{name}:predict"}
    for status, step in (("200", 40), ("422", 1)):
        yield from counter("http_requests_total", step, **route, method="POST", status=status)
    yield from histogram("http_request_duration_seconds", **route)
    yield from gauge("http_requests_in_flight", 2)
    for name in ("batch_rows", "batch_duration_seconds", "additivity_residual", "label_delay_seconds"):
        yield from histogram(name, **MODEL)
    yield from gauge("queue_rows", 0, **MODEL)
    yield from gauge("model_info", 1, **MODEL, digest="sha256:0", provider="CPUExecutionProvider", device="cpu")
    yield from gauge("model_ready", 1, **MODEL)
    yield from gauge("model_refused", 0, **MODEL)
    yield from counter("explanations_total", 3, **MODEL, status="exact")
    yield from histogram("explanation_duration_seconds", **MODEL, algorithm="exact")
    yield from counter("explanation_samples_total", 1, **MODEL, result="explained")
    for result in ("joined", "unknown"):
        yield from counter("outcomes_received_total", 1, model_name="toy", result=result)
    yield from counter("audit_rows_total", 40, result="committed")
    yield from histogram("audit_commit_duration_seconds")
    yield from gauge("audit_queue_rows", 3)
    yield from counter("monitor_failures_total", 0)
    yield from counter("monitor_last_success_timestamp_seconds", 15)


def of_groups():
    """Counts of each group, and what the rules must know of the manifest."""
    for name in CLASSES:
        roles = {"positive": str(name == "1").lower(), "favourable": str(name == "0").lower()}
        yield from gauge("class_info", 1, **MODEL, **{"class": name}, **roles)
    for feature, (reference_group, groups) in GROUPS.items():
        of_feature = MODEL | {"sensitive_feature": feature}
        yield from gauge("reference_group_info", 1, **of_feature, group=reference_group)
        yield from gauge("simultaneous_z", 1.96, **of_feature)
        yield from gauge("simultaneous_difference_z", 2.4, **of_feature)
        for status, step in (("known", 40), ("unknown", 2)):
            yield from counter("sensitive_feature_values_total", step, **of_feature, status=status)
        for group, steps in groups.items():
            yield from of_group(of_feature | {"group": group}, dict(zip(CLASSES, steps, strict=True)))


def of_group(labels, steps):
    """Predictions, half of them with an outcome, of which a quarter is wrong; scores and attributions."""
    for predicted, step in steps.items():
        yield from counter("predictions_total", step, **labels, predicted=predicted)
        yield from counter(
            "calibrated_score_sum_total", step * (0.3, 0.7)[predicted == "1"], **labels, predicted=predicted
        )
        yield from counter("calibrated_score_variance_sum_total", step * 0.21, **labels, predicted=predicted)
        for actual in CLASSES:
            share = 0.375 if actual == predicted else 0.125
            yield from counter("outcomes_total", step * share, **labels, predicted=predicted, actual=actual)
    yield from counter("attribution_rows_total", 2, **labels)
    for sign, margin in (("positive", 3), ("negative", sum(steps.values()) / 10)):
        yield from counter("attribution_margin_sum_total", margin, **labels, sign=sign)
        for feature in FEATURES:
            yield from counter("attribution_sum_total", margin / 2, **labels, feature=feature, sign=sign)
    group_scores = {"class": "1", **labels}
    yield from distribution("group_score", REFERENCE | group_scores, SCORES)


def of_drift():
    """Observations and reference of features, scores and attributions."""
    yield from gauge("reference_info", 1, **REFERENCE)
    yield from gauge("input_share_z", 2.9, **REFERENCE)
    yield from gauge("attribution_reference_rows", 1000, **REFERENCE)
    yield from gauge("attribution_share_z", 2.8, **REFERENCE)
    yield from counter("attribution_magnitude_rows_total", 20, **MODEL)
    for feature, bins in FEATURES.items():
        of_feature = {"feature": feature}
        yield from distribution("feature", REFERENCE | of_feature, bins)
        share = 0.9 if feature == "amount" else 0.1
        yield from counter("attribution_magnitude_sum_total", 20 * share, **MODEL, **of_feature)
        yield from gauge("attribution_reference_share", 0.5, **REFERENCE, **of_feature)
        yield from gauge("attribution_reference_deviation", 0.4, **REFERENCE, **of_feature)
        yield from counter("refused_values_total", 1, **MODEL, **of_feature, reason="type")
    for name in CLASSES:
        yield from distribution("score", REFERENCE | {"class": name}, SCORES)


def distribution(name, labels, bins):
    """Observations of each bin beside the reference; each bin is a cell."""
    for each, (kind, step, share) in bins.items():
        own = labels | {"bin": each, "kind": kind, "cell": each[:2]}
        yield from counter(f"{name}_observations_total", step, **own)
        yield from gauge(f"{name}_reference_observations", 1000 * share, **own)
    yield from gauge(f"{name}_psi_chi2_quantile", QUANTILE, **labels)
