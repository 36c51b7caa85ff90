"""From people who ask to the webhook of whoever is on call: service, Prometheus, Alertmanager, all real.

One run of some four minutes serves all tests: healthy traffic, then three features shift and a group is treated worse,
then health again. Meanwhile every expression of every dashboard is put to Prometheus.
"""

import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

import lending
import pytest
from dashboards import NAMES, annotation_expressions, committed, expressions, substitute, variable_expressions
from real_prometheus import alerting, rules, scraping
from servers import eventually, running
from webhook import listening

WINDOW, FOR = "1m", "6s"
WINDOW_SECONDS = 60
# A whole window, what is scraped and evaluated meanwhile, and `for`.
HEALTHY_SECONDS = WINDOW_SECONDS + 25
ARRIVE_SECONDS = RESOLVE_SECONDS = WINDOW_SECONDS + 40
# Long enough for an alert that ought not to come.
SETTLE_SECONDS = 15
VARIABLES = {
    "window": WINDOW,
    "model": lending.MODEL,
    "version": "1",
    "sensitive_feature": "region",
    "group": ["north", "south"],
    "feature": "income",
    "class": "approve",
}
SOUTH = [("region", "south"), ("sex x region", "female x south"), ("sex x region", "male x south")]
EXPECTED = {
    *(("FeatureDrift", feature) for feature in lending.SHIFTED),
    ("GroupScoreDrift", "region", "south"),
    *(
        (name, *group)
        for name in ("FairnessImpactRatio", "FairnessTruePositiveRateGap", "FairnessFalsePositiveRateGap")
        for group in SOUTH
    ),
}


@dataclass
class Run:
    """What came of it."""

    while_healthy: set = field(default_factory=set)
    while_bent: set = field(default_factory=set)
    in_the_end: set = field(default_factory=set)
    ever: set = field(default_factory=set)
    annotations: list = field(default_factory=list)
    answers: dict = field(default_factory=dict)  # (dashboard, what, expression) -> values
    rule_errors: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    rows: int = 0


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("observed")
    models = lending.write(folder / "models")
    texts = [rules(kind=kind, window=WINDOW, for_=FOR) for kind in ("fairness", "drift")]
    run = Run()
    with (
        listening() as (webhook, url),
        alerting(folder, url) as alertmanager,
        running(folder / "service.log", models, explain_sample_ratio=0.1) as server,
        scraping(folder, server.port, texts, alertmanager) as prometheus,
    ):
        begin = datetime.now(UTC)
        traffic = lending.Traffic(server.url)
        traffic.start()
        try:
            time.sleep(HEALTHY_SECONDS)
            run.while_healthy = {named(labels) for labels in webhook.ever()}
            traffic.shifted = traffic.biased = True
            eventually(lambda: {named(labels) for labels in webhook.firing()} >= EXPECTED, seconds=ARRIVE_SECONDS)
            time.sleep(SETTLE_SECONDS)
            run.while_bent = {named(labels) for labels in webhook.firing()}
            ask_everything(prometheus, begin, run.answers)
            traffic.shifted = traffic.biased = False
            eventually(lambda: not webhook.firing(), seconds=RESOLVE_SECONDS)
            run.in_the_end = {named(labels) for labels in webhook.firing()}
            run.rule_errors = prometheus.rule_errors()
        finally:
            traffic.stop()
        run.ever = {named(labels) for labels in webhook.ever()}
        run.annotations = [(labels, annotations) for _, labels, annotations in webhook.arrived]
        run.failures, run.rows = traffic.failures, traffic.rows
    return run


def named(labels):
    """An alert without what is the same for all."""
    found = dict(labels)
    who = (found[name] for name in ("feature", "sensitive_feature", "group", "rate", "reason") if name in found)
    return (found["alertname"], *who)


def ask_everything(prometheus, begin, answers):
    """Every expression of every panel and variable now, of every annotation since the beginning."""
    end = datetime.now(UTC)
    over = {"start": begin.isoformat(), "end": end.isoformat(), "step": "5s"}
    for name in NAMES:
        dashboard = committed(name)
        for what, expression in [*expressions(dashboard), *variable_expressions(dashboard)]:
            found = prometheus.query(substitute(expression, VARIABLES))
            answers[name, what, expression] = [value for _, value in found]
        for what, expression in annotation_expressions(dashboard):
            answers[name, what, expression] = prometheus.values_over(substitute(expression, VARIABLES), **over)


def test_the_traffic_went_through(observed):
    """Otherwise nothing below means anything."""
    assert observed.failures == []
    assert observed.rows > 50 * WINDOW_SECONDS
    assert observed.rule_errors == []


def test_nothing_fires_while_all_is_well(observed):
    """Not even for want of evidence."""
    assert observed.while_healthy == set()


def test_the_right_alerts_arrive_and_no_others(observed):
    """Three features and one group, by itself and with each sex, in what that group's treatment changes."""
    assert observed.while_bent == EXPECTED
    assert observed.ever == EXPECTED


def test_they_resolve(observed):
    """When the window holds nothing but health again."""
    assert observed.in_the_end == set()


def test_what_they_say_is_whole(observed):
    """Every template was filled in, with the numbers that the alert is about."""
    for labels, annotations in observed.annotations:
        for text in annotations.values():
            assert not {"<no value>", "error", "NaN", "Inf"} & set(text.replace(",", " ").split()), (labels, text)
            assert "{{" not in text


@pytest.mark.parametrize("dashboard", NAMES)
def test_every_panel_has_an_answer(observed, dashboard):
    """Not empty, and no number without end."""
    asked = {
        (what, expression): found for (name, what, expression), found in observed.answers.items() if name == dashboard
    }
    assert len(asked) > 10
    assert [key for key, found in asked.items() if not found] == []
    assert [key for key, found in asked.items() if not all(map(math.isfinite, found))] == []
