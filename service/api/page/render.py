"""The fairness report as a page for people: risk, compliance, clinicians.

One self-contained HTML document: styles and pictures are inline, there is no script and nothing is fetched, so that it
shows in an air-gapped hospital, prints, and can be filed. Knows the report's JSON and no counts, store or model.
"""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from service.api.page import cells, section, words
from service.monitor import fairness

# What the page may load: nothing. For whoever serves it.
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

SENTENCES = {
    "breach": "Breach: in {features}, at least one group differs from its reference group by more than is tolerated, "
    "and by more than chance explains.",
    "ok": "Within tolerance: no group that could be compared differs from its reference group by more than is "
    "tolerated.",
    "insufficient": "Insufficient evidence: there are too few predictions or outcomes so far to tell whether groups "
    "differ by more than is tolerated.",
}


def render(report: dict[str, Any]) -> str:
    """The page of one report, as `GET /v1/models/{name}/fairness` answers in JSON. Milliseconds per hundred groups."""
    features = report["sensitive_features"]
    return (
        _environment()
        .get_template("fairness.html")
        .render(
            report=report,
            sentence=_sentence(report),
            sections=[section.section(feature, report, number) for number, feature in enumerate(features, 1)],
            limits=fairness,
            hidden=cells.hidden(report),
        )
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


@cache
def _environment() -> Environment:
    """Templates of this package; everything that they are given is escaped."""
    environment = Environment(
        loader=PackageLoader("service.api.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for word in ("count", "percent", "ratio", "points", "margin", "moment", "window"):
        environment.filters[word] = getattr(words, word)
    environment.globals["states"] = words.STATES
    return environment
