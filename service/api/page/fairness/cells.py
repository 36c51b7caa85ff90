"""Single numbers of the fairness report in words: what each is called, and how it and its interval read.

Names are fairlearn's; a number that is hidden or undefined says so.
"""

from collections.abc import Callable
from typing import Any

from service.api.page import words
from service.api.page.cell import Cell
from service.monitor.fairness import LEAST_IMPACT_RATIO, MOST_ADVERSE_RATIO, MOST_DIFFERENCE

Json = dict[str, Any]
Reads = Callable[[float], str]

UNDEFINED = "not yet defined"
WITHIN = f"within {100 * MOST_DIFFERENCE:g}{words.POINTS}"

# Rate: its name, what it is.
RATES = {
    "selection_rate": ("Selection rate", "Share predicted {favourable}, the favourable outcome."),
    "true_positive_rate": ("True positive rate", "Of those who turned out {positive}, the share predicted so."),
    "false_positive_rate": (
        "False positive rate",
        "Of those who turned out otherwise, the share predicted {positive}.",
    ),
    "positive_predictive_value": ("Positive predictive value", "Of those predicted {positive}, the share that was."),
    "base_rate": ("Base rate", "Of those with an outcome, the share that turned out {positive}."),
    "label_coverage": ("Label coverage", "Share of predictions whose outcome is known."),
}
ABOUT_POSITIVES = ("true_positive_rate", "false_positive_rate", "positive_predictive_value", "base_rate")

# Comparison with the reference group: its name, how its number reads, what is tolerated.
COMPARISONS: dict[str, tuple[str, Reads, str]] = {
    "impact_ratio": ("Impact ratio", words.ratio, f"at least {LEAST_IMPACT_RATIO:g}"),
    "adverse_ratio": ("Adverse ratio", words.ratio, f"at most {MOST_ADVERSE_RATIO:g}"),
    "selection_rate_difference": ("Selection rate", words.points, "no limit"),
    "true_positive_rate_difference": ("True positive rate", words.points, WITHIN),
    "false_positive_rate_difference": ("False positive rate", words.points, WITHIN),
    "positive_predictive_value_difference": ("Positive predictive value", words.points, WITHIN),
    "label_coverage_difference": ("Label coverage", words.points, WITHIN),
}

# fairlearn's name, in words, how its number reads.
DISPARITIES: dict[str, tuple[str, Reads]] = {
    "demographic_parity_difference": ("Highest less lowest selection rate", words.gap),
    "demographic_parity_ratio": ("Lowest selection rate as a share of the highest", words.ratio),
    "equal_opportunity_difference": ("Highest less lowest true positive rate", words.gap),
    "false_positive_rate_difference": ("Highest less lowest false positive rate", words.gap),
    "predictive_parity_difference": ("Highest less lowest positive predictive value", words.gap),
    "equalized_odds_difference": ("The larger of the gaps in true and in false positive rate", words.gap),
}


def disparities(feature: Json, report: Json, *, positives: bool) -> list[tuple[str, str, list[Cell], str]]:
    """(name, in words, [over all groups, over groups with enough cases], note) of each disparity of the report."""
    found: list[tuple[str, str, list[Cell], str]] = []
    given = feature["disparities"]
    for name, (meaning, reads) in DISPARITIES.items():
        about_selection = name.startswith("demographic_parity")
        if name not in given or not (report["favourable_outcome"] is not None if about_selection else positives):
            continue
        cells = []
        for gap in (given[name], given.get(f"{name}_eligible")):
            if gap is None:
                cells.append(Cell(UNDEFINED))
            elif gap.get("suppressed"):
                cells.append(Cell("hidden"))
            else:
                cells.append(Cell(reads(gap["value"]), interval(gap, reads), known=True))
        note = ""
        if given[name] and given[name].get("bootstrap_low") is not None:
            low, high = given[name]["bootstrap_low"], given[name]["bootstrap_high"]
            note = f"By bootstrap {_span(low, high, reads)}."
        found.append((name, meaning, cells, note))
    return found


def rate(rate: Json | None, name: str, report: Json) -> Cell:
    """A group's rate."""
    if rate is None:
        return Cell(words.hidden(report))
    if rate["value"] is None:
        return Cell(words.UNDEFINED[name])
    return Cell(words.percent(rate["value"]), interval(rate, words.percent), known=True)


def mean_score(group: Json, report: Json) -> Cell:
    """The mean score of a group's predictions that have an outcome, to hold against its base rate."""
    if group["calibration"] and group["calibration"]["mean_score"] is not None:
        return Cell(words.percent(group["calibration"]["mean_score"]), known=True)
    is_hidden = group["state"] == "suppressed" or group["labelled"] is None
    return Cell(words.hidden(report) if is_hidden else words.UNDEFINED["base_rate"])


def comparison(group: Json, name: str, report: Json) -> Cell:
    """A compared group's number against the reference group."""
    compared = group["against_reference"].get(name)
    if compared is None:
        return Cell(words.hidden(report) if group["state"] == "suppressed" else UNDEFINED)
    state = compared.get("state", "")
    if compared["value"] is None:
        is_hidden = state == "suppressed" or (not state and group["state"] == "suppressed")
        return Cell(words.hidden(report) if is_hidden else UNDEFINED, state=state)
    reads = COMPARISONS[name][1]
    return Cell(reads(compared["value"]), interval(compared, reads), state, known=True)


def state(group: Json, *names: str) -> str:
    """The state of a group's number on a plot: the gravest of those comparisons that judge it."""
    if group["state"] in ("reference", "not_compared", "suppressed") or not group["against_reference"]:
        return str(group["state"])
    found = [(group["against_reference"].get(name) or {}).get("state") for name in names]
    return next((each for each in ("breach", "insufficient", "ok") if each in found), "not_compared")


def interval(number: Json, reads: Reads) -> str:
    """The bounds of a number, or nothing where it has none."""
    low, high = number.get("low"), number.get("high")
    return "" if low is None or high is None else _span(low, high, reads)


def _span(low: float, high: float, reads: Reads) -> str:
    unit = next((unit for unit in (words.POINTS, "%") if reads(high).endswith(unit)), "")
    return f"{reads(low).removesuffix(unit)} to {reads(high)}"
