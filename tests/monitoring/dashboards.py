"""The committed dashboards as data: their panels, their PromQL, and the variables put in as Grafana puts them."""

import json
import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "k8s/monitoring/dashboards/json"
NAMES = ("drift", "fairness", "service")

# What Grafana computes from the time range and the scrape interval.
BUILT_IN = {"__rate_interval": "1m", "__interval": "30s"}
# Of the toys; a list is what a variable with several values holds.
EXAMPLE = {
    "window": "1d",
    "model": "toy",
    "version": "1",
    "sensitive_feature": "age_band",
    "group": ["18-29", "50+"],
    "feature": "amount",
    "class": "1",
}
METRIC = re.compile(r"(?<![\w:])(?:[a-z_]+:)?plumbline_\w+(?::\w+)?(?![\w:])|ALERTS(?:_FOR_STATE)?\b")


def committed(name):
    """The dashboard as it is in the repository."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def panels(dashboard):
    """The panels without the rows that hold them together."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard):
    """(panel title, expression) of every query of every panel; variables are still in them."""
    return [(panel["title"], target["expr"]) for panel in panels(dashboard) for target in panel["targets"]]


def annotation_expressions(dashboard):
    """(annotation name, expression)."""
    return [(annotation["name"], annotation["expr"]) for annotation in dashboard["annotations"]["list"]]


def variable_expressions(dashboard):
    """(variable name, the selector of the series whose label it lists)."""
    return [
        (variable["name"], re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])[1])
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ]


def substitute(expr, variables):
    """The expression with `$name`, `${name}` replaced; a list becomes a regular expression that matches each value.

    KeyError for a variable that is neither given nor built in.
    """
    known = BUILT_IN | variables

    def value(match):
        name = match["braced"] or match["bare"]
        given = known[name]
        return quoted(given) if isinstance(given, str) else f"({'|'.join(map(quoted_for_matching, given))})"

    return re.sub(r"\$(?:\{(?P<braced>[a-z_]+)\}|(?P<bare>[a-z_]+))", value, expr)


def quoted(value):
    """Within a string of PromQL."""
    return value.replace("\\", "\\\\").replace('"', '\\"')


def quoted_for_matching(value):
    """Within a regular expression within a string of PromQL."""
    return re.sub(r"[\\^$.*+?()\[\]{}|]", r"\\\\\g<0>", value).replace('"', '\\"')


def metrics(expr):
    """The names of all series that the expression reads."""
    return set(METRIC.findall(expr))
