"""A group beside the reference group: differences and ratios with intervals, and whether they are more than tolerated.

A *breach* takes an effect beyond what is tolerated, an interval that excludes what is tolerated for all groups of the
sensitive feature at once, and enough rows on both sides. The alert rules decide by the same three conditions.
"""

import math
from typing import Any, Literal

from service.monitor.fairness import (
    ELIGIBLE_DENOMINATOR,
    LEAST_IMPACT_RATIO,
    MOST_ADVERSE_RATIO,
    MOST_DIFFERENCE,
    Rate,
)
from service.monitor.intervals import CONFIDENCE, katz_interval, newcombe_interval, quantile

State = Literal["ok", "breach", "insufficient"]

SHOWN_Z = quantile(CONFIDENCE)


def compare_ratio(
    rate: Rate, reference: Rate, *, z: float, at_least: float | None, at_most: float | None
) -> dict[str, Any]:
    """rate / reference with its 95 % Katz interval; a breach below `at_least`, or above `at_most`."""
    one, other = (rate.numerator, rate.denominator), (reference.numerator, reference.denominator)
    shown, judged = katz_interval(one, other, z=SHOWN_Z), katz_interval(one, other, z=z)
    value = rate.value / reference.value if rate.value is not None and reference.value else None
    state: State = "insufficient"
    if judged is not None and _enough(rate, reference):
        # Where nobody of the reference group is counted there is no ratio; anybody of the group is beyond it then.
        beyond = value if value is not None else math.inf if rate.numerator else 0.0
        too_low = at_least is not None and value is not None and value < at_least and judged[1] < at_least
        too_high = at_most is not None and beyond > at_most and judged[0] > at_most
        state = "breach" if too_low or too_high else "ok"
    return _number(value, shown if value is not None else None) | {"state": state}


def compare_difference(rate: Rate, reference: Rate, *, z: float) -> dict[str, Any]:
    """rate - reference with its 95 % Newcombe interval; a breach beyond MOST_DIFFERENCE on either side."""
    one, other = (rate.numerator, rate.denominator), (reference.numerator, reference.denominator)
    shown, judged = newcombe_interval(one, other, z=SHOWN_Z), newcombe_interval(one, other, z=z)
    value = rate.value - reference.value if rate.value is not None and reference.value is not None else None
    state: State = "insufficient"
    if judged is not None and _enough(rate, reference):
        state = "breach" if judged[0] > MOST_DIFFERENCE or judged[1] < -MOST_DIFFERENCE else "ok"
    return _number(value, shown) | {"state": state}


def compare(
    rates: dict[str, Rate], reference: dict[str, Rate], *, z: float, difference_z: float
) -> dict[str, dict[str, Any]]:
    """Every comparison of one group with the reference group; `z` and `difference_z` hold for all groups at once."""
    adverse, adverse_reference = _complement(rates["selection_rate"]), _complement(reference["selection_rate"])
    selection = compare_difference(rates["selection_rate"], reference["selection_rate"], z=difference_z)
    del selection["state"]  # judged by its ratios
    made = {
        "impact_ratio": compare_ratio(
            rates["selection_rate"], reference["selection_rate"], z=z, at_least=LEAST_IMPACT_RATIO, at_most=None
        ),
        "adverse_ratio": compare_ratio(adverse, adverse_reference, z=z, at_least=None, at_most=MOST_ADVERSE_RATIO),
        "selection_rate_difference": selection,
    }
    for name in ("true_positive_rate", "false_positive_rate", "positive_predictive_value", "label_coverage"):
        made[f"{name}_difference"] = compare_difference(rates[name], reference[name], z=difference_z)
    return made


def worst(states: list[State]) -> State:
    """A breach if there is one, else insufficient if something could not be judged, else ok."""
    for state in ("breach", "insufficient"):
        if state in states:
            return state
    return "ok"


def _enough(rate: Rate, reference: Rate) -> bool:
    return min(rate.denominator, reference.denominator) >= ELIGIBLE_DENOMINATOR


def _complement(rate: Rate) -> Rate:
    return Rate(rate.denominator - rate.numerator, rate.denominator)


def _number(value: float | None, interval: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {"value": value, "low": low, "high": high}
