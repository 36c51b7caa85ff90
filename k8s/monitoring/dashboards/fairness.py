"""The dashboard Fairness: who is selected, who is judged rightly, what drives the gap, whether the monitor counts."""

from k8s.monitoring.alerts import breach_alerts, evidence_alert, silence_alert
from k8s.monitoring.dashboards import panels, tables
from k8s.monitoring.dashboards.frame import Json, dashboard
from k8s.monitoring.dashboards.health import health
from k8s.monitoring.dashboards.panels import COUNT, NUMBER, PERCENT, SECONDS, Panel
from k8s.monitoring.dashboards.states import FAIRNESS, fairness_state
from k8s.monitoring.dashboards.tables import Column
from k8s.monitoring.dashboards.variables import FEATURE, GROUP, MODEL, WINDOW, of
from k8s.monitoring.promql import FEATURE as BY_FEATURE
from k8s.monitoring.promql import increase, mean, ratio
from service.monitor.fairness import ELIGIBLE_DENOMINATOR, LEAST_IMPACT_RATIO

ALERTS = [alert.name for alert in (*breach_alerts(WINDOW), evidence_alert(WINDOW), silence_alert())]
NO_REFERENCE = "insufficient, or the reference group itself"
MOST_FEATURES = 15  # in the picture of what drives the gap

EXPECTED = {
    "true_positive_rate": "true positive rate",
    "false_positive_rate": "false positive rate",
    "positive_predictive_value": "positive predictive value",
}


def fairness() -> Json:
    """The dashboard."""
    return dashboard(
        "Fairness",
        "Rates per group of a sensitive feature with their intervals, what tells groups apart, and what drives it.",
        ("datasource", "window", "model", "version", "sensitive_feature", "group"),
        ("State of ${model} ${version}, last ${window}", state()),
        ("Selection by ${sensitive_feature}", selection()),
        ("Outcomes by ${sensitive_feature}", outcomes()),
        ("Expected without labels, and realised", expected()),
        ("What drives the gap", gap()),
        ("The monitor itself", monitor()),
    )


def state() -> list[Panel]:
    """Everything at a glance."""
    known = f"0 * group by ({BY_FEATURE}) ({of('plumbline_reference_group_info')})"

    def per_feature(series: str, operation: str) -> str:
        return f"  {operation} by ({BY_FEATURE}) ({of(series)})\nor\n  {known}"

    predictions, declared = increase("predictions", WINDOW), increase("declared_predictions", WINDOW)
    return [
        tables.rows(
            "State by sensitive feature",
            "Red is a breach by the conditions of the alerts, blue means that some declared group or the reference "
            f"group has fewer than {ELIGIBLE_DENOMINATOR} cases so that nothing can be said of it, and n is how many "
            "people stand behind a row.",
            {"sensitive_feature": "Sensitive feature"},
            *(Column(name, fairness_state(judged, MODEL), beyond="breach") for name, judged in FAIRNESS.items()),
            Column("n", per_feature(predictions, "sum"), COUNT, 0),
            Column("n of the smallest group", per_feature(declared, "min"), COUNT, 0),
            Column("n with outcome", per_feature(increase("outcomes", WINDOW), "sum"), COUNT, 0),
            Column("Coverage", of(ratio("sensitive_feature_coverage", WINDOW, "model_sensitive_feature")), PERCENT, 1),
            chooses="sensitive_feature",
        ),
        panels.timeline(
            "State of ${sensitive_feature} over time",
            "Each lane is a rate that is judged, blue where there was too little to judge it and red while a group "
            "was in breach.",
            *((name, fairness_state(judged, FEATURE)) for name, judged in FAIRNESS.items()),
            beyond="breach",
            size=(24, 7),
        ),
        tables.alert_list(
            "What Prometheus has pending or firing about fairness for this model, over every window; an empty list "
            "means little while the monitor is silent.",
            ALERTS,
            ("sensitive_feature", "group", "rate", "reason"),
        ),
    ]


def selection() -> list[Panel]:
    """Who gets the favourable prediction."""
    return [
        panels.lines(
            "Selection rate per group",
            "The share of each group that got the favourable prediction; lines far apart matter only as far as the "
            "bands of the panels below do not overlap.",
            ("{{group}}", of(ratio("selection_rate", WINDOW), GROUP)),
            unit=PERCENT,
        ),
        panels.lines(
            "Impact ratio per group",
            "Selection rate of the group over that of the reference group: 1 is alike, and below the dashed "
            f"{LEAST_IMPACT_RATIO:g} it is a breach if the whole interval is.",
            ("{{group}}", of(ratio("impact_ratio", WINDOW), GROUP)),
            unit=NUMBER,
            limit=LEAST_IMPACT_RATIO,
        ),
        tables.rows(
            "Groups",
            "One row per group, reserved ones included, with the counts behind its numbers: a rate out of few is "
            "worth little, whatever it is.",
            {"group": "Group"},
            *counted(),
        ),
        panels.banded(
            "$group: selection rate",
            "The share with the favourable prediction within its 95 % Wilson interval; a wide band means few "
            "predictions.",
            "selection rate",
            bounds("selection_rate"),
        ),
        panels.banded(
            "$group: impact ratio",
            "The ratio to the reference group within its 95 % interval; only a band wholly below the dashed "
            f"{LEAST_IMPACT_RATIO:g} speaks of adverse impact, and the reference group has none.",
            "impact ratio",
            bounds("impact_ratio"),
            unit=NUMBER,
            limit=LEAST_IMPACT_RATIO,
        ).no_value(NO_REFERENCE),
    ]


def counted() -> list[Column]:
    """Counts, rates and bounds of each group."""
    return [
        Column("n", of(increase("predictions", WINDOW), FEATURE), COUNT, 0),
        Column("Selection rate", of(ratio("selection_rate", WINDOW), FEATURE), PERCENT, 1),
        *(
            Column(f"{bound} 95 %", of(ratio(f"selection_rate_{bound}", WINDOW), FEATURE), PERCENT, 1)
            for bound in ("lower", "upper")
        ),
        Column("Impact ratio", of(ratio("impact_ratio", WINDOW), FEATURE), NUMBER, 2),
        Column("n with outcome", of(increase("outcomes", WINDOW), FEATURE), COUNT, 0),
        Column("n with the condition", of(increase("true_positive_rate_denominator", WINDOW), FEATURE), COUNT, 0),
        Column("n without it", of(increase("false_positive_rate_denominator", WINDOW), FEATURE), COUNT, 0),
        Column("n explained", of(increase("attribution_rows", WINDOW), FEATURE), COUNT, 0),
    ]


def bounds(name: str) -> dict[str, str]:
    """A recorded share of the chosen groups, and its bounds."""
    return {
        "value": of(ratio(name, WINDOW), GROUP),
        "lower": of(ratio(f"{name}_lower", WINDOW), GROUP),
        "upper": of(ratio(f"{name}_upper", WINDOW), GROUP),
    }


def outcomes() -> list[Panel]:
    """Who is judged rightly, as far as outcomes are known."""
    delays = f"sum by (le) (increase({of('plumbline_label_delay_seconds_bucket')}[{WINDOW}]))"
    return [
        panels.lines(
            "True positive rate per group",
            "Of those who have the condition, the share that the model found; absent until such outcomes have arrived.",
            ("{{group}}", of(ratio("true_positive_rate", WINDOW), GROUP)),
            unit=PERCENT,
        ),
        panels.lines(
            "False positive rate per group",
            "Of those without the condition, the share that the model flagged; absent until such outcomes have "
            "arrived.",
            ("{{group}}", of(ratio("false_positive_rate", WINDOW), GROUP)),
            unit=PERCENT,
        ),
        panels.lines(
            "Label coverage per group",
            "The share of predictions whose outcome is known; where groups differ here, differences of TPR and FPR "
            "may come of who gets an outcome at all.",
            ("{{group}}", of(ratio("label_coverage", WINDOW), GROUP)),
            unit=PERCENT,
        ),
        panels.lines(
            "Label delay",
            "How long outcomes that arrived took since their prediction; rates over windows shorter than this see "
            "early outcomes only.",
            # Without an outcome the quantile is NaN, which the comparison drops.
            *((f"{share:.0%}", f"histogram_quantile({share}, {delays}) >= 0") for share in (0.5, 0.9, 0.99)),
            unit=SECONDS,
        ),
    ]


def expected() -> list[Panel]:
    """CBPE beside what came true."""
    return [
        panels.banded(
            f"$group: {words}",
            "Blue is expected from calibrated scores without any outcome (CBPE), with its 95 % interval, orange is "
            "realised: orange outside the band means that the model's probabilities no longer hold for this group.",
            "expected",
            bounds(f"expected_{rate}"),
            beside=("realised", of(ratio(rate, WINDOW), GROUP)),
        ).no_value("insufficient, or no calibrated scores")
        for rate, words in EXPECTED.items()
    ]


def gap() -> list[Panel]:
    """Which features set a group apart, by the SHAP values of explained rows."""
    difference = of(mean("attribution_difference", WINDOW, "model_group_feature"), GROUP)
    drivers = tables.bars(
        "$group: what drives the gap",
        "How much each feature raises (orange) or lowers (blue) the mean margin of this group against the reference "
        f"group, in margin units, the {MOST_FEATURES} largest; together all features make up the gap.",
        {"feature": "Feature"},
        ("Difference", f"{difference} and topk by (group) ({MOST_FEATURES}, abs({difference}))"),
        unit=NUMBER,
        sort="Difference",
        horizontal=True,
        size=(24, 12),
    )
    drivers.thresholds(panels.steps(("blue", None), ("orange", 0))).color_scheme(panels.by_value())
    drivers.no_value(NO_REFERENCE)
    return [
        drivers.repeat("group").repeat_direction("h").max_per_row(panels.PER_LINE),
        panels.lines(
            "Gap of the margin per group",
            "Mean margin (score before the link function) of the group's explained rows minus that of the reference "
            "group's; 0 is alike.",
            ("{{group}}", of(mean("attribution_margin_difference", WINDOW), GROUP)),
            unit=NUMBER,
            zero=False,
        ),
        panels.lines(
            "Explained rows per group",
            "The n behind the attributions, explained on request or drawn by the monitor; under a few dozen the bars "
            "above are noise.",
            ("{{group}}", of(increase("attribution_rows", WINDOW), GROUP)),
            unit=COUNT,
        ),
    ]


def monitor() -> list[Panel]:
    """Whether what is above can be believed."""
    received = of("plumbline_outcomes_received_total", 'model_name="$model"')
    values = f"increase({of('plumbline_sensitive_feature_values_total', FEATURE)}[{WINDOW}])"
    return [
        *health(),
        panels.lines(
            "Outcomes by what came of them",
            "Outcomes per second that callers sent for this model: all but joined and corrected ones were not "
            "counted, and many unknown ones mean that callers send ids which the service never gave.",
            ("{{result}}", f"sum by (result) (rate({received}[$__rate_interval]))"),
            unit="cps",
            size=(6, 8),
        ),
        panels.lines(
            "Sensitive feature by what was known",
            "The shares of predictions that came with a declared group, without one, or with another: the unknown "
            "never enter a gap, so that much of them makes every gap doubtful.",
            ("{{status}}", f"sum by (status) ({values}) / on () group_left () (sum({values}) > 0)"),
            unit=PERCENT,
            size=(6, 8),
        ),
    ]
