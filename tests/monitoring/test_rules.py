"""The rule files: as committed they are what the code renders, valid, and tested to the last rule."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import compas
import pytest
import test_breach_alerts
import yaml
from typer import BadParameter

from k8s.monitoring.alerts import refusal_alert, silence_alert
from k8s.monitoring.drift_job_alerts import drift_job_alerts
from k8s.monitoring.render_rules import duration, render
from service.manifest import RESERVED_GROUPS

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "k8s/monitoring/rules").glob("*.yaml"))


def rules_of(file):
    (group,) = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    return group["rules"]


def test_rendering_again_changes_nothing(tmp_path):
    """`make rules` writes what is committed; nobody has edited a rendered file."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nrules:")[1].split("\n\n")[0]
    commands = [line.split("python ")[1].split(" > ") for line in recipe.splitlines()[1:]]
    assert sorted(ROOT / target for _, target in commands) == FILES
    for arguments, target in commands:
        rendered = subprocess.run(
            [sys.executable, *arguments.split()], cwd=ROOT, capture_output=True, check=True
        ).stdout
        assert rendered == (ROOT / target).read_bytes()


def test_files_can_be_loaded_together():
    """Neither a group nor a recorded series is in two files, and an alert that has no window is told once."""
    groups = [group["name"] for file in FILES for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    recorded = [rule["record"] for file in FILES for rule in rules_of(file) if "record" in rule]
    windowless = {alert.name for alert in (silence_alert(), refusal_alert(), *drift_job_alerts())}
    told = [rule["alert"] for file in FILES for rule in rules_of(file) if rule.get("alert") in windowless]
    assert len(set(groups)) == len(groups) == len(FILES) == 4
    assert len(set(recorded)) == len(recorded)
    assert sorted(told) == sorted(windowless)


def test_promtool_finds_no_fault():
    """Syntax of rules and templates, and duplicates."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian: prometheus)")
    checked = subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", *FILES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_rule_is_exercised():
    """Each recorded series has an expected value, and each alert a test of when it fires."""
    expectations = json.dumps(list(compas.expected(compas.rows(), "m", 0)))
    named = {name.split("{")[0] for test in json.loads(expectations) for name in test["expr"].replace("(", " ").split()}
    watching = (Path(__file__).parent / "test_watching_alerts.py").read_text(encoding="utf-8")
    for rule in rules_of(ROOT / "k8s/monitoring/rules/fairness-1d.yaml"):
        if "record" in rule:
            assert rule["record"] in named
        else:
            assert rule["alert"] in test_breach_alerts.COUNTS or f'"{rule["alert"]}"' in watching


def test_every_alert_says_how_bad_it_is_and_what_to_do():
    """Severity and window as labels; a summary, a description and an action."""
    for file in FILES:
        for rule in rules_of(file):
            if "alert" in rule:
                assert rule["labels"] == {
                    "severity": "info" if rule["alert"] == "FairnessInsufficientEvidence" else "warning",
                    "window": file.stem.split("-")[1],
                }
                assert rule["annotations"].keys() == {"summary", "description", "action"}


def test_reserved_groups_are_those_of_the_manifest():
    """What the manifest reserves, the rules leave out."""
    fairness = (ROOT / "k8s/monitoring/rules/fairness-1d.yaml").read_text(encoding="utf-8")
    assert f'group!~"{"|".join(RESERVED_GROUPS)}"' in fairness


@pytest.mark.parametrize("value", ["", "1", "1 day", "-1d", "1d}", "d"])
def test_a_window_must_be_a_duration(value):
    """It becomes part of names and expressions, and is refused before."""
    with pytest.raises(BadParameter):
        duration(value)


@pytest.mark.parametrize(
    ("kind", "name", "recorded"),
    [
        ("fairness", "FairnessImpactRatio", "model_group:plumbline_selection_rate:ratio_increase2m"),
        ("drift", "FeatureDrift", "model_feature:plumbline_feature_psi:ratio_increase2m"),
    ],
)
def test_options_are_in_the_file(kind, name, recorded):
    """Any window can be had, for trials as well."""
    (group,) = yaml.safe_load(render("2m", interval="5s", kind=kind, for_="0s", keep_firing_for="1m"))["groups"]
    alert = next(rule for rule in group["rules"] if rule.get("alert") == name)
    assert (group["name"], group["interval"]) == (f"plumbline-{kind}-2m", "5s")
    assert (alert["for"], alert["keep_firing_for"]) == ("0s", "1m")
    assert recorded in {rule.get("record") for rule in group["rules"]}
