"""What the dashboards have in common: uid, links to each other, variables, annotations, rows of panels, their JSON."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DashboardLinkType

from k8s.monitoring.dashboards.panels import Panel
from k8s.monitoring.dashboards.variables import SOURCE, of, variables
from k8s.monitoring.promql import MODEL as BY_MODEL

Json = dict[str, Any]

TAG = "plumbline"
# What appears: its series, what tells it from others, how it is told, its colour.
APPEARANCES = {
    "Model versions": (
        of("plumbline_model_info", 'model_name="$model"'),
        f"{BY_MODEL}, digest",
        "{{model_name}} version {{model_version}} is served",
        "purple",
    ),
    "References": (
        of("plumbline_reference_info"),
        f"{BY_MODEL}, reference",
        "{{model_name}} version {{model_version}} is compared with reference {{reference}}",
        "blue",
    ),
}


def dashboard(
    name: str,
    description: str,
    used: Collection[str],
    *rows: tuple[str, Sequence[Panel]],
    empty: str = "insufficient",
) -> Json:
    """A dashboard as Grafana imports it: rows of panels from left to right, numbered from 1.

    `empty` is what a panel without any value says that has no words of its own for it.
    """
    made = (
        builders.Dashboard(name)
        .uid(f"{TAG}-{name.lower()}")
        .description(description)
        .tags([TAG])
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-24h", "now")
        .refresh("1m")
        .link(
            builders.DashboardLink("Plumbline")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .tooltip("The other dashboards, of the same model and time")
            .include_vars(True)
            .keep_time(True)
        )
        .variables(list(variables(used)))
        .annotations([appearance(title) for title in APPEARANCES])
    )
    number = 0
    for title, panels in rows:
        made.with_row(builders.Row(title).id(number := number + 1))
        for panel in panels:
            made.with_panel(panel.id(number := number + 1))
    document: Json = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    return completed(document, empty)


def appearance(name: str) -> builders.AnnotationQuery:
    """Marks when a series appears: it is there, and was not a little before, which is longer than a step."""
    series, labels, _, colour = APPEARANCES[name]
    return (
        builders.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .icon_color(colour)
        .expr(f"group by ({labels}) ({series}) unless group by ({labels}) ({series} offset $__rate_interval)")
    )


def completed(document: Json, empty: str) -> Json:
    """Adds what holds for all panels and what the builders cannot say, takes what they say of intervals alone."""
    for panel in document["panels"]:
        if panel["type"] != "row":
            panel["fieldConfig"]["defaults"].setdefault("noValue", empty)
            panel["options"].pop("footer", None)  # of tables before Grafana 12
    for annotation in document["annotations"]["list"]:
        annotation["titleFormat"] = APPEARANCES[annotation["name"]][2]
    for variable in document["templating"]["list"]:
        for key in ("auto", "auto_count", "auto_min"):
            del variable[key]
    return document
