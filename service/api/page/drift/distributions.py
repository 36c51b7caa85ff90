"""Features and scores of the drift report: the table of all features, and the bars of each one's ranges."""

from typing import Any

from service.api.page import words
from service.api.page.drift import cells
from service.api.page.plots import Pair, bar_widths

Json = dict[str, Any]

# What a row's name does not tell.
NOTES = {
    "pooled": "pooled, to hide a small count",
    "underflow": "out of range",
    "overflow": "out of range",
    "unseen": "not in the reference",
    "other": "not a declared category",
}


def overview(report: Json) -> Json:
    """The table of all features, the greatest PSI over critical value first."""
    features = report["features"]
    shares = [name for name in cells.SHARES if any(name in feature["shares"] for feature in features)]
    rows = [
        {
            "name": feature["feature"],
            "anchor": anchor(place),
            "state": cells.state(feature),
            "cells": [
                cells.count(feature, "n", report),
                *cells.psi(feature, report),
                *(cells.share(feature, name, report) for name in shares),
            ],
        }
        for place, feature in _sorted(features)
    ]
    return {"shares": [cells.SHARES[name][0] for name in shares], "rows": rows}


def features(report: Json) -> list[Json]:
    """The figures of the features, in the table's order."""
    made = []
    for place, feature in _sorted(report["features"]):
        unit = f", in {feature['unit']}" if feature["unit"] else ""
        made.append(
            _figure(feature, report)
            | {"name": feature["feature"], "what": f"{feature['kind']}{unit}", "anchor": anchor(place)}
        )
    return made


def scores(report: Json) -> list[Json]:
    """The figures of the scores."""
    return [
        _figure(score, report) | {"name": str(score["class"]), "what": "score", "anchor": f"score-{place}"}
        for place, score in enumerate(report["scores"], 1)
    ]


def anchor(place: int) -> str:
    """Where the figure of the feature stands that the report has in this place."""
    return f"feature-{place}"


def _sorted(features: list[Json]) -> list[tuple[int, Json]]:
    return sorted(enumerate(features, 1), key=lambda placed: -cells.excess(placed[1]))


def _figure(each: Json, report: Json) -> Json:
    return {
        "state": cells.state(each),
        "n": cells.count(each, "n", report),
        "reference_n": cells.count(each, "reference_n", report),
        "psi": cells.psi(each, report)[0],
        "measures": cells.measures(each, report),
        "pairs": _pairs(each, report),
        "categories": each.get("kind") in ("binary", "categorical"),
    }


def _pairs(each: Json, report: Json) -> list[Pair]:
    shares = [(bin["reference_share"], bin["share"]) for bin in each["bins"]]
    missing = cells.unknown(each, report)
    made = []
    for bin, (reference, now) in zip(each["bins"], bar_widths(shares), strict=True):
        reference_words = words.hidden(report) if reference is None else words.percent(bin["reference_share"])
        now_words = missing if now is None else words.percent(bin["share"])
        counted = "" if bin["n"] is None or now is None else f", {words.count(bin['n'])} rows"
        made.append(
            Pair(
                bin["bin"],
                NOTES.get(bin["kind"], ""),
                reference,
                now,
                reference_words,
                now_words,
                described=f"{bin['bin']}: reference {reference_words}, now {now_words}{counted}",
            )
        )
    return made
