"""What the drift report found, in sentences."""

from typing import Any

from service.api.page import words
from service.api.page.drift import cells

MOST_LISTED = 12

Json = dict[str, Any]


def sentence(report: Json) -> str:
    """The overall state, plainly."""
    if not (report["features"] or report["scores"] or report["group_scores"] or report["attribution"]):
        return "Nothing to compare: this model's package has no reference."
    least = report["limits"]["least_observations"]
    if report["state"] == "drift":
        return (
            f"Drift: {_drifting(report)} moved away from the reference by more than is tolerated, and by more than "
            "chance explains."
        )
    if report["state"] == "insufficient":
        return (
            f"Insufficient evidence: there are fewer than {least} values so far, or they are hidden, "
            "which is too little to tell a change from chance."
        )
    features = report["features"]
    unjudged = sum(cells.state(feature) != "ok" for feature in features)
    left = f" Of {len(features)} features, {unjudged} cannot be judged yet." if unjudged else ""
    return (
        "Within tolerance: nothing that could be compared moved away from the reference by more than is tolerated "
        f"and than chance explains.{left}"
    )


def findings(report: Json) -> Json:
    """(what, whose name, of what, how much) of each drift; the first MOST_LISTED of them."""
    found = [
        ("", feature["feature"], "", about) for feature in report["features"] for about in _of_feature(feature, report)
    ]
    found += [
        ("Score of ", str(score["class"]), "", _psi(score, report))
        for score in report["scores"]
        if score["state"] == "drift"
    ]
    found += [
        ("Scores of ", group["group"], f" ({each['sensitive_feature']})", _psi(group, report))
        for each in report["group_scores"]
        for group in each["groups"]
        if group["state"] == "drift"
    ]
    found += [
        (
            "Attribution of ",
            feature["feature"],
            "",
            f"{words.percent(feature['share'])} of all, {words.percent(feature['reference_share'])} in the reference",
        )
        for feature in (report["attribution"] or {"features": []})["features"]
        if feature["state"] == "drift"
    ]
    return {"listed": found[:MOST_LISTED], "more": max(0, len(found) - MOST_LISTED)}


def _of_feature(feature: Json, report: Json) -> list[str]:
    limits, psi = report["limits"], feature["psi"]
    found = []
    if feature["state"] == "drift" and psi and psi["value"] > limits["least_psi"] and psi["value"] > psi["critical"]:
        found.append(_psi(feature, report))
    for name, share in feature["shares"].items():
        if share.get("state") == "drift":
            _, meaning = cells.SHARES[name]
            reference = words.percent(share["reference"])
            found.append(f"{words.percent(share['value'])} {meaning}, {reference} in the reference")
    return found


def _psi(each: Json, report: Json) -> str:
    value, critical = (words.number(each["psi"][key]) for key in ("value", "critical"))
    return f"PSI {value}; tolerated is below {report['limits']['least_psi']:g}, and chance explains up to {critical}"


def _drifting(report: Json) -> str:
    """Such as `3 of 30 features, the scores and the scores of 1 group`."""
    features = [feature for feature in report["features"] if cells.state(feature) == "drift"]
    scores = [score for score in report["scores"] if score["state"] == "drift"]
    groups = [group for each in report["group_scores"] for group in each["groups"] if group["state"] == "drift"]
    attributed = (report["attribution"] or {"features": []})["features"]
    attributed = [feature for feature in attributed if feature["state"] == "drift"]
    found = []
    if features:
        found.append(f"{len(features)} of {len(report['features'])} features")
    if scores:
        found.append("the scores")
    if groups:
        found.append(f"the scores of {_counted(len(groups), 'group')}")
    if attributed:
        found.append(f"the attribution of {_counted(len(attributed), 'feature')}")
    return words.listed(found) if found else "something"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
