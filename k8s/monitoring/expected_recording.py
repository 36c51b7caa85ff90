"""Recording rules of the rates to be expected of a group without labels (CBPE), from calibrated probabilities.

Where the calibrated probability p of the positive class is right, those predicted positive hold sum p true positives
on average, and so on for the other cells (NannyML's confidence-based performance estimation). It sees no change of what
the features mean for the outcome; only outcomes show that.
"""

from collections.abc import Iterator

from k8s.monitoring.promql import COUNTED, GROUP, Rule, Z, class_with, increase, model_with, ratio

# Rate: its cell that counts, the cell that is the rest of the denominator.
EXPECTED = {
    "true_positive_rate": ("true_positives", "false_negatives"),
    "false_positive_rate": ("false_positives", "true_negatives"),
    "positive_predictive_value": ("true_positives", "false_positives"),
}


def expected_rates(window: str) -> Iterator[Rule]:
    """Cells, rates and their 95 % bounds, of the groups whose calibrated probabilities are counted."""
    yield from cells(window)
    for rate, (counted, other) in EXPECTED.items():
        name, numerator, rest = f"expected_{rate}", expected(counted, window), expected(other, window)
        value, error = ratio(name, window), ratio(f"{name}_standard_error", window)
        denominator = f"({numerator} + {rest} > 0)"
        yield value, f"{numerator} / {denominator}"
        yield error, f"sqrt({variance(rate, value, window)}) / {denominator}"
        for bound, sign in (("lower", "-"), ("upper", "+")):
            yield ratio(f"{name}_{bound}", window), f"clamp({value} {sign} {Z} * {error}, 0, 1)"


def expected(cell: str, window: str) -> str:
    """The recorded series of an expected cell, or of a variance."""
    return increase(f"expected_{cell}", window)


def cells(window: str) -> Iterator[Rule]:
    """The four expected cells, and the variance sum p (1 - p) on either side of the decision."""
    n = f"(sum by ({GROUP}) (increase(plumbline_predictions_total[{window}])) {COUNTED})"

    def decided(name: str, how: str) -> str:
        """A counter, added up over the predictions that are positive (`and`) or not (`unless`)."""
        counter = f"increase(plumbline_{name}_total[{window}])"
        return f"sum by ({GROUP}) ({counter} {how} {class_with('positive', 'predicted')})"

    for how, hit, missed, spread in (
        ("and", "true_positives", "false_positives", "positive_variance"),
        ("unless", "false_negatives", "true_negatives", "negative_variance"),
    ):
        yield (
            expected(hit, window),
            f"""\
  {decided("calibrated_score_sum", how)}
and {model_with("positive")}
and {n}""",
        )
        # Counters that do not begin at 0 are extrapolated differently; what is left of no cases must not be negative.
        yield (
            expected(missed, window),
            f"""\
clamp_min(
    {decided("predictions", how)}
  - {expected(hit, window)},
  0
)""",
        )
        yield (
            expected(spread, window),
            f"  {decided('calibrated_score_variance_sum', how)}\nand\n  {expected(hit, window)}",
        )


def variance(rate: str, value: str, window: str) -> str:
    """The variance of a rate times the square of its denominator: the delta method over independent outcomes."""
    positive, negative = expected("positive_variance", window), expected("negative_variance", window)
    if rate == "positive_predictive_value":
        return positive
    return f"(1 - {value})^2 * {positive} + {value}^2 * {negative}"
