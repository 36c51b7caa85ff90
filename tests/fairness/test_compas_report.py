"""COMPAS through the real service: the report says what fairlearn, AIF360 and statsmodels say of the same people."""

import pytest
import stub
import tables
import truth

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def report(compas_records):
    server, _ = compas_records
    return stub.report(server.http, "compas")


def near(value):
    return pytest.approx(value, abs=TOLERANCE)


def test_everybody_is_in_the_report(report, compas) -> None:
    """All rows, all labelled, in six races, two sexes and twelve combinations, and nobody in a reserved group."""
    assert (report["n"], report["labelled"]) == (len(compas), len(compas)) == (7214, 7214)
    assert [feature["name"] for feature in report["sensitive_features"]] == ["race", "sex", tables.INTERSECTION]
    for feature in report["sensitive_features"]:
        assert sum(group["n"] for group in feature["groups"]) == len(compas)
        assert all(group["n"] == 0 for group in feature["groups"] if group["kind"] == "reserved")


@pytest.mark.parametrize("feature", ["race", "sex", tables.INTERSECTION])
def test_cells_and_rates_are_those_of_the_table(report, compas, feature) -> None:
    """Counts by scikit-learn, Wilson intervals by statsmodels, for every group."""
    table = compas.assign(**{tables.INTERSECTION: compas["race"] + " x " + compas["sex"]})
    _, groups = stub.feature_of(report, feature)
    for name, cells in truth.cells(table, feature).items():
        found = groups[name]
        assert tuple(found["cells"].values()) == cells
        assert found["predicted"] == {"0": cells[2] + cells[3], "1": cells[0] + cells[1]}
        for rate, (numerator, denominator) in truth.fractions(*cells).items():
            of_rate = found["rates"][rate]
            assert (of_rate["numerator"], of_rate["denominator"]) == (numerator, denominator)
            if denominator == 0:
                assert of_rate["value"] is of_rate["low"] is of_rate["high"] is None
                continue
            low, high = truth.wilson(numerator, denominator)
            assert (of_rate["value"], of_rate["low"], of_rate["high"]) == near((numerator / denominator, low, high))


def test_cells_are_the_published_ones(report) -> None:
    """The crosstab of Aequitas' demonstration."""
    _, groups = stub.feature_of(report, "race")
    names = ("true_positive", "false_positive", "false_negative", "true_negative")
    for group, cells in (("African-American", (1369, 805, 532, 990)), ("Caucasian", (505, 349, 461, 1139))):
        assert groups[group]["cells"] == dict(zip(names, cells, strict=True))


@pytest.mark.parametrize("feature", ["race", "sex"])
def test_disparities_are_those_of_fairlearn(report, compas, feature) -> None:
    """Each metric that fairlearn has; its own bounds contain it."""
    found, _ = stub.feature_of(report, feature)
    for name, value in truth.disparities(compas, feature).items():
        gap = found["disparities"][name]
        assert gap["value"] == near(value), name
        assert gap.get("low", value) <= gap["value"] <= gap.get("high", value)


def test_disparities_are_the_published_ones(report) -> None:
    """The figures on which fairlearn, AIF360 and Aequitas agree."""
    race, sex = (stub.feature_of(report, name)[0]["disparities"] for name in ("race", "sex"))
    published = {
        "demographic_parity_difference": 0.4571175950,
        "demographic_parity_ratio": 0.3143236074,
        "equalized_odds_difference": 0.5766917293,
        "equalized_odds_difference_mean": 0.4691015871,
        "equalized_odds_ratio": 0.1938968404,
    }
    assert {name: race[name]["value"] for name in published} == near(published)
    assert sex["demographic_parity_difference"]["value"] == near(0.0448094581)
    assert sex["demographic_parity_ratio"]["value"] == near(0.9043484092)
    assert sex["equalized_odds_difference"]["value"] == near(0.0206981212)


def test_comparison_with_the_reference_group_is_that_of_aif360(report) -> None:
    """African-American against Caucasian: SPD, DI, EOppD, AOD, APVD."""
    compared = stub.feature_of(report, "race")[1]["African-American"]["against_reference"]
    assert compared["selection_rate_difference"]["value"] == near(0.2402002032)
    assert compared["impact_ratio"]["value"] == near(1.6902240032)
    assert compared["true_positive_rate_difference"]["value"] == near(0.1973729638)
    assert compared["average_odds_difference"]["value"] == near(0.2056489598)
    assert compared["average_predictive_value_difference"]["value"] == near(0.0498974978)


@pytest.mark.parametrize(("feature", "reference"), tables.COMPAS_REFERENCES.items())
def test_intervals_against_the_reference_group_are_those_of_statsmodels(report, compas, feature, reference) -> None:
    """Newcombe for each difference, Katz for each ratio, for every group."""
    _, groups = stub.feature_of(report, feature)
    all_cells = truth.cells(compas, feature)
    of_reference = truth.fractions(*all_cells.pop(reference))
    assert groups[reference]["against_reference"] is None
    for name, cells in all_cells.items():
        compared = groups[name]["against_reference"]
        rates = truth.fractions(*cells)
        for rate, fraction in rates.items():
            if rate == "base_rate":
                continue
            difference = compared[f"{rate}_difference"]
            expected = fraction[0] / fraction[1] - of_reference[rate][0] / of_reference[rate][1]
            bounds = truth.newcombe(fraction, of_reference[rate])
            assert (difference["value"], difference["low"], difference["high"]) == near((expected, *bounds))
        for ratio, selected in (("impact_ratio", lambda k, n: (k, n)), ("adverse_ratio", lambda k, n: (n - k, n))):
            one, other = selected(*rates["selection_rate"]), selected(*of_reference["selection_rate"])
            expected = (one[0] / one[1]) / (other[0] / other[1])
            bounds = truth.katz(one, other)
            found = compared[ratio]
            assert (found["value"], found["low"], found["high"]) == near((expected, *bounds))


def test_small_example_of_section_one_holds_on_the_way_through(serve, tmp_path) -> None:
    """3 of 12 against 30 of 60: Newcombe (-0.452442, 0.057797), Katz (0.181724, 1.375715)."""
    stub.write(tmp_path, "small", {"side": "right"}, groups={"side": ["left", "right"]})
    people = [("left", place < 3) for place in range(12)] + [("right", place < 30) for place in range(60)]
    rows = [
        {"id": f"{number}", "score": int(selected), "actual": None, "groups": {"side": side}}
        for number, (side, selected) in enumerate(people)
    ]
    client = serve(suppress_small_cells=False)
    stub.predict(client, "small", rows)
    compared = stub.feature_of(stub.report(client, "small"), "side")[1]["left"]["against_reference"]
    difference, ratio = compared["selection_rate_difference"], compared["impact_ratio"]
    assert (difference["low"], difference["high"]) == near((-0.452442, 0.057797))
    assert (ratio["low"], ratio["high"]) == near((0.181724, 1.375715))


def test_a_page_for_people_comes_to_those_who_accept_html(compas_records) -> None:
    """The same report as HTML, under a policy that lets nothing be loaded from elsewhere."""
    server, _ = compas_records
    path = "/v1/models/compas/fairness"
    page = server.http.get(path, headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "African-American" in page.text
    assert server.http.get(path, headers={"accept": "application/json"}).headers["content-type"] == "application/json"


def test_twenty_rows_of_aif360_give_its_figures(serve, tmp_path) -> None:
    """A group with two positives and no true positive has a TPR of 0, which is not an undefined one."""
    table = tables.aif360()
    stub.write(tmp_path, "income", {"sex": "Male"}, groups=tables.groups(table, ["sex"]))
    client = serve(suppress_small_cells=False)
    rows = tables.rows(table, ["sex"])
    stub.predict(client, "income", rows)
    stub.label(client, "income", rows)
    feature, groups = stub.feature_of(stub.report(client, "income"), "sex")
    assert tuple(groups["Female"]["cells"].values()) == (0, 4, 2, 3)
    assert tuple(groups["Male"]["cells"].values()) == (1, 2, 1, 7)
    assert groups["Female"]["rates"]["true_positive_rate"]["value"] == 0
    compared = groups["Female"]["against_reference"]
    assert compared["impact_ratio"]["value"] == pytest.approx(1.629, abs=1e-3)
    assert compared["true_positive_rate_difference"]["value"] == near(-0.5)
    assert compared["false_positive_rate_difference"]["value"] == pytest.approx(0.349, abs=1e-3)
    assert compared["average_odds_difference"]["value"] == pytest.approx(-0.0754, abs=1e-4)
    assert feature["state"] == "insufficient"
    for name, value in truth.disparities(table, "sex").items():
        gap = feature["disparities"][name]
        assert gap is not None, name
        assert gap["value"] == near(value), name
