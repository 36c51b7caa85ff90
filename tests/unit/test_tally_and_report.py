"""From counts to the report: numbers that a person can check, and nothing that JSON has no word for."""

import json
import math

import orjson
import pytest
from declared import AGE_BAND, SEX, declared

from service.monitor.groups import OTHER, UNKNOWN
from service.monitor.report import fairness_report
from service.monitor.tally import tally

MANIFEST = declared(SEX, classes=("low", "high"), positive_class="high", favourable_outcome="low")
# sex, predicted, actual, bin, n: women 100, 80 with an outcome; men 200, all with one.
PEOPLE = [
    ("female", "low", "low", 2, 30),
    ("female", "low", "high", 4, 10),
    ("female", "high", "high", 7, 24),
    ("female", "high", "low", 9, 16),
    ("female", "high", None, 9, 20),
    ("male", "low", "low", 2, 120),
    ("male", "low", "high", 4, 20),
    ("male", "high", "high", 7, 40),
    ("male", "high", "low", 9, 20),
    (UNKNOWN, "high", "high", 7, 12),
]


def rows(people, *names):
    """Cell counts for `tally`; the score is the middle of its bin."""
    return [
        (json.dumps(dict(zip(names, groups, strict=True))), predicted, actual, number, n, n * (number + 0.5) / 10)
        for *groups, predicted, actual, number, n in people
    ]


def walk(value):
    """Every value inside."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from walk(part)
    else:
        yield value


def without_nan(report):
    """`report`, all of whose numbers are finite, after a round trip."""
    assert all(math.isfinite(value) for value in walk(report) if isinstance(value, float))
    assert orjson.loads(orjson.dumps(report)) == report  # orjson writes nan and inf as null
    return report


@pytest.fixture
def report():
    return without_nan(fairness_report(MANIFEST, tally(MANIFEST, rows(PEOPLE, "sex")), suppress=False))


@pytest.fixture
def groups(report):
    return {group["group"]: group for group in report["sensitive_features"][0]["groups"]}


def fractions(group):
    return {name: (rate["numerator"], rate["denominator"]) for name, rate in group["rates"].items()}


def test_the_top_says_what_it_is_about(report):
    """Of which model, how many, and whether anything is hidden."""
    [feature] = report.pop("sensitive_features")
    assert report == {
        "model_name": "m",
        "model_versions": ["1"],
        "positive_class": "high",
        "favourable_outcome": "low",
        "suppression": {"enabled": False, "smallest_shown": 11},
        "state": "breach",
        "n": 312,
        "labelled": 292,
    }
    assert (feature["name"], feature["intersection_of"], feature["reference_group"]) == ("sex", None, "male")
    assert [group["group"] for group in feature["groups"]] == ["female", "male", "unknown", "declined", "other"]


def test_rates_are_counted_out(groups):
    """Selection is of all predictions; the others are of those with an outcome, about the positive class."""
    assert groups["female"]["predicted"] == {"low": 40, "high": 60}
    assert groups["female"]["cells"] == {
        "true_positive": 24,
        "false_positive": 16,
        "false_negative": 10,
        "true_negative": 30,
    }
    assert fractions(groups["female"]) == {
        "selection_rate": (40, 100),
        "true_positive_rate": (24, 34),
        "false_positive_rate": (16, 46),
        "positive_predictive_value": (24, 40),
        "base_rate": (34, 80),
        "label_coverage": (80, 100),
    }
    assert groups["female"]["rates"]["selection_rate"]["value"] == 0.4
    assert fractions(groups["male"])["selection_rate"] == (140, 200)


def test_comparisons_are_with_the_reference_group(groups):
    """0.4 against 0.7, and so on; nothing for the reference group and the reserved ones."""
    compared = groups["female"]["against_reference"]
    assert compared["impact_ratio"]["value"] == pytest.approx(4 / 7)
    assert compared["adverse_ratio"]["value"] == pytest.approx(2)
    assert compared["selection_rate_difference"]["value"] == pytest.approx(-0.3)
    assert compared["true_positive_rate_difference"]["value"] == pytest.approx(24 / 34 - 40 / 60)
    assert compared["label_coverage_difference"]["value"] == pytest.approx(-0.2)
    states = {name: found["state"] for name, found in compared.items() if "state" in found}
    assert states == {
        "impact_ratio": "breach",
        "adverse_ratio": "ok",
        "true_positive_rate_difference": "ok",
        "false_positive_rate_difference": "ok",
        "positive_predictive_value_difference": "ok",
        "label_coverage_difference": "breach",
    }
    assert [groups[name]["against_reference"] for name in ("male", "unknown", "other")] == [None, None, None]
    assert [group["state"] for group in groups.values()] == ["breach", "reference", *["not_compared"] * 3]


def test_averages_are_of_two_differences(groups):
    """AIF360's: of TPR and FPR, and of PPV and the false omission rate."""
    compared = groups["female"]["against_reference"]
    tpr, fpr = 24 / 34 - 40 / 60, 16 / 46 - 20 / 140
    assert compared["average_odds_difference"]["value"] == pytest.approx((tpr + fpr) / 2)
    ppv, omission = 24 / 40 - 40 / 60, 10 / 40 - 20 / 140
    assert compared["average_predictive_value_difference"]["value"] == pytest.approx((ppv + omission) / 2)


def test_calibration_is_of_rows_with_an_outcome(groups):
    """30 at 0.25, 10 at 0.45, 24 at 0.75 and 16 at 0.95, of which 34 turned out high."""
    calibration = groups["female"]["calibration"]
    assert (calibration["n"], calibration["observed_rate"]) == (80, 34 / 80)
    assert calibration["mean_score"] == pytest.approx((30 * 0.25 + 10 * 0.45 + 24 * 0.75 + 16 * 0.95) / 80)
    assert calibration["difference"] == pytest.approx(calibration["mean_score"] - 34 / 80)
    assert [(each["n"], each["observed_rate"]) for each in calibration["bins"]] == [
        (0, None),
        (0, None),
        (30, 0.0),
        (0, None),
        (10, 1.0),
        (0, None),
        (0, None),
        (24, 1.0),
        (0, None),
        (16, 0.0),
    ]
    assert calibration["bins"][7]["mean_score"] == pytest.approx(0.75)
    assert groups["other"]["calibration"] is None


def test_disparities_are_over_declared_groups(report):
    """The 12 of unknown sex were all predicted high, and enter no gap."""
    found = report["sensitive_features"][0]["disparities"]
    assert found["demographic_parity_difference"]["value"] == pytest.approx(0.3)
    assert found["demographic_parity_ratio"]["value"] == pytest.approx(4 / 7)
    assert found["equal_opportunity_difference"]["value"] == pytest.approx(24 / 34 - 40 / 60)
    assert found["equalized_odds_difference"]["value"] == pytest.approx(16 / 46 - 20 / 140)
    assert found["predictive_parity_difference"]["value"] == pytest.approx(40 / 60 - 24 / 40)


def test_a_window_without_predictions_is_all_zeros_and_nulls():
    """n is 0, shares are undefined, gaps are null, and there is nothing to judge."""
    manifest = declared(SEX, AGE_BAND, intersections=[("sex", "age_band")], explained=True)
    for suppress in (True, False):
        report = without_nan(fairness_report(manifest, tally(manifest, []), suppress=suppress))
        assert (report["n"], report["labelled"], report["state"]) == (0, 0, "insufficient")
        assert [len(feature["groups"]) for feature in report["sensitive_features"]] == [5, 6, 9]
        for feature in report["sensitive_features"]:
            assert feature["state"] == "insufficient"
            assert set(feature["disparities"].values()) == {None}
            for group in feature["groups"]:
                assert (group["n"], group["labelled"], group["calibration"], group["attribution"]) == (0, 0, None, None)
                nothing = {"value": None, "numerator": 0, "denominator": 0, "low": None, "high": None}
                assert all(rate == nothing for rate in group["rates"].values())
                for compared in (group["against_reference"] or {}).values():
                    assert compared.get("value") is None
                    assert compared.get("state", "insufficient") == "insufficient"


COLOURS = ("red", "green", "blue")
TRICOLOUR = [
    ("female", "red", "red", 3, 20),
    ("female", "green", "red", 3, 30),
    ("female", "blue", "blue", 3, 50),
    ("male", "red", "green", 3, 40),
    ("male", "green", "green", 3, 60),
]


def test_many_classes_are_one_against_the_rest():
    """Green is positive and blue favourable: women 0 of 0 true positives, men 60 of 100."""
    manifest = declared(SEX, classes=COLOURS, positive_class="green", favourable_outcome="blue")
    report = without_nan(fairness_report(manifest, tally(manifest, rows(TRICOLOUR, "sex")), suppress=False))
    female, male = report["sensitive_features"][0]["groups"][:2]
    assert female["predicted"] == {"red": 20, "green": 30, "blue": 50}
    assert list(female["cells"].values()) == [0, 30, 0, 70]
    assert list(male["cells"].values()) == [60, 0, 40, 0]
    assert fractions(female) == {
        "selection_rate": (50, 100),
        "true_positive_rate": (0, 0),
        "false_positive_rate": (30, 100),
        "positive_predictive_value": (0, 30),
        "base_rate": (0, 100),
        "label_coverage": (100, 100),
    }
    compared = female["against_reference"]
    assert (compared["impact_ratio"]["value"], compared["true_positive_rate_difference"]["value"]) == (None, None)
    assert report["sensitive_features"][0]["disparities"]["equal_opportunity_difference"] is None


def test_many_classes_without_roles_have_only_what_needs_none():
    """Predictions by class and label coverage; no class to have rates about."""
    manifest = declared(SEX, classes=COLOURS)
    report = without_nan(fairness_report(manifest, tally(manifest, rows(TRICOLOUR, "sex")), suppress=False))
    female = report["sensitive_features"][0]["groups"][0]
    assert (female["n"], female["labelled"], female["cells"], female["calibration"]) == (100, 100, None, None)
    assert {name: rate["denominator"] for name, rate in female["rates"].items() if rate["denominator"]} == {
        "label_coverage": 100
    }
    assert (report["positive_class"], report["state"]) == (None, "ok")  # label coverage is the same


def test_groups_of_another_version_are_other():
    """A manifest that does not declare them still counts them; its unknown classes it cannot."""
    people = [("diverse", "low", "low", 1, 5), ("female", "medium", "low", 1, 7), ("female", "low", "medium", 1, 9)]
    [table] = tally(MANIFEST, rows(people, "sex"))
    assert dict(zip(table.made.groups, table.n.tolist(), strict=True)) == {
        "female": 9,
        "male": 0,
        UNKNOWN: 0,
        "declined": 0,
        OTHER: 5,
    }
    assert table.unlabelled.tolist()[0] == [9, 0]


def test_intersections_are_tallied_with_their_parts():
    """Each row once in every table; a combination with a reserved group is kept apart for what must be hidden."""
    manifest = declared(SEX, AGE_BAND, intersections=[("sex", "age_band")])
    people = [
        ("female", "50+", "yes", "yes", 8, 3),
        ("female", UNKNOWN, "no", None, 1, 2),
        ("male", "50+", "no", "no", 1, 4),
    ]
    tables = tally(manifest, rows(people, "sex", "age_band"))
    assert [table.n.sum() for table in tables] == [9, 9, 9]
    both = tables[2]
    assert {group: n for group, n in zip(both.made.groups, both.n.tolist(), strict=True) if n} == {
        "female x 50+": 3,
        "male x 50+": 4,
        UNKNOWN: 2,
    }
    assert sorted(both.combinations.values()) == [2, 3, 4]
    assert not tables[0].combinations


def explained(suppress, *, female_rows=20, male_rows=40):
    """The report of rows whose SHAP values (x, y) are (1, -1) for women and (0.5, 1) for men, margins (0, 1.5)."""
    manifest = declared(SEX, AGE_BAND, intersections=[("sex", "age_band")], explained=True)
    people = [(sex, "50+", predicted, predicted, 5, 50) for sex in SEX[1] for predicted in ("no", "yes")]
    sums = [
        ('{"sex":"female","age_band":"50+"}', female_rows, 0.0, [1.0 * female_rows, -1.0 * female_rows]),
        ('{"sex":"male","age_band":"50+"}', male_rows, 1.5 * male_rows, [0.5 * male_rows, 1.0 * male_rows]),
        ('{"sex":"male"}', 7, 0.0, [1.0, 2.0, 3.0]),  # of a version with another number of features
    ]
    return fairness_report(manifest, tally(manifest, rows(people, "sex", "age_band"), sums), suppress=suppress)


def test_attributions_are_differences_of_means_and_add_up():
    """Group minus reference, the largest first: 0.5 - 2 = 0 - 1.5."""
    female, male, *_ = without_nan(explained(True))["sensitive_features"][0]["groups"]
    assert female["attribution"] == {
        "n": 20,
        "mean_margin_difference": -1.5,
        "features": [{"feature": "y", "difference": -2.0}, {"feature": "x", "difference": 0.5}],
    }
    assert male["attribution"] is None


@pytest.mark.parametrize(("female_rows", "male_rows"), [(10, 40), (20, 10), (0, 40)])
def test_attributions_of_few_rows_are_hidden(female_rows, male_rows):
    """They are means of few people's values; without suppression only those of nobody are missing."""
    for suppress in (True, False):
        report = explained(suppress, female_rows=female_rows, male_rows=male_rows)
        found = report["sensitive_features"][0]["groups"][0]["attribution"]
        assert (found is None) == (suppress or female_rows == 0)


def test_intersections_have_no_attributions_and_no_bins():
    """Their calibration is the mean alone."""
    groups = explained(False)["sensitive_features"][2]["groups"]
    both = next(group for group in groups if group["group"] == "female x 50+")
    assert (both["attribution"], both["calibration"]["bins"], both["calibration"]["n"]) == (None, None, 100)
