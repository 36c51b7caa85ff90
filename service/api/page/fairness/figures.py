"""The plots of one sensitive feature: the numbers of its report, put on axes.

A group without a number keeps its row, and words say why there is none.
"""

from typing import Any

from service.api.page import words
from service.api.page.fairness.cells import RATES, comparison, mean_score, state
from service.api.page.fairness.cells import rate as rate_cell
from service.api.page.plots import Plot, Row, difference_axis, rate_axis, ratio_axis
from service.monitor.fairness import LEAST_IMPACT_RATIO
from service.monitor.intervals import CONFIDENCE

MOST_FEATURES_DRAWN = 10
RELIABILITY_PIXELS = 120

Json = dict[str, Any]


def plots(feature: Json, groups: list[Json], report: Json, rates: list[str]) -> list[Plot]:
    """The plots of the rates in `rates`, the impact ratio and the calibration, each if any group has a number."""
    found = []
    if "selection_rate" in rates:
        found.append(_rate_plot("selection_rate", groups, feature, report))
        if any(group["against_reference"] for group in groups):
            found.append(_ratio_plot(groups, feature, report))
    others = [name for name in ("true_positive_rate", "false_positive_rate", "label_coverage") if name in rates]
    found += [_rate_plot(name, groups, feature, report) for name in others]
    if report["positive_class"] is not None:
        found.append(_calibration_plot(groups, report))
    return [plot for plot in found if any(row.at is not None for row in plot.rows)]


def _rate_plot(name: str, groups: list[Json], feature: Json, report: Json) -> Plot:
    """A dot and its interval per group."""
    title, about = RATES[name]
    judged_by = ("impact_ratio", "adverse_ratio") if name == "selection_rate" else (f"{name}_difference",)
    about = about.format(positive=f"“{report['positive_class']}”", favourable=f"“{report['favourable_outcome']}”")
    rates = {group["group"]: group["rates"].get(name) for group in groups}
    known = {group: rate for group, rate in rates.items() if rate and rate["value"] is not None}
    axis = rate_axis(number for rate in known.values() for number in (rate["low"], rate["high"], rate["value"]))
    rows = []
    for group in groups:
        rate = known.get(group["group"])
        cell = rate_cell(rates[group["group"]], name, report)
        if rate is None:
            rows.append(Row(group["group"], state(group, *judged_by), words=cell.words))
            continue
        rows.append(
            Row(
                group["group"],
                state(group, *judged_by),
                n=rate["denominator"],
                words=cell.words,
                described=f"{cell.words}, {CONFIDENCE:.0%} interval {cell.beside}, "
                f"{words.count(rate['numerator'])} of {words.count(rate['denominator'])}",
                at=axis.at(rate["value"]),
                low=axis.at(rate["low"]),
                high=axis.at(rate["high"]),
            )
        )
    reference = known.get(feature["reference_group"])
    return Plot(title, about, axis, tuple(rows), "rate", axis.at(reference["value"]) if reference else None)


def _ratio_plot(groups: list[Json], feature: Json, report: Json) -> Plot:
    """The impact ratio of each compared group, on a logarithmic axis with the limit."""
    compared = [group for group in groups if group["against_reference"]]
    found = [group["against_reference"].get("impact_ratio") or {} for group in compared]
    axis = ratio_axis(
        value for ratio in found for key in ("value", "low", "high") if (value := ratio.get(key)) is not None
    )
    rows = []
    for group, ratio in zip(compared, found, strict=True):
        cell = comparison(group, "impact_ratio", report)
        value = ratio.get("value")
        if value is None or cell.state == "suppressed":
            rows.append(Row(group["group"], cell.state or group["state"], words=cell.words))
            continue
        low, high = ratio.get("low"), ratio.get("high")
        rows.append(
            Row(
                group["group"],
                cell.state or group["state"],
                n=group["n"],
                words=cell.words,
                described=f"{cell.words}, {words.STATES[cell.state]}"
                + (f", {CONFIDENCE:.0%} interval {cell.beside}" if cell.beside else ""),
                at=axis.at(value),
                low=None if low is None else axis.at(low),
                high=None if high is None else axis.at(high),
                beyond="" if axis.holds(value) else "left" if value < axis.low else "right",
            )
        )
    about = f"Selection rate as a share of that of “{feature['reference_group']}”; logarithmic axis."
    return Plot("Impact ratio", about, axis, tuple(rows), "ratio", axis.at(1.0), axis.at(LEAST_IMPACT_RATIO))


def _calibration_plot(groups: list[Json], report: Json) -> Plot:
    """Mean score and observed rate per group; the nearer, the better the scores mean what they say."""
    found = {group["group"]: _calibration(group) for group in groups}
    axis = rate_axis(
        number for known in found.values() if known for number in (known["mean_score"], known["observed_rate"])
    )
    rows = []
    for group in groups:
        known = found[group["group"]]
        if known is None:
            rows.append(Row(group["group"], group["state"], words=mean_score(group, report).words))
            continue
        rows.append(
            Row(
                group["group"],
                "ok" if group["kind"] == "declared" and group["state"] != "reference" else group["state"],
                n=known["n"],
                words=words.points(known["mean_score"] - known["observed_rate"]),
                described=f"mean score {words.percent(known['mean_score'])}, "
                f"observed {words.percent(known['observed_rate'])}",
                at=axis.at(known["observed_rate"]),
                also_at=axis.at(known["mean_score"]),
            )
        )
    about = (
        f"Observed share of “{report['positive_class']}” (filled) against the mean score (hollow square); "
        "the number is score less observed."
    )
    return Plot("Calibration", about, axis, tuple(rows), "gap")


def _calibration(group: Json) -> Json | None:
    known: Json | None = group["calibration"]
    return known if known and known["mean_score"] is not None and known["observed_rate"] is not None else None


def reliability(group: Json) -> Json:
    """A group's bins of scores in pixels, y pointing down; bins without a number are left out."""
    side = RELIABILITY_PIXELS
    shown = []
    for each in group["calibration"]["bins"]:
        if each["mean_score"] is None or each["observed_rate"] is None:
            continue
        shown.append(
            {
                "x": round(side * each["mean_score"], 1),
                "y": round(side * (1 - each["observed_rate"]), 1),
                "top": round(side * (1 - each["rate_high"]), 1) if each.get("rate_high") is not None else None,
                "bottom": round(side * (1 - each["rate_low"]), 1) if each.get("rate_low") is not None else None,
            }
        )
    return {
        "group": group["group"],
        "side": side,
        "bins": shown,
        "missing": len(group["calibration"]["bins"]) - len(shown),
    }


def attributions(groups: list[Json]) -> list[Json]:
    """Per group the features that differ most from the reference group, the rest summed, and the whole difference."""
    found = [group for group in groups if group["attribution"]]
    whole = []
    for group in found:
        features = group["attribution"]["features"]
        bars = [(each["feature"], each["difference"]) for each in features[:MOST_FEATURES_DRAWN]]
        rest = features[MOST_FEATURES_DRAWN:]
        if rest:
            bars.append((f"{len(rest)} other features", sum(each["difference"] for each in rest)))
        whole.append((group, bars, group["attribution"]["mean_margin_difference"]))
    axis = difference_axis(value for _, bars, total in whole for value in (*(value for _, value in bars), total))
    zero = axis.at(0.0)
    return [
        {
            "group": group["group"],
            "n": group["attribution"]["n"],
            "zero": zero,
            "bars": [
                {
                    "feature": feature,
                    "difference": value,
                    "start": min(zero, axis.at(value)),
                    "width": round(abs(axis.at(value) - zero), 2),
                    "sum": feature is None,
                }
                for feature, value in (*bars, (None, total))
            ],
        }
        for group, bars, total in whole
    ]
