"""What the drift report says per sensitive group: the drift of their scores, and performance without labels."""

from typing import Any

from service.api.page import words
from service.api.page.cell import Cell
from service.api.page.drift import cells
from service.api.page.plots import Axis, Row, rate_axis
from service.monitor.intervals import CONFIDENCE

Json = dict[str, Any]

# Rate: its name, what it is a share of.
RATES = {
    "true_positive_rate": ("True positive rate", "Of those who turn out positive, the share predicted so."),
    "false_positive_rate": ("False positive rate", "Of those who turn out otherwise, the share predicted positive."),
    "positive_predictive_value": ("Positive predictive value", "Of those predicted positive, the share that is."),
}
CALIBRATORS = {"group": "its own", "pooled": "that of all groups"}


def score_groups(report: Json) -> list[Json]:
    """Per sensitive feature the table of its groups, the greatest PSI over critical value first."""
    return [
        {
            "name": found["sensitive_feature"],
            "class": str(found["class"]),
            "state": cells.gravest([group["state"] for group in found["groups"]]),
            "state_counts": words.state_counts(found["groups"]),
            "rows": [
                (
                    group,
                    [
                        cells.count(group, "n", report),
                        cells.count(group, "reference_n", report),
                        *cells.psi(group, report),
                    ],
                )
                for group in sorted(found["groups"], key=lambda group: -cells.excess(group))
            ],
        }
        for found in report["group_scores"]
    ]


def performance(report: Json) -> list[Json]:
    """Per sensitive feature a plot of each rate and the table of all."""
    return [
        {
            "name": found["sensitive_feature"],
            "plots": [_plot(name, found["groups"], report) for name in RATES],
            "rates": [title for title, _ in RATES.values()],
            "rows": [
                (
                    group,
                    CALIBRATORS.get(group["calibrator"], group["calibrator"]),
                    [cells.count(group, "n", report), cells.count(group, "labelled", report)],
                    [_cell(group, name, kind, report) for name in RATES for kind in ("expected", "realised")],
                )
                for group in found["groups"]
            ],
        }
        for found in report["performance"]
    ]


def _plot(name: str, groups: list[Json], report: Json) -> Json:
    """Per group the expected rate above the realised one, with their intervals, on one axis."""
    rates = [_known(group, name, kind) for group in groups for kind in ("expected", "realised")]
    axis = rate_axis(rate[key] for rate in rates if rate for key in ("value", "low", "high") if rate[key] is not None)
    title, about = RATES[name]
    rows = [
        {
            "group": group["group"],
            "counts": _counts(group, report),
            "expected": _row(group, name, "expected", axis, report),
            "realised": _row(group, name, "realised", axis, report),
        }
        for group in groups
    ]
    return {"title": title, "about": about, "axis": axis, "rows": rows, "reference_at": None, "limit_at": None}


def _row(group: Json, name: str, kind: str, axis: Axis, report: Json) -> Row:
    rate, cell = _known(group, name, kind), _cell(group, name, kind, report)
    if rate is None:
        return Row(group["group"], group["state"], words=cell.words, described=f"{kind} {cell.words}")
    interval = f", {CONFIDENCE:.0%} interval {cell.beside}" if cell.beside else ""
    return Row(
        group["group"],
        group["state"],
        words=cell.words,
        described=f"{kind} {cell.words}{interval}",
        at=axis.at(rate["value"]),
        low=None if rate["low"] is None else axis.at(rate["low"]),
        high=None if rate["high"] is None else axis.at(rate["high"]),
    )


def _cell(group: Json, name: str, kind: str, report: Json) -> Cell:
    rate = _known(group, name, kind)
    if rate is None:
        return Cell(_unknown(group, name, kind, report))
    low, high = rate["low"], rate["high"]
    interval = "" if low is None or high is None else f"{words.percent(low).removesuffix('%')} to {words.percent(high)}"
    if kind == "realised":
        interval += f", {words.count(rate['numerator'])} of {words.count(rate['denominator'])}"
    return Cell(words.percent(rate["value"]), interval.removeprefix(", "), known=True)


def _known(group: Json, name: str, kind: str) -> Json | None:
    rate: Json | None = group["rates"].get(name, {}).get(kind)
    return rate if rate and rate["value"] is not None else None


def _unknown(group: Json, name: str, kind: str, report: Json) -> str:
    number = group["n" if kind == "expected" else "labelled"]
    if group["state"] == "suppressed" or number is None:
        return words.hidden(report)
    if number == 0:
        return "no predictions yet" if kind == "expected" else "no outcomes yet"
    return "not defined" if kind == "expected" else words.UNDEFINED[name]


def _counts(group: Json, report: Json) -> str:
    if group["n"] is None:
        return words.hidden(report)
    labelled = words.hidden(report) if group["labelled"] is None else words.count(group["labelled"])
    return f"n {words.count(group['n'])}, {labelled} labelled"
