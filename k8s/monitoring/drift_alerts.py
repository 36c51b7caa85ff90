"""Alert rules of drift over one window; thresholds are those of `service.monitor.drift`.

An alarm needs three things at once: an effect beyond the floor, beyond what chance explains for as many as were
counted, and enough counted. What they say is for the person on call.
"""

from collections.abc import Iterator

from k8s.monitoring.alerts import WHO, WHOSE, Alert
from k8s.monitoring.drift_recording import FEATURES, GROUP_SCORES, SCORES, Distribution
from k8s.monitoring.promql import MODEL, increase, ratio
from service.monitor.drift import (
    DRIFT_ERROR,
    LEAST_ATTRIBUTION_CHANGE,
    LEAST_OBSERVATIONS,
    LEAST_PSI,
    LEAST_SHARE_INCREASE,
)

SHOWN_BINS, LEAST_SHOWN = 3, 0.005  # less would be shown as 0
BY_CHANCE = f"in about {100 * DRIFT_ERROR:g} % of windows without drift"
COUNT, NUMBER, PERCENT = 'printf "%.0f"', 'printf "%.3f"', "humanizePercentage"
NAMED = "{{ $labels.feature }}"


def drift_alerts(window: str) -> Iterator[Alert]:
    """Distributions of features, scores and scores of a group; shares of bad values; what the model goes by."""
    yield distribution_alert(
        "FeatureDrift",
        FEATURES,
        f"the values of {NAMED}",
        f"the shares of missing, out-of-range and unseen values of {NAMED} first, then at its bins, and at what "
        "changed upstream: units, a default, a source, who asks. Whether the predictions suffer, the scores "
        "(ScoreDrift) and, once outcomes are there, the rates tell.",
        window,
    )
    yield distribution_alert(
        "ScoreDrift",
        SCORES,
        "the predicted probabilities of class {{ $labels.class }}",
        "which features drift at the same time. If none does, features may have changed together, or another file is "
        "served under this version (plumbline_model_info). A threshold that was chosen on the reference now selects "
        "another share.",
        window,
    )
    yield distribution_alert(
        "GroupScoreDrift",
        GROUP_SCORES,
        f"the predicted probabilities of class {{{{ $labels.class }}}} for {WHOSE}",
        "whether ScoreDrift fires too. If so, all are concerned and its cause comes first; if not, something changed "
        f"for this group alone: its selection rate ({ratio('selection_rate', window)}), who sends its requests, how "
        f"{{{{ $labels.sensitive_feature }}}} is filled in.",
        window,
    )
    yield attribution_alert(window)
    yield share_alert(
        "FeatureMissing",
        "missing",
        "are missing",
        "whether a caller or a source has stopped filling it in. The model still answers, on less than it was measured "
        "with.",
        window,
    )
    yield share_alert(
        "FeatureOutOfRange",
        "out_of_range",
        "lie outside the range of the reference",
        "units and scale first (a factor of 1000, cents), then whether new kinds of cases are sent. There the model "
        "extrapolates: nothing was measured about it.",
        window,
    )
    yield share_alert(
        "FeatureUnseen",
        "unseen",
        "are categories that the reference never saw",
        "whether codes were renamed or added upstream. The model knows nothing of them; a new category needs a model "
        "that was trained on it.",
        window,
    )


def distribution_alert(name: str, counted: Distribution, words: str, action: str, window: str) -> Alert:
    """The population stability index of a distribution is too high."""
    value, critical, n = counted.statistic("psi", window), counted.statistic("psi_critical", window), counted.n(window)
    psi = '{{ $value | printf "%.2f" }}'
    return Alert(
        name,
        f"""\
  {value} > {LEAST_PSI}
and
  {value} > {critical}
and
  {n} >= {LEAST_OBSERVATIONS}""",
        "warning",
        f"{WHO}: {words} are distributed differently from the reference (PSI {psi})",
        f"Over the last {window} {words} ({shown(n, counted.labels, COUNT)} counted) had a PSI of {psi} against the "
        f"reference: above the {LEAST_PSI} that is tolerated, and above the {shown(critical, counted.labels, NUMBER)} "
        f"that chance exceeds {BY_CHANCE}. More than in the reference, in shares of all: {grown(counted, window)}.",
        f"Look at {action} {report(window)}",
    )


def share_alert(name: str, share: str, words: str, action: str, window: str) -> Alert:
    """The share of values of a feature that are missing, out of range or unseen has grown too much."""
    value, reference = FEATURES.statistic(share, window), FEATURES.statistic(f"{share}_reference", window)
    critical, n = FEATURES.statistic(f"{share}_critical", window), FEATURES.n(window)
    return Alert(
        name,
        f"""\
  {value}
and
  {value} - {reference} > {LEAST_SHARE_INCREASE}
and
  {value} - {reference} > {critical}
and
  {n} >= {LEAST_OBSERVATIONS}""",
        "warning",
        f"{WHO}: {{{{ $value | humanizePercentage }}}} of the values of {NAMED} {words}",
        f"Over the last {window} {{{{ $value | humanizePercentage }}}} of {shown(n, FEATURES.labels, COUNT)} values of "
        f"{NAMED} {words}, in the reference {shown(reference, FEATURES.labels, PERCENT)}. The difference is "
        f"above the {100 * LEAST_SHARE_INCREASE:g} % that is tolerated, and above the "
        f"{shown(critical, FEATURES.labels, PERCENT)} that chance exceeds {BY_CHANCE}.",
        f"Look at {action} {report(window)}",
    )


def attribution_alert(window: str) -> Alert:
    """The model goes by a feature more, or less, than it did on the reference."""
    labels, level = f"{MODEL}, feature", FEATURES.level
    share, value = ratio("attribution_share", window, level), ratio("attribution_share_difference", window, level)
    critical = ratio("attribution_share_critical", window, level)
    rows = increase("attribution_magnitude_rows", window, "model")
    return Alert(
        "AttributionDrift",
        f"""\
  {value}
and
  abs({value}) > {LEAST_ATTRIBUTION_CHANGE}
and
  abs({value}) > {critical}
and on ({MODEL})
  {rows} >= {LEAST_OBSERVATIONS}""",
        "warning",
        f"{WHO}: the share of {NAMED} in what moves the predictions differs by "
        '{{ $value | printf "%+.2f" }} from the reference',
        f"Over the last {window} {NAMED} made up {shown(share, labels, PERCENT)} of the absolute SHAP values of "
        f"{shown(rows, MODEL, COUNT)} explained rows: "
        '{{ $value | printf "%+.3f" }} against the reference, more than the '
        f"{LEAST_ATTRIBUTION_CHANGE} that is tolerated, and than the {shown(critical, labels, NUMBER)} that chance "
        f"exceeds {BY_CHANCE}, either way.",
        f"Look at whether the values of {NAMED} drift (FeatureDrift), or those of the feature whose share moved the "
        f"other way. The model itself has not changed: it meets other cases. {report(window)}",
    )


def shown(series: str, labels: str, form: str) -> str:
    """A template of the value of a series with the alert's labels; `form` is what it is piped through."""
    selector, arguments = own(labels)
    value = f"{{{{ . | first | value | {form} }}}}"
    return f"{{{{ with printf `{series}{selector}` {arguments} | query }}}}{value}{{{{ end }}}}"


def grown(counted: Distribution, window: str) -> str:
    """A template of the bins that hold more than they do in the reference, without the number that sorts them."""
    selector, arguments = own(counted.labels)
    change = f"{counted.proportions(window)}{selector} - {counted.reference(window)}{selector}"
    query = f"topk({SHOWN_BINS}, {change} > {LEAST_SHOWN})"
    return (
        f"{{{{ range $number, $bin := printf `{query}` {arguments} {arguments} | query }}}}"
        "{{ if $number }}, {{ end }}"
        '{{ $bin.Labels.bin | reReplaceAll "^[0-9]+ " "" }} {{ $bin.Value | printf "%+.2f" }}{{ end }}'
    )


def own(labels: str) -> tuple[str, str]:
    """For `printf`: a selector of the alert's labels, and what fills it."""
    names = labels.split(", ")
    return "{" + ",".join(f"{name}=%q" for name in names) + "}", " ".join(f"$labels.{name}" for name in names)


def report(window: str) -> str:
    """Where the exact counts of the window are; the report knows hours and days."""
    asked = f"&window={window}" if window.endswith(("h", "d")) else ""
    address = "/v1/models/{{ $labels.model_name }}/drift?version={{ $labels.model_version | urlquery }}"
    return f"Exact counts: GET {address}{asked}."
