"""States as PromQL, by the conditions of the alerts: 2 breach or drift, 1 ok, 0 insufficient; absent where unjudged.

As in the reports, too little evidence about one declared group makes the whole insufficient, unless there is a breach.
"""

from dataclasses import dataclass

from k8s.monitoring.alerts import Alert, breach_alerts
from k8s.monitoring.dashboards.panels import BEYOND, INSUFFICIENT, OK
from k8s.monitoring.dashboards.variables import MODEL as CHOSEN
from k8s.monitoring.dashboards.variables import WINDOW, of
from k8s.monitoring.drift_alerts import drift_alerts
from k8s.monitoring.drift_recording import FEATURES, Distribution
from k8s.monitoring.promql import DECLARED, FEATURE, GROUP, MODEL, increase, model_with, ratio
from service.monitor.drift import LEAST_OBSERVATIONS
from service.monitor.fairness import ELIGIBLE_DENOMINATOR

ALERTS: dict[str, Alert] = {alert.name: alert for alert in (*breach_alerts(WINDOW), *drift_alerts(WINDOW))}


@dataclass(frozen=True)
class Judged:
    """A rate, the alerts that judge it, and the role without which a model has no such rate."""

    rate: str
    alerts: tuple[str, ...]
    role: str


FAIRNESS = {
    "Selection": Judged("selection_rate", ("FairnessImpactRatio", "FairnessAdverseRatio"), "favourable"),
    "TPR": Judged("true_positive_rate", ("FairnessTruePositiveRateGap",), "positive"),
    "FPR": Judged("false_positive_rate", ("FairnessFalsePositiveRateGap",), "positive"),
    "PPV": Judged("positive_predictive_value", ("FairnessPredictiveValueGap",), "positive"),
    "Label coverage": Judged("label_coverage", ("FairnessLabelCoverageGap",), "positive"),
}


def state(labels: str, chosen: str, *cases: tuple[int, str]) -> str:
    """The first case that holds for each value of the labels, among those chosen."""
    parts = "\n  or\n".join(f"  {value} * group by ({labels}) (\n{expr}\n  )" for value, expr in cases)
    return f"(\n{parts}\n)\nand on ({labels})\n  ({chosen})"


def fairness_state(judged: Judged, selector: str) -> str:
    """The state of a rate of each chosen sensitive feature."""
    denominator, chosen = increase(f"{judged.rate}_denominator", WINDOW), of("plumbline_reference_group_info", selector)
    lacking = f"""\
      plumbline_predictions_total{DECLARED}
    unless on ({GROUP})
      {denominator} >= {ELIGIBLE_DENOMINATOR}"""
    return state(
        FEATURE,
        f"{chosen} and {model_with(judged.role)}",
        (BEYOND, "\nor\n".join(f"(\n{ALERTS[name].expr}\n)" for name in judged.alerts)),
        (INSUFFICIENT, lacking),
        (OK, chosen),
    )


def psi_state(counted: Distribution, alert: str, selector: str = CHOSEN) -> str:
    """The state of each distribution of features, of scores, or of scores of a group."""
    chosen = of(f"plumbline_{counted.name}_reference_observations", selector)
    return state(
        counted.labels,
        chosen,
        (BEYOND, ALERTS[alert].expr),
        (OK, f"{counted.n(WINDOW)} >= {LEAST_OBSERVATIONS}"),
        (INSUFFICIENT, chosen),
    )


def share_state(share: str, alert: str) -> str:
    """The state of each feature's share of values that are missing, out_of_range or unseen."""
    value = of(FEATURES.statistic(share, WINDOW))
    return state(
        FEATURES.labels,
        value,
        (BEYOND, ALERTS[alert].expr),
        (OK, f"{FEATURES.n(WINDOW)} >= {LEAST_OBSERVATIONS}"),
        (INSUFFICIENT, value),
    )


def attribution_state() -> str:
    """The state of each feature's share of all attribution."""
    share, rows = (
        of(ratio("attribution_share", WINDOW, "model_feature")),
        increase("attribution_magnitude_rows", WINDOW, "model"),
    )
    return state(
        f"{MODEL}, feature",
        share,
        (BEYOND, ALERTS["AttributionDrift"].expr),
        (OK, f"{share} and on ({MODEL}) {rows} >= {LEAST_OBSERVATIONS}"),
        (INSUFFICIENT, share),
    )
