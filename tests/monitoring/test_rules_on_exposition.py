"""The rules of drift on what replicas really export: they say what the drift report says of the same counts."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from counting import PACKAGES, alarms, count_rows, exported, number_of, read, report_between, reported
from drifting import same
from promtool import RECORDED, absent, all_finite, passes

from service.app import create_app
from service.driftjob.exposition import registry_of
from service.monitor.exposition import FAMILIES
from service.settings import read_settings

ROOT = Path(__file__).parents[2]
RULES = (ROOT / "k8s/monitoring/rules/drift-1d.yaml").read_text(encoding="utf-8")
FILES = [*sorted((ROOT / "k8s/monitoring/rules").glob("*.yaml")), ROOT / "docs/monitoring.md"]


def counted(package):
    """The counters of a package at two moments, 700 rows apart."""
    dice = np.random.default_rng(21)
    counters = read(package)
    count_rows(counters, 300, dice)
    before = counters.copy()
    count_rows(counters, 700, dice)
    return before, counters


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.parent.name)
def test_rules_and_report_agree(tmp_path, package):
    """Every number that both have, to nine digits; no series more; and the same alarms."""
    before, after = counted(package)
    report = report_between(before, after)
    model = {key: report[key] for key in ("model_name", "model_version")}
    numbers = list(reported(report))
    expected = [
        same(f"{level}:plumbline_{name}:ratio_increase1d", model | labels, value, "1d", floor=1e-10)
        for level, name, labels, value in numbers
    ]
    times = Counter((level, name) for level, name, _, _ in numbers)
    expected += [number_of(level, name, n) for (level, name), n in times.items()]
    assert report["state"] == "drift"
    assert {part["state"] for part in report["features"]} == {"drift", "ok"}
    passes(tmp_path, RULES, (exported(before, after), [*expected, *alarms(report), all_finite()]))


def test_what_is_loaded_and_not_asked_gives_no_series(tmp_path):
    """All packages side by side, without a request."""
    idle = [one for package in PACKAGES for counters in [read(package)] for one in exported(counters, counters)]
    passes(tmp_path, RULES, (idle, [absent(RECORDED), absent("ALERTS")]))


def test_every_metric_that_rules_and_page_name_is_exported(tmp_path):
    """A name is that of a sample in the registry or in the expositions of the monitor and of the drift job."""
    app = create_app(read_settings(models=tmp_path, records_url=f"sqlite:///{tmp_path}/records.db"))
    known = {(family.name, family.type) for family in app.state.service.metrics.registry.collect()}
    known |= {(family.name.removesuffix("_total"), family.type) for family in FAMILIES}
    known |= {(family.name, family.type) for family in registry_of([], now=0).collect()}
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count", ""]}
    samples = {name + suffix for name, kind in known for suffix in suffixes[kind]}
    for file in FILES:
        named = set(re.findall(r"(?<![:\w])plumbline_[a-z0-9_]+\b(?!\*)", file.read_text(encoding="utf-8")))
        assert named
        assert named <= samples, file.name
