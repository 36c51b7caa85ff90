"""Recording rules over one window: counts per group, rates, what lies between groups, calibration, attribution.

Formulas and names are those of `service.monitor.fairness`. Undefined is absent: each denominator is filtered before it
divides, so that no rule gives NaN or Inf. The rules are meant to be evaluated in this order, in one group.
"""

from collections.abc import Iterator

from k8s.monitoring.promql import (
    DECLARED,
    FEATURE,
    GROUP,
    JUDGED_DIFFERENCES,
    RATES,
    SIMULTANEOUS_DIFFERENCE_Z,
    SIMULTANEOUS_Z,
    class_with,
    compared,
    increase,
    mean,
    model_with,
    of_reference,
    ratio,
)
from service.monitor.fairness import ELIGIBLE_DENOMINATOR
from service.monitor.intervals import CONFIDENCE, quantile

Rule = tuple[str, str]  # name, expression

Z = repr(quantile(CONFIDENCE))
PER_FEATURE = "model_sensitive_feature"

# Counts are whole, and increase() never gives less than what it saw. What is left of a cell whose outcomes were all
# corrected through another replica is rounding of the extrapolation; below a half it is none.
COUNTED = "> 0.5"


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


def cells(window: str) -> str:
    """The recorded labelled cells per predicted and actual class."""
    return increase("outcomes", window, "model_group_predicted_actual")


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


def disparities(window: str) -> Iterator[Rule]:
    """fairlearn's max - min and min / max over the declared groups, and over those with denominator >= 30."""
    difference_names = {
        "demographic_parity_difference": "selection_rate",
        "equal_opportunity_difference": "true_positive_rate",
        "false_positive_rate_difference": "false_positive_rate",
        "predictive_parity_difference": "positive_predictive_value",
    }
    ratio_names = {
        "demographic_parity_ratio": "selection_rate",
        "equal_opportunity_ratio": "true_positive_rate",
        "false_positive_rate_ratio": "false_positive_rate",
    }
    for suffix in ("", "_eligible"):

        def disparity(name: str, suffix: str = suffix) -> str:
            return ratio(name + suffix, window, PER_FEATURE)

        def declared(rate: str, suffix: str = suffix) -> str:
            denominator = increase(f"{rate}_denominator", window)
            eligible = f" and {denominator} >= {ELIGIBLE_DENOMINATOR}" if suffix else ""
            return f"({ratio(rate, window)}{DECLARED}{eligible})"

        for name, rate in difference_names.items():
            yield (
                disparity(name),
                f"""\
  max by ({FEATURE}) {declared(rate)}
-
  min by ({FEATURE}) {declared(rate)}
and
  count by ({FEATURE}) {declared(rate)} > 1""",
            )
        for name, rate in ratio_names.items():
            yield (
                disparity(name),
                f"""\
  min by ({FEATURE}) {declared(rate)}
/
  (max by ({FEATURE}) {declared(rate)} > 0)
and
  count by ({FEATURE}) {declared(rate)} > 1""",
            )
        # Each needs both of the two that it is made of.
        opportunity, false_alarms = (
            disparity("equal_opportunity_difference"),
            disparity("false_positive_rate_difference"),
        )
        yield (
            disparity("equalized_odds_difference"),
            f"  ({opportunity} >= {false_alarms})\nor\n  ({false_alarms} > {opportunity})",
        )
        yield disparity("equalized_odds_difference_mean"), f"({opportunity} + {false_alarms}) / 2"
        opportunity, false_alarms = disparity("equal_opportunity_ratio"), disparity("false_positive_rate_ratio")
        yield (
            disparity("equalized_odds_ratio"),
            f"  ({opportunity} <= {false_alarms})\nor\n  ({false_alarms} < {opportunity})",
        )


def differences(window: str) -> Iterator[Rule]:
    """Rate of each declared group minus that of the reference group, with Newcombe's hybrid interval (1998)."""
    for rate in RATES:
        name, value = f"{rate}_difference", ratio(rate, window)
        yield ratio(name, window), difference_from_reference(value)
        for kind in ("", "_simultaneous") if rate in JUDGED_DIFFERENCES else ("",):
            below = f"({value} - {ratio(f'{rate}{kind}_lower', window)})^2"
            above = f"({ratio(f'{rate}{kind}_upper', window)} - {value})^2"
            for bound, sign, own, others in (("lower", "-", below, above), ("upper", "+", above, below)):
                yield (
                    ratio(f"{name}{kind}_{bound}", window),
                    f"""\
{ratio(name, window)}
{sign} sqrt(
    {own}
  + on ({FEATURE}) group_left ()
    {of_reference(others)}
)""",
                )


def averages(window: str) -> Iterator[Rule]:
    """AIF360's averages of two signed differences, group - reference group: of TPR and FPR, of PPV and FOR.

    The false omission rate FOR = FN / (FN + TN) is here for that alone, and has no bounds.
    """
    omission, omission_difference = (
        ratio("false_omission_rate", window),
        ratio("false_omission_rate_difference", window),
    )
    negatives = f"{cells(window)} unless {class_with('positive', 'predicted')}"
    total = f"sum by ({GROUP}) ({negatives} and {model_with('positive')})"
    yield (
        omission,
        f"""\
(
    sum by ({GROUP}) (
      {negatives} and {class_with("positive", "actual")}
    )
  or
    0 * {total}
)
/
{total}""",
    )
    yield omission_difference, difference_from_reference(omission)
    for name, one, other in (
        ("average_odds_difference", "true_positive_rate_difference", "false_positive_rate_difference"),
        (
            "average_predictive_value_difference",
            "positive_predictive_value_difference",
            "false_omission_rate_difference",
        ),
    ):
        yield ratio(name, window), f"({ratio(one, window)} + {ratio(other, window)}) / 2"


def difference_from_reference(value: str) -> str:
    """A value of each declared group minus that of the reference group."""
    return f"  {compared(value)}\n- on ({FEATURE}) group_left ()\n  {of_reference(value)}"


def ratios(window: str) -> Iterator[Rule]:
    """Shares selected and not selected, group / reference group, with Katz's log interval (1978).

    As in `service.monitor.intervals`, half a case is added to all four counts where one of the two counted is 0
    (Walter 1975). Around what that gives, `_centre`, lie the bounds; the ratio itself is of the counts as they are.
    Where the reference group's count is 0 it is absent, and so are the bounds but for the one that judges.
    """
    n, selected = increase("selection_rate_denominator", window), increase("selection_rate_numerator", window)
    not_selected = increase("not_selected", window)
    yield not_selected, f"  ({n} - {selected}) {COUNTED}\nor\n  0 * {n}"
    for name, count, bound, sign in (
        ("impact_ratio", selected, "upper", ""),
        ("adverse_ratio", not_selected, "lower", "-"),
    ):
        value, centre = ratio(name, window), ratio(f"{name}_centre", window)
        added, error = increase(f"{name}_added_cases", window), ratio(f"{name}_log_standard_error", window)
        yield (
            value,
            f"""\
  {compared(count)} / {n}
/ on ({FEATURE}) group_left ()
  {of_reference(f"({count} > 0) / {n}")}""",
        )
        yield (
            added,
            f"""\
clamp_max(
    ({compared(count)} == bool 0)
  + on ({FEATURE}) group_left ()
    {of_reference(f"({count} == bool 0)")},
  1
) / 2""",
        )
        own_count, own_n = f"({count} + {added})", f"({n} + {added})"
        reference_count, reference_n = (
            f"({added} + on ({FEATURE}) group_left () {of_reference(series)})" for series in (count, n)
        )
        yield (
            centre,
            f"""\
  ({own_count} / {own_n})
/
  ({reference_count} / {reference_n})""",
        )
        # Where all of both groups were counted, rounding must not make the variance negative.
        yield (
            error,
            f"""\
sqrt(clamp_min(
    1 / {own_count} - 1 / {own_n}
  + 1 / {reference_count} - 1 / {reference_n},
  0
))""",
        )
        yield ratio(f"{name}_lower", window), f"{centre} * exp(-{Z} * {error}) and {value}"
        yield ratio(f"{name}_upper", window), f"{centre} * exp({Z} * {error}) and {value}"
        yield (
            ratio(f"{name}_simultaneous_{bound}", window),
            f"""\
  {centre}
*
  exp({sign}{error} * on ({FEATURE}) group_left () {SIMULTANEOUS_Z})""",
        )


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
