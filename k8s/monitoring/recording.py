"""Recording rules over one window: counts and rates of each group, calibration, attribution; all rules in their order.

Formulas and names are those of `service.monitor.fairness`. Undefined is absent: each denominator is filtered before it
divides, so that no rule gives NaN or Inf. The rules are meant to be evaluated in this order, in one group.
"""

from collections.abc import Iterator

from k8s.monitoring.comparing import averages, differences, disparities, ratios
from k8s.monitoring.promql import (
    COUNTED,
    DECLARED,
    FEATURE,
    GROUP,
    JUDGED_DIFFERENCES,
    PER_FEATURE,
    RATES,
    SIMULTANEOUS_DIFFERENCE_Z,
    Rule,
    Z,
    cells,
    class_with,
    compared,
    increase,
    mean,
    model_with,
    of_reference,
    ratio,
)


def recording_rules(window: str) -> list[Rule]:
    """Every recording rule, (name, expression), in the order of evaluation."""
    return [
        *counts(window),
        *rates(window),
        *disparities(window),
        *differences(window),
        *averages(window),
        *ratios(window),
        *calibration(window),
        *attribution(window),
    ]


def counts(window: str) -> Iterator[Rule]:
    """Predictions and net labelled cells; a cell of 0 is absent."""
    predictions, outcomes = increase("predictions", window), increase("outcomes", window)
    by_class = increase("predictions", window, "model_group_predicted")
    declared = f"plumbline_predictions_total{DECLARED}"
    yield (
        by_class,
        f"sum by ({GROUP}, predicted) (increase(plumbline_predictions_total[{window}])) {COUNTED}",
    )
    yield predictions, f"sum by ({GROUP}) ({by_class})"
    yield (
        increase("declared_predictions", window),
        f"""\
  ({predictions}{DECLARED} or 0 * group by ({GROUP}) ({declared}))
and on ({FEATURE})
  {predictions}""",
    )
    corrections = f"increase(plumbline_outcome_corrections_total[{window}])"
    yield (
        cells(window),
        f"""\
sum by ({GROUP}, predicted, actual) (
    increase(plumbline_outcomes_total[{window}])
  or
    label_replace({corrections}, "actual", "$1", "to_actual", "(.+)")
  or
    -label_replace({corrections}, "actual", "$1", "from_actual", "(.+)")
) {COUNTED}""",
    )
    yield outcomes, f"sum by ({GROUP}) ({cells(window)})"
    values = "plumbline_sensitive_feature_values_total"
    yield (
        ratio("sensitive_feature_coverage", window, PER_FEATURE),
        f"""\
  sum by ({FEATURE}) (increase({values}{{status="known"}}[{window}]))
/
  (sum by ({FEATURE}) (increase({values}[{window}])) {COUNTED})""",
    )


def rates(window: str) -> Iterator[Rule]:
    """Denominator, numerator, value, Wilson bounds of each rate, all absent where the denominator is 0."""
    for rate in RATES:
        numerator, denominator = increase(f"{rate}_numerator", window), increase(f"{rate}_denominator", window)
        counted, total = numerator_and_denominator(rate, window)
        yield denominator, total
        yield numerator, f"  {counted}\nor\n  0 * {denominator}"
        yield ratio(rate, window), f"  {numerator}\n/\n  {denominator}"
        square = f"{Z}^2 / {denominator}"
        yield ratio(f"{rate}_lower", window), wilson(ratio(rate, window), "-", square)
        yield ratio(f"{rate}_upper", window), wilson(ratio(rate, window), "+", square)
    for rate in JUDGED_DIFFERENCES:
        denominator = increase(f"{rate}_denominator", window)
        square = f"{SIMULTANEOUS_DIFFERENCE_Z}^2 / on ({FEATURE}) group_right () {denominator}{DECLARED}"
        yield ratio(f"{rate}_simultaneous_lower", window), wilson(ratio(rate, window), "-", square)
        yield ratio(f"{rate}_simultaneous_upper", window), wilson(ratio(rate, window), "+", square)


def numerator_and_denominator(rate: str, window: str) -> tuple[str, str]:
    """What a rate counts (absent for 0), and out of what (absent for 0, or where the model has no such class)."""
    predicted_positive = f"{cells(window)} and {class_with('positive', 'predicted')}"
    true_positive = f"{predicted_positive} and {class_with('positive', 'actual')}"
    predictions, outcomes = increase("predictions", window), increase("outcomes", window)

    def summed(series: str) -> str:
        return f"sum by ({GROUP}) (\n    {series}\n  )"

    if rate == "selection_rate":
        by_class = increase("predictions", window, "model_group_predicted")
        favourable = f"{by_class} and {class_with('favourable', 'predicted')}"
        return summed(favourable), f"{predictions} and {model_with('favourable')}"
    if rate == "true_positive_rate":
        return summed(true_positive), summed(f"{cells(window)} and {class_with('positive', 'actual')}")
    if rate == "false_positive_rate":
        negative = f"unless {class_with('positive', 'actual')}"
        return (
            summed(f"{predicted_positive} {negative}"),
            summed(f"{cells(window)} {negative} and {model_with('positive')}"),
        )
    if rate == "positive_predictive_value":
        return summed(true_positive), summed(predicted_positive)
    # Outcomes may come for predictions of before the window; there are never more than 100 % of them.
    return f"({outcomes} < {predictions})\nor\n  ({predictions} and {outcomes})", predictions


def wilson(rate: str, side: str, square: str) -> str:
    """(p + q/2 ± √(q (p(1-p) + q/4))) / (1 + q) with q = `square` = z²/n: a bound of Wilson's interval."""
    return f"""\
(
  {rate}
  + ({square}) / 2
  {side} sqrt(({square}) * ({rate} * (1 - {rate}) + ({square}) / 4))
)
/
(1 + {square})"""


def calibration(window: str) -> Iterator[Rule]:
    """Mean score against observed share of the positive class, of the predictions that have an outcome."""
    outcomes, positives = increase("outcomes", window), increase("true_positive_rate_denominator", window)
    score, base_rate = mean("outcome_score", window), ratio("base_rate", window)
    yield score, f"sum by ({GROUP}) (increase(plumbline_outcome_score_sum_total[{window}])) / {outcomes}"
    yield (
        base_rate,
        f"({positives} or 0 * ({outcomes} and {model_with('positive')})) / {outcomes}",
    )
    yield ratio("calibration_difference", window), f"{score} - {base_rate}"
    in_bin = increase("outcome_score_bin", window, "model_group_bin")
    observed = f"increase(plumbline_outcome_score_bin_total[{window}])"
    yield in_bin, f"sum by ({GROUP}, bin) ({observed}) {COUNTED}"
    yield (
        ratio("observed_rate", window, "model_group_bin"),
        f"""\
(
    sum by ({GROUP}, bin) (
      {observed} and {class_with("positive", "actual")}
    )
  or
    0 * ({in_bin} and {model_with("positive")})
)
/
{in_bin}""",
    )


def attribution(window: str) -> Iterator[Rule]:
    """Mean SHAP value per feature, mean explained margin; their differences from the reference make up the gap."""
    rows = increase("attribution_rows", window)
    yield rows, f"sum by ({GROUP}) (increase(plumbline_attribution_rows_total[{window}])) {COUNTED}"
    for name, raw, feature, level in (
        ("attribution", "plumbline_attribution_sum_total", ", feature", "model_group_feature"),
        ("attribution_margin", "plumbline_attribution_margin_sum_total", "", "model_group"),
    ):
        value = mean(name, window, level)
        yield (
            value,
            f"""\
  sum by ({GROUP}{feature}) (
      increase({raw}{{sign="positive"}}[{window}])
    or
      -increase({raw}{{sign="negative"}}[{window}])
  )
/ on ({GROUP}) group_left ()
  {rows}""",
        )
        yield (
            mean(f"{name}_difference", window, level),
            f"  {compared(value)}\n- on ({FEATURE}{feature}) group_left ()\n  {of_reference(value)}",
        )
