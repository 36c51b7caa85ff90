"""COMPAS through the real service into a real Prometheus: its rules give the same numbers as the reference libraries.

Prometheus extrapolates counts; the factor is the same for all of them, and falls out of ratios.
"""

import math
import time
from datetime import UTC, datetime

import pytest
import stub
import tables
import truth
from real_prometheus import WINDOW, scraping
from servers import eventually, running

TOLERANCE = 1e-3
FEATURES = tuple(tables.COMPAS_REFERENCES)


ALERTS = {
    "FairnessImpactRatio": "impact_ratio",
    "FairnessAdverseRatio": "adverse_ratio",
    "FairnessTruePositiveRateGap": "true_positive_rate_difference",
    "FairnessFalsePositiveRateGap": "false_positive_rate_difference",
    "FairnessPredictiveValueGap": "positive_predictive_value_difference",
    "FairnessLabelCoverageGap": "label_coverage_difference",
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory, compas, compas_package):
    """(Prometheus, report): both have seen everybody come by."""
    folder = tmp_path_factory.mktemp("prometheus")
    people = tables.rows(compas, FEATURES)
    log_file = tmp_path_factory.mktemp("compas-scraped") / "server.log"
    settings = {"suppress_small_cells": "false"}
    with running(log_file, compas_package, **settings) as server, scraping(folder, server.port) as prometheus:
        seen = 'sum(plumbline_outcomes_total{sensitive_feature="race"})'
        assert eventually(lambda: prometheus.value(seen) == 0), "no scrape"
        stub.predict(server.http, "compas", people)
        stub.label(server.http, "compas", people)
        counted = f"sum(plumbline_outcomes_total{{sensitive_feature='race'}}) == {len(compas)}"
        assert eventually(lambda: prometheus.query(counted)), "not everybody was scraped"
        scraped = datetime.now(UTC)
        assert eventually(lambda: prometheus.evaluated_since(scraped)), "no evaluation"
        yield prometheus, stub.report(server.http, "compas")


@pytest.fixture
def prometheus(watched):
    return watched[0]


def of_feature(name, feature):
    return f'model_sensitive_feature:plumbline_{name}:ratio_increase{WINDOW}{{sensitive_feature="{feature}"}}'


def of_group(name, feature, group, operation="ratio_increase"):
    level = f"model_group:plumbline_{name}:{operation}{WINDOW}"
    return f'{level}{{sensitive_feature="{feature}",group="{group}"}}'


@pytest.mark.parametrize("feature", FEATURES)
def test_disparities_are_those_of_fairlearn(prometheus, compas, feature) -> None:
    """Every gap and ratio over all groups that the rules record."""
    expected = truth.disparities(compas, feature)
    found = {name: prometheus.value(of_feature(name, feature)) for name in expected}
    assert found == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("feature", FEATURES)
def test_rates_of_groups_are_those_of_the_table(prometheus, compas, feature) -> None:
    """All rates of all groups, and none of a group that nobody belongs to."""
    for group, cells in truth.cells(compas, feature).items():
        for rate, (numerator, denominator) in truth.fractions(*cells).items():
            found = prometheus.value(of_group(rate, feature, group))
            assert found == pytest.approx(numerator / denominator, abs=TOLERANCE), (group, rate)
    assert prometheus.value(of_group("selection_rate", feature, "unknown")) is None


@pytest.mark.parametrize(("feature", "reference"), tables.COMPAS_REFERENCES.items())
def test_comparisons_with_the_reference_group_are_those_of_the_table(prometheus, compas, feature, reference) -> None:
    """Signed differences and the two ratios."""
    all_rates = {group: truth.fractions(*cells) for group, cells in truth.cells(compas, feature).items()}
    shares = {group: {name: k / n for name, (k, n) in rates.items()} for group, rates in all_rates.items()}
    of_reference = shares.pop(reference)
    for group, rates in shares.items():
        expected = {
            f"{name}_difference": rates[name] - of_reference[name]
            for name in ("selection_rate", "true_positive_rate", "false_positive_rate", "positive_predictive_value")
        }
        expected["impact_ratio"] = rates["selection_rate"] / of_reference["selection_rate"]
        expected["adverse_ratio"] = (1 - rates["selection_rate"]) / (1 - of_reference["selection_rate"])
        found = {name: prometheus.value(of_group(name, feature, group)) for name in expected}
        assert found == pytest.approx(expected, abs=TOLERANCE), group
    assert prometheus.value(of_group("impact_ratio", feature, reference)) is None


def test_published_figures_come_out(prometheus) -> None:
    """African-American against Caucasian, as AIF360 has it; both disparities of race."""
    disparities = {
        "demographic_parity_difference": 0.4571175950,
        "demographic_parity_ratio": 0.3143236074,
        "equalized_odds_difference": 0.5766917293,
        "equalized_odds_difference_mean": 0.4691015871,
        "equalized_odds_ratio": 0.1938968404,
    }
    found = {name: prometheus.value(of_feature(name, "race")) for name in disparities}
    assert found == pytest.approx(disparities, abs=TOLERANCE)
    compared = {
        "selection_rate_difference": 0.2402002032,
        "impact_ratio": 1.6902240032,
        "true_positive_rate_difference": 0.1973729638,
        "average_odds_difference": 0.2056489598,
        "average_predictive_value_difference": 0.0498974978,
    }
    found = {name: prometheus.value(of_group(name, "race", "African-American")) for name in compared}
    assert found == pytest.approx(compared, abs=TOLERANCE)


def test_alerts_fire_for_the_breaches_of_the_report(watched) -> None:
    """The same groups, for the same reasons, among them African-Americans' false alarms and no group of the sexes."""
    prometheus, report = watched
    breaches = {
        (alert, feature["name"], group["group"])
        for feature in report["sensitive_features"]
        for group in feature["groups"]
        for alert, comparison in ALERTS.items()
        if (group["against_reference"] or {}).get(comparison, {}).get("state") == "breach"
    }
    total = f'sum(model_group:plumbline_outcomes:increase{WINDOW}{{sensitive_feature="race"}})'

    def settled():
        # As of a round of evaluation that has ended. Counts that are extrapolated by a quarter make one more breach.
        moment = time.time() - 1
        counted = prometheus.value(total, time=moment) or 0
        return moment if report["n"] <= counted < 1.05 * report["n"] else None

    moment = eventually(settled)
    assert moment, "counts are still extrapolated by more than 5 %"
    firing = prometheus.query('ALERTS{alertname=~"Fairness.+(Ratio|Gap)",alertstate="firing"}', time=moment)
    assert {(own["alertname"], own["sensitive_feature"], own["group"]) for own, _ in firing} == breaches
    assert ("FairnessFalsePositiveRateGap", "race", "African-American") in breaches
    assert {state["name"]: state["state"] for state in report["sensitive_features"]} == {
        "race": "breach",
        "sex": "ok",
        tables.INTERSECTION: "breach",
    }


def test_counts_are_exact_before_any_window(prometheus, compas) -> None:
    """What was scraped is the table itself: every cell of every combination of race and sex."""
    both = compas["race"] + " x " + compas["sex"]
    expected = compas.groupby([both, "predicted", "actual"]).size()
    found = prometheus.query(f'plumbline_outcomes_total{{sensitive_feature="{tables.INTERSECTION}"}} > 0')
    assert {(s["group"], int(s["predicted"]), int(s["actual"])): n for s, n in found} == expected.to_dict()


def test_rules_record_nothing_undefined(prometheus) -> None:
    """No recorded value is NaN or infinite, and no rule failed."""
    recorded = '{__name__=~".+:plumbline_.+"}'
    values = [value for _, value in prometheus.query(recorded)]
    assert len(values) > 500
    assert all(map(math.isfinite, values))
    assert prometheus.rule_errors() == []
