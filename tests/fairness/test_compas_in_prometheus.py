"""COMPAS through the real service into a real Prometheus: its rules give the same numbers as the reference libraries.

Prometheus extrapolates counts; the factor is the same for all of them, and falls out of ratios.
"""

import math
from datetime import UTC, datetime

import pytest
import stub
import tables
import truth
from prometheus import WINDOW, scraping
from servers import eventually, running

TOLERANCE = 1e-3
FEATURES = tuple(tables.COMPAS_REFERENCES)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, compas, compas_package):
    """A Prometheus that has seen everybody come by."""
    folder = tmp_path_factory.mktemp("prometheus")
    people = tables.rows(compas, FEATURES)
    log_file = tmp_path_factory.mktemp("compas-scraped") / "server.log"
    with running(log_file, compas_package) as server, scraping(folder, server.port) as prometheus:
        seen = 'sum(plumbline_outcomes_total{sensitive_feature="race"})'
        assert eventually(lambda: prometheus.value(seen) == 0), "no scrape"
        stub.predict(server.http, "compas", people)
        stub.label(server.http, "compas", people)
        counted = f"sum(plumbline_outcomes_total{{sensitive_feature='race'}}) == {len(compas)}"
        assert eventually(lambda: prometheus.query(counted)), "not everybody was scraped"
        scraped = datetime.now(UTC)
        assert eventually(lambda: prometheus.evaluated_since(scraped)), "no evaluation"
        yield prometheus


def of_feature(name, feature):
    return f'model_sensitive_feature:plumbline_{name}:ratio_increase{WINDOW}{{sensitive_feature="{feature}"}}'


def of_group(name, feature, group, operation="ratio_increase"):
    level = f"model_group:plumbline_{name}:{operation}{WINDOW}"
    return f'{level}{{sensitive_feature="{feature}",group="{group}"}}'


@pytest.mark.parametrize("feature", FEATURES)
def test_disparities_are_those_of_fairlearn(prometheus, compas, feature) -> None:
    """Every gap and ratio over all groups that the rules record."""
    expected = truth.disparities(compas, feature)
    recorded = expected.keys() - {"equalized_odds_difference_mean", "equalized_odds_ratio"}
    found = {name: prometheus.value(of_feature(name, feature)) for name in recorded}
    assert found == pytest.approx({name: expected[name] for name in recorded}, abs=TOLERANCE)


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
    group = ("race", "African-American")
    found = {
        "dpd": prometheus.value(of_feature("demographic_parity_difference", "race")),
        "eod": prometheus.value(of_feature("equalized_odds_difference", "race")),
        "di": prometheus.value(of_group("impact_ratio", *group)),
        "spd": prometheus.value(of_group("selection_rate_difference", *group)),
    }
    assert found == pytest.approx(
        {"dpd": 0.4571176, "eod": 0.5766917, "di": 1.6902240, "spd": 0.2402002}, abs=TOLERANCE
    )


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
