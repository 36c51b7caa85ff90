"""Alert rules over one window: breaches of `service.monitor.fairness`, silent or short of evidence, refusals.

A breach needs three things at once: an effect beyond the threshold, an interval that excludes the threshold (for all
groups of the sensitive feature together), and enough counted in both groups. What they say is for the person on call.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from k8s.monitoring.promql import (
    FEATURE,
    GROUP,
    IS_REFERENCE,
    MODEL,
    increase,
    model_with,
    of_reference,
    ratio,
)
from service.monitor.fairness import (
    ELIGIBLE_DENOMINATOR,
    LEAST_IMPACT_RATIO,
    MOST_ADVERSE_RATIO,
    MOST_DIFFERENCE,
)

SILENT_SECONDS = 600
PREDICT_ROUTES = r"/v1/models/\\{name\\}(/versions/\\{version\\})?:(predict|explain)"

WHO = "{{ $labels.model_name }}/{{ $labels.model_version }}"
WHOSE = "{{ $labels.sensitive_feature }} {{ $labels.group }}"
HARDLY_CHANCE = "The interval that holds for all groups at once excludes that threshold too: this is hardly chance."

# For `printf`: what selects the series of the alert's sensitive feature.
SAME_FEATURE = "model_name=%q,model_version=%q,sensitive_feature=%q"
ITS_FEATURE = "$labels.model_name $labels.model_version $labels.sensitive_feature"


@dataclass(frozen=True)
class Alert:
    """One alert rule. `keeps_firing`: whether it stays for a while after its condition has ended."""

    name: str
    expr: str
    severity: str
    summary: str
    description: str
    action: str
    keeps_firing: bool = True


def breach_alerts(window: str) -> Iterator[Alert]:
    """One alert per kind of breach; it fires per model version, sensitive feature and group."""
    yield ratio_alert(
        "FairnessImpactRatio",
        "impact_ratio",
        "below",
        LEAST_IMPACT_RATIO,
        "gets the favourable prediction",
        window,
    )
    yield ratio_alert(
        "FairnessAdverseRatio",
        "adverse_ratio",
        "above",
        MOST_ADVERSE_RATIO,
        "is denied the favourable prediction",
        window,
    )
    for name, rate, words, action in (
        (
            "FairnessTruePositiveRateGap",
            "true_positive_rate",
            "true positive rate (cases found, of those that there are)",
            "whose cases are missed: the label coverage of both groups first, then their scores and calibration",
        ),
        (
            "FairnessFalsePositiveRateGap",
            "false_positive_rate",
            "false positive rate (false alarms, of those without the condition)",
            "who is flagged wrongly: the label coverage of both groups first, then their scores and calibration",
        ),
        (
            "FairnessPredictiveValueGap",
            "positive_predictive_value",
            "positive predictive value (flagged rightly, of all flagged)",
            "what a flag is worth in each group: the calibration of both groups, and their base rates",
        ),
        (
            "FairnessLabelCoverageGap",
            "label_coverage",
            "label coverage (predictions with a known outcome)",
            "who sends outcomes, and for whom: until this is even, differences of TPR, FPR and PPV may come of it",
        ),
    ):
        yield difference_alert(name, rate, words, action, window)


def ratio_alert(name: str, kind: str, direction: str, threshold: float, words: str, window: str) -> Alert:
    """A share of a group divided by that of the reference group is too low or too high, and so is its interval.

    Where nobody of the reference group is counted there is no ratio. It cannot be too low then; where anybody of the
    group is counted its bound alone decides whether it is too high, and is what is told.
    """
    sign, side, bounded = {"below": ("<", "upper", "at most "), "above": (">", "lower", "at least ")}[direction]
    beyond = f"{sign} {threshold:g}"
    value, bound = ratio(kind, window), ratio(f"{kind}_simultaneous_{side}", window)
    infinite = (
        f" or ({bound} unless {value} and {increase('not_selected', window)} > 0)" if direction == "above" else ""
    )
    lower, upper = (shown(ratio(f"{kind}_{end}", window)) for end in ("lower", "upper"))
    interval = either(value, f"95 % interval {lower} to {upper}", "no ratio, for there it is nobody")
    times = either(value, "", bounded) + '{{ $value | printf "%.2f" }} times as often as'
    return Alert(
        name,
        f"""\
  ({value} {beyond}{infinite})
and
  {bound} {beyond}
{both_eligible("selection_rate", window)}""",
        "warning",
        f"{WHO}: {WHOSE} {words} {times} {reference_name()}",
        f"Over the last {window} {WHOSE} {words} {times} the reference group "
        f"({interval}; {counted('selection_rate', window)}), {direction} the {threshold:g} that is tolerated. "
        + HARDLY_CHANCE,
        "Look at the selection rates of both groups over time, at the features that make the difference "
        f"(model_group_feature:plumbline_attribution_difference:mean_increase{window}), and at what changed: "
        "model version, data, who asks. " + report(),
    )


def difference_alert(name: str, rate: str, words: str, action: str, window: str) -> Alert:
    """A rate of a group lies too far above or below that of the reference group, and so does its interval."""
    kind = f"{rate}_difference"
    value = ratio(kind, window)
    lower, upper = (ratio(f"{kind}_simultaneous_{bound}", window) for bound in ("lower", "upper"))
    interval = f"95 % interval {shown(ratio(f'{kind}_lower', window))} to {shown(ratio(f'{kind}_upper', window))}"
    return Alert(
        name,
        f"""\
(
    ({value} > {MOST_DIFFERENCE} and {lower} > {MOST_DIFFERENCE})
  or
    ({value} < -{MOST_DIFFERENCE} and {upper} < -{MOST_DIFFERENCE})
)
{both_eligible(rate, window)}""",
        "warning",
        f'{WHO}: the {words} of {WHOSE} differs by {{{{ $value | printf "%+.2f" }}}} from that of {reference_name()}',
        f"Over the last {window} the {words} of {WHOSE} minus that of the reference group was "
        f'{{{{ $value | printf "%+.2f" }}}} ({interval}; {counted(rate, window)}), '
        f"beyond the {MOST_DIFFERENCE} that is tolerated. {HARDLY_CHANCE}",
        f"Look at {action}. {report()}",
    )


def both_eligible(rate: str, window: str) -> str:
    """The part of a condition that demands enough counted in the group and in the reference group."""
    denominator = increase(f"{rate}_denominator", window)
    return f"""\
and
  {denominator} >= {ELIGIBLE_DENOMINATOR}
and on ({FEATURE})
  ({of_reference(denominator)} >= {ELIGIBLE_DENOMINATOR})"""


def evidence_alert(window: str) -> Alert:
    """Too few counted to judge: one alert per sensitive feature and rate, which names the groups."""
    declared = increase("declared_predictions", window)
    roles = {
        "selection_rate": "favourable",
        "true_positive_rate": "positive",
        "false_positive_rate": "positive",
        "positive_predictive_value": "positive",
    }
    # A version that has been counted for less than the window is not lacking anything yet.
    parts = [
        f"""\
  label_replace(
    count by ({FEATURE}) (
        {declared}
      and {model_with(role)}
      and on ({MODEL}) (plumbline_predictions_total offset {window})
      unless on ({GROUP})
        {increase(f"{rate}_denominator", window)} >= {ELIGIBLE_DENOMINATOR}
    ),
    "rate", "{rate}", "", ""
  )"""
        for rate, role in roles.items()
    ]
    groups = (
        f"{{{{ range $number, $group := printf `bottomk(20, {declared}{{{SAME_FEATURE}}} unless on ({GROUP}) "
        f"model_group:plumbline_%s_denominator:increase{window} >= {ELIGIBLE_DENOMINATOR})` {ITS_FEATURE} $labels.rate "
        "| query | sortByLabel `group` }}{{ if $number }}; {{ end }}{{ $group.Labels.group }} "
        "({{ $group.Value | humanize }} predictions){{ end }}"
    )
    return Alert(
        "FairnessInsufficientEvidence",
        "\nor\n".join(parts),
        "info",
        f"{WHO}: the {{{{ $labels.rate }}}} by {{{{ $labels.sensitive_feature }}}} cannot be judged for "
        "{{ $value }} group(s)",
        f"Over the last {window} the denominator of this rate was below {ELIGIBLE_DENOMINATOR} in: {groups}. "
        "No alert can speak for them, whether or not they are treated alike.",
        "Nobody need get up for this. Judge these groups over a longer window; ask whether callers send the sensitive "
        f"feature ({ratio('sensitive_feature_coverage', window, 'model_sensitive_feature')}) and, for rates that need "
        "labels, outcomes. " + report(),
        keeps_firing=False,
    )


def silence_alert() -> Alert:
    """The monitor says nothing: not exported, not counting for ten minutes, or not counting what was answered."""
    replica = "job, instance"
    answered = f'increase(plumbline_http_requests_total{{route=~"{PREDICT_ROUTES}",status="200"}}[10m])'
    minutes = SILENT_SECONDS // 60
    reasons = {
        "nothing_exported": """\
    absent(plumbline_monitor_last_success_timestamp_seconds)
  unless on ()
    group(plumbline_http_requests_in_flight)""",
        "monitor_not_exported": f"""\
    group by ({replica}) (plumbline_http_requests_in_flight)
  unless on ({replica})
    plumbline_monitor_last_success_timestamp_seconds""",
        "not_counting": f"""\
  time() - max by ({replica}) (plumbline_monitor_last_success_timestamp_seconds) > {SILENT_SECONDS}""",
        # Rows that a model ran tell models with sensitive features from those without, which are rightly not counted.
        "predictions_not_counted": f"""\
    sum by ({replica}, {MODEL}) (increase(plumbline_batch_rows_sum[10m])) > 0
  and on ({replica})
    sum by ({replica}) ({answered}) > 0
  and on ({replica}, {MODEL})
    sum by ({replica}, {MODEL}) (increase(plumbline_predictions_total[10m])) == 0""",
    }
    said = {
        "nothing_exported": "no replica exports the fairness monitor's metrics, nor any others of the service",
        "monitor_not_exported": "the service is up and exports no metrics of the fairness monitor",
        "not_counting": f"the monitor last counted {{{{ $value | humanizeDuration }}}} ago, over {minutes} minutes",
        "predictions_not_counted": "{{ $value | humanize }} rows of "
        + WHO
        + f" ran in {minutes} minutes, requests were answered with 200, and no prediction was counted",
    }
    text = "".join(
        f'{{{{ {"else " if number else ""}if eq $labels.reason "{reason}" }}}}{words}'
        for number, (reason, words) in enumerate(said.items())
    )
    where = "{{ if $labels.instance }}{{ $labels.instance }}: {{ end }}"
    return Alert(
        "FairnessMonitorSilent",
        "\nor\n".join(
            f'label_replace(\n{expr},\n  "reason", "{reason}", "", ""\n)' for reason, expr in reasons.items()
        ),
        "warning",
        f"{where}{text}{{{{ end }}}}",
        "While the fairness monitor is silent no other fairness alert can fire; that there is none then means nothing.",
        "Look at the service's log and at plumbline_monitor_failures_total; where nothing is exported, at the scrape "
        "configuration and at up.",
        keeps_firing=False,
    )


def refusal_alert() -> Alert:
    """A package that replicas last saw was refused, whether or not the one before serves."""
    return Alert(
        "ModelRefused",
        f"sum by ({MODEL}) (plumbline_model_refused) > 0",
        "warning",
        f"{WHO}: refused by {{{{ $value }}}} replica(s)",
        "The package that they last saw does not pass the checks. What served before goes on; what is refused at start "
        "keeps a replica from being ready. The label step of plumbline_model_load_failures_total says at which check.",
        "Look at the reason: POST /v2/repository/index, or `model refused` in the service's log. Put the package in "
        "place again, whole, or take it away.",
        keeps_firing=False,
    )


def reference_name() -> str:
    """A template of the name of the reference group."""
    return looked_up("plumbline_reference_group_info{%s}", '. | first | label "group"')


def shown(series: str) -> str:
    """A template of the value of a series of the alert's group."""
    return looked_up(series + "{%s,group=%%q}", '. | first | value | printf "%.2f"')


def either(series: str, present: str, absent: str) -> str:
    """A template: one text where the alert's group has the series, another where it has not."""
    query = f"{series}{{{SAME_FEATURE},group=%q}}"
    return (
        f"{{{{ if printf `{query}` {ITS_FEATURE} $labels.group | query }}}}{present}{{{{ else }}}}{absent}{{{{ end }}}}"
    )


def counted(rate: str, window: str) -> str:
    """A template of the denominators of the alert's group and of the reference group."""
    denominator, show = increase(f"{rate}_denominator", window), '. | first | value | printf "%.0f"'
    own = looked_up(denominator + "{%s,group=%%q}", show)
    other = looked_up(f"{denominator}{{%s}} and {IS_REFERENCE}", show)
    return f"{own} counted, and {other} in the reference group"


def looked_up(query: str, show: str) -> str:
    """A template that shows what a query gives, with %s standing for the labels of the alert's sensitive feature."""
    filled = query % SAME_FEATURE
    group = " $labels.group" if "group=" in filled else ""
    return f"{{{{ with printf `{filled}` {ITS_FEATURE}{group} | query }}}}{{{{ {show} }}}}{{{{ end }}}}"


def report() -> str:
    """Where the exact numbers are."""
    return (
        "Exact counts: GET /v1/models/{{ $labels.model_name }}/fairness"
        "?sensitive_feature={{ $labels.sensitive_feature | urlquery }}."
    )
