"""The page for the person on call: it has every alert and every recorded series, and none that is gone."""

import itertools
import re
from pathlib import Path

import pytest
import yaml
from typer import Typer
from typer.testing import CliRunner

from k8s.monitoring import drift_job_alerts
from k8s.monitoring.render_rules import main
from service.monitor import bins, drift, fairness

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
PARTS = ("**Means**", "**Look first**", "**Do**", "**Do nothing**")


def rules(kind):
    (group,) = yaml.safe_load((ROOT / f"k8s/monitoring/rules/{kind}-1d.yaml").read_text(encoding="utf-8"))["groups"]
    return group["rules"]


def chapter(title):
    (found,) = (text for text in PAGE.split("\n## ") if text.startswith(f"{title}\n"))
    return found


def alerts_of(kind):
    """{alert: its section} of the page."""
    sections = chapter(f"{kind.capitalize()} alerts").split("\n### ")[1:]
    return dict(section.split("\n", 1) for section in sections)


def expanded(pattern):
    """Every name that `{a,b}` in a pattern stands for; W is the window."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return {"".join(choice).replace("W", "1d") for choice in itertools.product(*parts)}


@pytest.mark.parametrize("kind", ["fairness", "drift"])
def test_every_alert_has_its_section_and_every_section_its_alert(kind):
    """In the order of the rule file."""
    assert list(alerts_of(kind)) == [rule["alert"] for rule in rules(kind) if "alert" in rule]


@pytest.mark.parametrize("kind", ["fairness", "drift"])
def test_every_section_says_what_to_do_and_when_to_do_nothing(kind):
    """Four parts each, in this order."""
    for section in alerts_of(kind).values():
        assert re.findall(r"^- (\*\*.+?\*\*)", section, re.MULTILINE) == list(PARTS)


@pytest.mark.parametrize("kind", ["fairness", "drift"])
def test_the_table_has_every_recorded_series_and_no_other(kind):
    """What the patterns stand for is what the file records."""
    (table,) = (part for part in chapter("Recorded series").split("\n\n") if part.startswith(f"| {kind.capitalize()}"))
    named = [name for pattern in re.findall(r"`(\S+:plumbline_\S+)`", table) for name in expanded(pattern)]
    assert sorted(named) == sorted(rule["record"] for rule in rules(kind) if "record" in rule)


def test_thresholds_on_the_page_are_those_of_the_code():
    """Numbers that the page repeats."""
    sections = alerts_of("fairness") | alerts_of("drift")
    for alert, number in (
        ("FairnessImpactRatio", fairness.LEAST_IMPACT_RATIO),
        ("FairnessTruePositiveRateGap", fairness.MOST_DIFFERENCE),
        ("FairnessInsufficientEvidence", fairness.ELIGIBLE_DENOMINATOR),
        ("FeatureDrift", drift.LEAST_PSI),
        ("AttributionDrift", drift.LEAST_ATTRIBUTION_CHANGE),
        ("AttributionDrift", drift.LEAST_OBSERVATIONS),
        ("FeaturesDriftTogether", drift_job_alerts.LEAST_AUC),
        ("FeaturesDriftTogether", drift_job_alerts.MOST_P_VALUE),
    ):
        assert re.search(rf"\b{number:g}\b", sections[alert])
    for alert in ("FeatureMissing", "FeatureOutOfRange", "FeatureUnseen"):
        assert f"{100 * drift.LEAST_SHARE_INCREASE:g} %" in sections[alert]
    introduction = chapter("Drift alerts").split("\n### ")[0]
    for share in (drift.DRIFT_ERROR, bins.LEAST_REFERENCE_SHARE):
        assert f" {100 * share:g} % of" in introduction
    assert f"fewer than {bins.LEAST_REFERENCE_ROWS} reference rows" in introduction


def test_commands_on_the_page_render():
    """Each line that calls the command line gives a rule file."""
    app = Typer()
    app.command()(main)
    commands = re.findall(r"^python -m k8s\.monitoring\.render_rules (.+?)(?: >| +#|$)", PAGE, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code == 0
        assert yaml.safe_load(done.output)["groups"][0]["rules"]
