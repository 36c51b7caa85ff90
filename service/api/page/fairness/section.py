"""One sensitive feature of the fairness report, arranged for its section of the page.

Chooses the order of the groups, which of them are drawn, and what is said about them.
"""

from typing import Any

from service.api.page import words
from service.api.page.fairness import cells, figures

MOST_GROUPS_DRAWN = 26  # what one sensitive feature can declare, and the reserved groups
MOST_BREACHES_LISTED = 8
MOST_ATTRIBUTIONS_OPEN = 6

Json = dict[str, Any]


def section(feature: Json, report: Json, number: int) -> Json:
    """What the template of a section shows; `number` makes its anchor."""
    groups = feature["groups"]
    positives = report["positive_class"] is not None
    rates = [name for name in cells.RATES if positives or name not in cells.ABOUT_POSITIVES]
    if report["favourable_outcome"] is None:
        rates.remove("selection_rate")
    drawn = _sorted(groups)[:MOST_GROUPS_DRAWN]
    compared = [group for group in _sorted(groups) if group["against_reference"]]
    comparisons = [
        name
        for name in cells.COMPARISONS
        if name.removesuffix("_difference") in rates or ("_ratio" in name and "selection_rate" in rates)
    ]
    return {
        "feature": feature,
        "anchor": f"feature-{number}",
        "sentence": _sentence(feature),
        "state_counts": words.state_counts(groups),
        "breaches": _breaches(groups, comparisons),
        "many": len(groups) > MOST_GROUPS_DRAWN,
        "drawn": len(drawn),
        "plots": figures.plots(feature, drawn, report, rates),
        "comparisons": [cells.COMPARISONS[name] for name in comparisons],
        "compared": [(group, [cells.comparison(group, name, report) for name in comparisons]) for group in compared],
        "disparities": cells.disparities(feature, report, positives=positives),
        "reliability": [figures.reliability(group) for group in drawn if (group["calibration"] or {}).get("bins")],
        "attributions": figures.attributions(sorted(groups, key=lambda group: bool(group["state"] != "breach"))),
        "attributions_open": MOST_ATTRIBUTIONS_OPEN,
        "rates": [cells.RATES[name][0] for name in rates] + ["Mean score"] * positives,
        "rate_rows": [
            (
                group,
                [cells.rate(group["rates"].get(name), name, report) for name in rates]
                + [cells.mean_score(group, report)] * positives,
            )
            for group in _sorted(groups)
        ],
        "classes": list(dict.fromkeys(label for group in groups for label in group["predicted"] or ())),
        "confusion": positives,
        "count_rows": _sorted(groups),
        "hidden": words.hidden(report),
    }


def _sorted(groups: list[Json]) -> list[Json]:
    """As declared while they can all be drawn; else the reference, breaches, the largest first, hidden ones last."""
    if len(groups) <= MOST_GROUPS_DRAWN:
        return sorted(groups, key=lambda group: bool(group["kind"] == "reserved"))
    place = {"reference": 0, "breach": 1, "suppressed": 3}
    return sorted(groups, key=lambda group: (place.get(group["state"], 2), -(group["n"] or 0)))


def _sentence(feature: Json) -> str:
    reference = f"“{feature['reference_group']}”"
    if feature["state"] == "breach":
        found = [group["group"] for group in _sorted(feature["groups"]) if group["state"] == "breach"]
        differ = "differs" if len(found) <= 1 else "differ"
        named = words.listed(words.quoted(found)) if found else "A group"
        return f"{named} {differ} from {reference} by more than is tolerated."
    if feature["state"] == "ok":
        return f"No group that could be compared differs from {reference} by more than is tolerated."
    return f"No group can be judged against {reference} yet: there are too few cases, or they are hidden."


def _breaches(groups: list[Json], comparisons: list[str]) -> Json:
    """Each number that is in breach, in words; the first MOST_BREACHES_LISTED of them."""
    found = []
    for group in _sorted(groups):
        for name in comparisons:
            compared = (group["against_reference"] or {}).get(name)
            if compared and compared.get("state") == "breach" and compared["value"] is not None:
                title, reads, tolerated = cells.COMPARISONS[name]
                what = title.lower() + (" difference" if name.endswith("_difference") else "")
                found.append(
                    (group["group"], what, reads(compared["value"]), cells.interval(compared, reads), tolerated)
                )
    return {"listed": found[:MOST_BREACHES_LISTED], "more": max(0, len(found) - MOST_BREACHES_LISTED)}
