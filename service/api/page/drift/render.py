"""The drift report as a page for people: risk, compliance, clinicians.

Knows the report's JSON and no counts, store or model.
"""

from typing import Any

from service.api.page import words
from service.api.page.document import document
from service.api.page.drift import attribution, cells, distributions, findings, groups
from service.monitor.intervals import CONFIDENCE

Json = dict[str, Any]


def render_drift(report: Json) -> str:
    """The page of one report, as `GET /v1/models/{name}/drift` answers in JSON."""
    features = distributions.features(report)
    made = {
        "features": features,
        "drifting": [figure for figure in features if figure["state"] == "drift"],
        "others": [figure for figure in features if figure["state"] != "drift"],
        "scores": distributions.scores(report),
        "score_groups": groups.score_groups(report),
        "attribution": attribution.attribution(report),
        "performance": groups.performance(report),
    }
    return document(
        "drift/page.html",
        report=report,
        sentence=findings.sentence(report),
        findings=findings.findings(report),
        contents=_contents(made),
        overview=distributions.overview(report),
        limits=report["limits"],
        confidence=CONFIDENCE,
        hidden=words.hidden(report),
        **made,
    )


def _contents(made: Json) -> list[tuple[str, str, str, str]]:
    """(anchor, part, state, in words) of each part of the report that is there."""
    found = []
    for anchor, title in (("features", "Features"), ("scores", "Scores")):
        if made[anchor]:
            state = cells.gravest([figure["state"] for figure in made[anchor]])
            found.append((anchor, title, state, words.state_counts(made[anchor])))
    for place, each in enumerate(made["score_groups"], 1):
        found.append((f"score-groups-{place}", f"Scores by {each['name']}", each["state"], each["state_counts"]))
    if made["attribution"]:
        attributed = made["attribution"]
        found.append(("attribution", "Attribution", attributed["state"], attributed["state_counts"]))
    if made["performance"]:
        found.append(("performance", "Performance without labels", "", "an estimate; never an alarm"))
    return found
