"""Attribution drift: what share of all |SHAP values| each feature has now, against the reference."""

from typing import Any

from service.api.page import words
from service.api.page.cell import Cell
from service.api.page.drift import cells
from service.api.page.plots import Pair, bar_widths

MOST_OPEN = 12
SHARES = ("reference_share", "share")

Json = dict[str, Any]


def attribution(report: Json) -> Json | None:
    """The bars of the features, the greatest difference first; None without a reference to compare with."""
    found = report["attribution"]
    if not found:
        return None
    features = sorted(found["features"], key=_moved)
    widths = bar_widths([(feature["reference_share"], feature["share"]) for feature in features])
    pairs = [_pair(*each, found, report) for each in zip(features, widths, strict=True)]
    return {
        "state": found["state"],
        "state_counts": words.state_counts(features),
        "n": cells.count(found, "n", report),
        "reference_n": cells.count(found, "reference_n", report),
        "open": [pair for place, pair in enumerate(pairs) if place < MOST_OPEN or pair.state == "drift"],
        "more": [pair for place, pair in enumerate(pairs) if place >= MOST_OPEN and pair.state != "drift"],
    }


def _moved(feature: Json) -> tuple[bool, float]:
    return feature["difference"] is None, -abs(feature["difference"] or 0.0)


def _pair(feature: Json, widths: tuple[float | None, float | None], found: Json, report: Json) -> Pair:
    missing = cells.unknown(found | {"state": feature["state"]}, report)
    reference, now = (missing if feature[key] is None else words.percent(feature[key]) for key in SHARES)
    difference = Cell(missing)
    if feature["difference"] is not None:
        critical = feature["critical"]
        beside = "" if critical is None else f"critical {words.gap(critical)}"
        difference = Cell(words.points(feature["difference"]), beside, known=True)
    return Pair(
        feature["feature"],
        "",
        *widths,
        reference_words=reference,
        now_words=now,
        described=f"{feature['feature']}: reference {reference}, now {now}, {words.STATES[feature['state']]}",
        cell=difference,
        state=feature["state"],
    )
