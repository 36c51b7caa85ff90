"""Recording rules on what lies between groups: disparities of all, differences from and ratios to the reference group.

They read what `k8s.monitoring.recording` records of each group. Formulas and names are those of
`service.monitor.fairness`.
"""

from collections.abc import Iterator

from k8s.monitoring.promql import (
    COUNTED,
    DECLARED,
    FEATURE,
    GROUP,
    JUDGED_DIFFERENCES,
    PER_FEATURE,
    RATES,
    SIMULTANEOUS_Z,
    Rule,
    Z,
    cells,
    class_with,
    compared,
    increase,
    model_with,
    of_reference,
    ratio,
)
from service.monitor.fairness import ELIGIBLE_DENOMINATOR


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
