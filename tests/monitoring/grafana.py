"""Grafana's own types as JSON Schemas, made by scripts/grafana-schema, and what in a dashboard does not fit them."""

import functools
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from grafana_foundation_sdk.models.prometheus import Dataquery
from jsonschema import Draft7Validator

SCRIPT = Path(__file__).parents[2] / "scripts/grafana-schema"
KINDS = {
    "barchart": "barchart",
    "stat": "stat",
    "state-timeline": "statetimeline",
    "table": "table",
    "timeseries": "timeseries",
}
# What the Prometheus data source reads of an annotation; the core schema leaves it to the data source.
OF_PROMETHEUS = {"expr": {"type": "string"}, "titleFormat": {"type": "string"}}
# The transformations in use, and their options; Grafana has no schema of them.
TRANSFORMATIONS = {
    "merge": set(),
    "organize": {"excludeByName", "indexByName", "renameByName"},
    "sortBy": {"sort"},
}


@functools.cache
def schemas():
    """The schemas by name; skips where they cannot be made."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed (Debian: nodejs npm)")
    made = subprocess.run([SCRIPT], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"Grafana's types cannot be had: {made.stderr.partition(chr(10))[0]}")
    folder = Path(made.stdout.strip())
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}
    found["dashboard"]["definitions"]["AnnotationQuery"]["properties"] |= OF_PROMETHEUS
    return found


def faults(dashboard):
    """What Grafana would not understand, as text; empty if it understands all."""
    found = [*misfits("dashboard", "Dashboard", dashboard)]
    for panel in dashboard.get("panels", []):
        if panel["type"] != "row":
            found += [f"{panel['title']}: {fault}" for fault in panel_faults(panel)]
    return found


def panel_faults(panel):
    """The parts that the core schema leaves to the kind of panel and to the data source."""
    kind = KINDS[panel["type"]]
    yield from misfits(kind, "Options", panel["options"])
    yield from misfits(kind, "FieldConfig", panel["fieldConfig"]["defaults"].get("custom", {}), partial=True)
    for override in panel["fieldConfig"]["overrides"]:
        for setting in override["properties"]:
            name, custom = setting["id"].removeprefix("custom."), setting["id"].startswith("custom.")
            schema = kind if custom else "dashboard"
            yield from misfits(schema, "FieldConfig", {name: setting["value"]}, partial=True)
    for target in panel["targets"]:
        yield from (f"target: {key}" for key in target.keys() - Dataquery.from_json(target).to_json().keys())
    for step in panel.get("transformations", []):
        unknown = step["options"].keys() - TRANSFORMATIONS[step["id"]]
        yield from (f"{step['id']}: {key}" for key in unknown)


def misfits(schema, definition, value, *, partial=False):
    """Where the value does not fit; `partial`: what is required may stand elsewhere or have a default."""
    definitions = schemas()[schema]["definitions"]
    if definition not in definitions:  # a kind of panel without settings of its own
        yield from map(str, value)
        return
    wanted = definitions[definition]
    if partial:
        wanted = {key: part for key, part in wanted.items() if key != "required"}
    for error in Draft7Validator(wanted | {"definitions": definitions}).iter_errors(value):
        deepest = best(error)
        yield f"{'/'.join(map(str, deepest.absolute_path))}: {deepest.message}"


def best(error):
    """Of a value that fits none of several alternatives, the fault in that with the fewest."""
    alternatives = {}
    for each in error.context or ():
        alternatives.setdefault(each.schema_path[0], []).append(each)
    return best(min(alternatives.values(), key=len)[0]) if alternatives else error
