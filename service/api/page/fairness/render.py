"""The fairness report as a page for people: risk, compliance, clinicians.

Knows the report's JSON and no counts, store or model.
"""

from typing import Any

from service.api.page import words
from service.api.page.document import document
from service.api.page.fairness import section
from service.monitor import fairness

SENTENCES = {
    "breach": "Breach: in {features}, at least one group differs from its reference group by more than is tolerated, "
    "and by more than chance explains.",
    "ok": "Within tolerance: no group that could be compared differs from its reference group by more than is "
    "tolerated.",
    "insufficient": "Insufficient evidence: there are too few predictions or outcomes so far to tell whether groups "
    "differ by more than is tolerated.",
}


def render_fairness(report: dict[str, Any]) -> str:
    """The page of one report, as `GET /v1/models/{name}/fairness` answers in JSON. Milliseconds per hundred groups."""
    features = report["sensitive_features"]
    return document(
        "fairness/page.html",
        report=report,
        sentence=_sentence(report),
        sections=[section.section(feature, report, number) for number, feature in enumerate(features, 1)],
        limits=fairness,
        hidden=words.hidden(report),
    )


def _sentence(report: dict[str, Any]) -> str:
    """The overall state, plainly."""
    features = report["sensitive_features"]
    if not features:
        return "Nothing to compare: this model declares no sensitive feature."
    found = [feature["name"] for feature in features if feature["state"] == "breach"]
    return SENTENCES[report["state"]].format(
        features=words.listed(words.quoted(found)) if found else "the groups below"
    )
