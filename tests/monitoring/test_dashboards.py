"""The dashboards: as committed they are what the code makes, Grafana understands them, and all that they ask exists."""

import json
import re
import shutil
import subprocess

import pytest
from dashboards import (
    EXAMPLE,
    FOLDER,
    NAMES,
    annotation_expressions,
    committed,
    expressions,
    metrics,
    panels,
    substitute,
    variable_expressions,
)
from grafana import faults

from k8s.monitoring.dashboards.__main__ import documents
from k8s.monitoring.drift_recording import drift_recording_rules
from k8s.monitoring.recording import recording_rules
from service.app import create_app
from service.monitor.exposition import FAMILIES
from service.settings import read_settings

WINDOWS = ("1d", "7d", "2m")
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
dashboards = pytest.mark.parametrize("name", NAMES)


def all_expressions(dashboard):
    return [*expressions(dashboard), *annotation_expressions(dashboard), *variable_expressions(dashboard)]


def test_making_them_again_changes_nothing():
    """`make dashboards` writes what is committed; nobody has edited a file."""
    assert documents() == {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}


@dashboards
def test_grafana_knows_every_key(name):
    """By its own types, in which no other key is allowed."""
    assert faults(committed(name)) == []


PLACES = {
    "dashboard": lambda document: document,
    "variable": lambda document: document["templating"]["list"][2],
    "annotation": lambda document: document["annotations"]["list"][0],
    "link": lambda document: document["links"][0],
    "panel": lambda document: panels(document)[0],
    "grid": lambda document: panels(document)[0]["gridPos"],
    "target": lambda document: panels(document)[0]["targets"][0],
    "transformation": lambda document: transformed(document)["transformations"][0],
    "transformation's options": lambda document: transformed(document)["transformations"][0]["options"],
    "field": lambda document: panels(document)[0]["fieldConfig"]["defaults"],
    "field of the kind": lambda document: drawn(document)["fieldConfig"]["defaults"]["custom"],
    "override": lambda document: transformed(document)["fieldConfig"]["overrides"][0],
    "options": lambda document: drawn(document)["options"],
    "options, deeper": lambda document: drawn(document)["options"]["legend"],
}


def transformed(document):
    return next(panel for panel in panels(document) if panel["type"] == "table")


def drawn(document):
    return next(panel for panel in panels(document) if panel["type"] == "timeseries")


@dashboards
@pytest.mark.parametrize("place", PLACES)
def test_a_misspelt_key_is_found(name, place):
    """Wherever it stands."""
    document = committed(name)
    PLACES[place](document)["descripton"] = {}
    assert len(faults(document)) == 1
    assert "descripton" in faults(document)[0]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("custom.fillBelow", "lower"), ("unitt", "s"), ("custom.lineWidth", "thick"), ("mappings", [{"type": "valu"}])],
)
def test_a_misspelt_setting_of_an_override_is_found(setting, value):
    """They are named by text."""
    document = committed("fairness")
    drawn(document)["fieldConfig"]["overrides"] = [
        {"matcher": {"id": "byName", "options": "x"}, "properties": [{"id": setting, "value": value}]}
    ]
    assert len(faults(document)) == 1


@dashboards
def test_promtool_can_parse_every_expression(name, tmp_path):
    """With the variables put in, for each window."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian: prometheus)")
    rules = [
        {"record": f"expression:{number}", "expr": substitute(expr, EXAMPLE | {"window": window})}
        for window in WINDOWS
        for number, (_, expr) in enumerate(all_expressions(committed(name)))
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"groups": [{"name": name, "rules": rules}]}), encoding="utf-8")
    checked = subprocess.run(
        ["promtool", "check", "rules", "--lint=none", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@dashboards
@pytest.mark.parametrize("window", WINDOWS)
def test_every_metric_exists(name, window, exported):
    """It is exported by the service, recorded by the rules of that window, or made by Prometheus itself."""
    recorded = {rule for rule, _ in (*recording_rules(window), *drift_recording_rules(window))}
    for title, expr in all_expressions(committed(name)):
        asked = metrics(substitute(expr, EXAMPLE | {"window": window}))
        assert asked, title
        assert asked <= exported | recorded | {"ALERTS", "ALERTS_FOR_STATE"}, title


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The names of all series of the service."""
    folder = tmp_path_factory.mktemp("empty")
    app = create_app(read_settings(models=folder, records_url=f"sqlite:///{folder}/records.db"))
    known = {(family.name, family.type) for family in app.state.service.metrics.registry.collect()}
    known |= {(family.name.removesuffix("_total"), family.type) for family in FAMILIES}
    return {name + suffix for name, kind in known for suffix in SUFFIXES[kind]}


def test_names_are_found_in_expressions():
    """The search does not overlook what the tests above rely on."""
    expr = (
        "sum(a:plumbline_x:increase1d{f=~'plumbline'}) / on (b) (rate(plumbline_y_bucket[5m])) unless ALERTS_FOR_STATE"
    )
    assert metrics(expr) == {"a:plumbline_x:increase1d", "plumbline_y_bucket", "ALERTS_FOR_STATE"}


def test_values_are_put_in_as_grafana_does():
    """Quoted for a string, and for a regular expression where there may be several."""
    variables = {"a": 'x"y\\', "b": ["65+", "a|b"], "window": "2m"}
    assert substitute('m:n:r${window}{a="$a",b=~"$b"}[$__rate_interval]', variables) == (
        'm:n:r2m{a="x\\"y\\\\",b=~"(65\\\\+|a\\\\|b)"}[1m]'
    )
    with pytest.raises(KeyError):
        substitute("$unknown", {})


@dashboards
def test_every_panel_says_how_to_read_it(name):
    """In one sentence, and what it shows where there is nothing."""
    for panel in panels(committed(name)):
        assert re.fullmatch(r"[A-Z$|](?:[^.]|\.\d)+\.", panel["description"]), panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"]


@dashboards
def test_ids_and_places_are_distinct(name):
    """No panel hides another; the grid is 24 wide."""
    found = committed(name)["panels"]
    assert [panel["id"] for panel in found] == list(range(1, len(found) + 1))
    taken = set()
    for panel in found:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@dashboards
def test_ref_ids_and_titles_are_distinct(name):
    """A query has a name of its own in its panel, and so has a panel."""
    found = panels(committed(name))
    assert len({panel["title"] for panel in found}) == len(found)
    for panel in found:
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == [chr(ord("A") + number) for number in range(len(refs))]


@dashboards
def test_every_number_has_a_unit(name):
    """Durations and percentages are shown as such; a share is between 0 and 1."""
    for panel in panels(committed(name)):
        unit, titles = panel["fieldConfig"]["defaults"].get("unit"), panel["title"].lower()
        if panel["type"] in ("timeseries", "barchart", "stat"):
            assert unit, panel["title"]
        if re.search(r"\b(latency|duration|delay|lag|last counted)\b", titles):
            assert unit == "s"
        if panel["type"] == "timeseries" and re.search(r"\b(rate|share|coverage|proportion)\b(?! of)", titles):
            assert unit in ("percentunit", "reqps")
        for override in panel["fieldConfig"]["overrides"]:
            for setting in override["properties"]:
                if setting["id"] == "unit" and re.search(
                    r"(?i)rate|coverage|95 %|share", override["matcher"]["options"]
                ):
                    assert setting["value"] == "percentunit"


@dashboards
def test_overrides_name_what_is_there(name):
    """A legend of the panel, or a column after it was renamed."""
    for panel in panels(committed(name)):
        steps = {step["id"]: step["options"] for step in panel.get("transformations", [])}
        names = {target.get("legendFormat") for target in panel["targets"]}
        names |= set(steps.get("organize", {}).get("renameByName", {}).values())
        overridden = [override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]]
        sorted_by = [each["displayName"] for each in panel["options"].get("sortBy", [])]
        sorted_by += [each["field"] for each in steps.get("sortBy", {}).get("sort", [])]
        assert names >= {*overridden, *sorted_by, *filter(None, [panel["options"].get("xField")])}, panel["title"]


@dashboards
def test_tables_and_bars_know_every_column(name):
    """Each query is instant, without other labels than those of its row, and its value is renamed."""
    for panel in panels(committed(name)):
        if panel["type"] in ("table", "barchart"):
            (organised,) = (step["options"] for step in panel["transformations"] if step["id"] == "organize")
            refs = [target["refId"] for target in panel["targets"]]
            values = {"Value"} if len(refs) == 1 else {f"Value #{ref}" for ref in refs}
            labels = organised["renameByName"].keys() - values
            assert organised["indexByName"].keys() == labels | values
            for target in panel["targets"]:
                assert (target["format"], target["instant"], target["range"]) == ("table", True, False)
                (kept,) = re.findall(r"\Amax by \((.*?)\) \(", target["expr"])
                assert set(kept.split(", ")) == labels


@dashboards
def test_variables_are_those_of_all_dashboards(name):
    """So that the links between them keep what was chosen; each used one is shown, and each shown one used."""
    document = committed(name)
    variables = {variable["name"]: variable for variable in document["templating"]["list"]}
    assert list(variables) == ["datasource", *EXAMPLE]
    (link,) = document["links"]
    assert (link["type"], link["includeVars"], link["keepTime"]) == ("dashboards", True, True)
    assert set(link["tags"]) <= set(document["tags"])
    shown = {each for each, variable in variables.items() if variable.get("hide") != 2}
    asked = json.dumps([document["panels"], [variables[each].get("query") for each in shown]])
    assert shown == set(re.findall(r"\$\{?([a-z_]+)\b(?!:)", asked)) & variables.keys()


def test_uids_are_fixed():
    """Links from elsewhere, such as runbooks, lead to them."""
    assert {committed(name)["uid"] for name in NAMES} == {f"plumbline-{name}" for name in NAMES}


@dashboards
def test_all_is_asked_of_the_chosen_data_source(name):
    """No panel, query, variable or annotation names another."""
    document = committed(name)
    queries = [target for panel in panels(document) for target in panel["targets"]]
    variables = [each for each in document["templating"]["list"] if each["type"] == "query"]
    for each in (*panels(document), *queries, *variables, *document["annotations"]["list"]):
        assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
