"""The drift report from counts made by hand: every number, and every state."""

import json
import math

import numpy as np
import pytest
from declared import declared
from frozen import FEATURES, SCORES, frozen, frozen_manifest
from scipy import stats
from scipy.spatial.distance import jensenshannon
from windows import COUNTS, Window, full

PSI = {"value": float, "critical": float, "degrees_of_freedom": int}
CHANGE = {"value": float, "reference": float, "difference": float, "critical": float, "state": str}
BIN = {"bin": str, "kind": str, "n": int, "share": float, "reference_n": int, "reference_share": float}
RATE = {"value": float, "low": float, "high": float}
REALISED = RATE | {"numerator": int, "denominator": int}
SCORE = {
    "class": str,
    "n": int,
    "reference_n": int,
    "state": str,
    "psi": PSI,
    "jensen_shannon": {"distance": float, "log_base": int},
    "chi_squared": {"statistic": float, "degrees_of_freedom": int, "p_value": float},
    "bins": [BIN],
}
REPORT = {
    "model_name": str,
    "model_version": str,
    "state": str,
    "n": int,
    "reference": {"id": str, "n": int, "data_fingerprint": str},
    "suppression": {"enabled": bool, "smallest_shown": int},
    "limits": {
        "least_psi": float,
        "least_observations": int,
        "error": float,
        "least_share_increase": float,
        "least_attribution_change": float,
    },
    "scores": [SCORE],
    "group_scores": [
        {
            "sensitive_feature": str,
            "class": str,
            "groups": [{"group": str, "n": int, "reference_n": int, "state": str, "psi": PSI}],
        }
    ],
    "attribution": {
        "n": int,
        "reference_n": int,
        "state": str,
        "features": [
            {
                "feature": str,
                "share": float,
                "reference_share": float,
                "difference": float,
                "critical": float,
                "state": str,
            }
        ],
    },
    "performance": [
        {
            "sensitive_feature": str,
            "groups": [
                {
                    "group": str,
                    "n": int,
                    "labelled": int,
                    "calibrator": str,
                    "state": str,
                    "rates": {
                        name: {"expected": RATE, "realised": REALISED}
                        for name in ("true_positive_rate", "false_positive_rate", "positive_predictive_value")
                    },
                }
            ],
        }
    ],
}
FEATURE = SCORE | {"feature": str, "kind": str, "unit": str, "kolmogorov_smirnov": {"statistic": float}}
FEATURE = {name: kind for name, kind in FEATURE.items() if name != "class"}
# Of the four features: which shares there are, whether there is a unit, whether values have an order.
BY_FEATURE = [({"missing", "out_of_range"}, True, True), ({"out_of_range"}, False, True), (set(), False, False)]
BY_FEATURE += [({"missing", "unseen"}, False, False)]
# Which of those bins are compared together.
CELLS = [[[0, 1], [2], [3, 4], [5]], [[0, 1], [2, 3]], [[0], [1]], [[0], [1], [2, 3, 4]]]


def matches(found, shape, where="report"):
    """Every key and no other, of these types, at every depth."""
    if isinstance(shape, dict):
        assert found.keys() == shape.keys(), where
        for name, inner in shape.items():
            matches(found[name], inner, f"{where}.{name}")
    elif isinstance(shape, list):
        assert found, where
        for number, entry in enumerate(found):
            matches(entry, shape[0], f"{where}.{number}")
    else:
        assert type(found) is shape, f"{where}: {found!r}"


@pytest.mark.parametrize("suppress", [False, True])
def test_a_full_report_has_every_key(suppress):
    """With plain numbers, as JSON has them."""
    report = full().report(suppress=suppress)
    features = report.pop("features")
    matches(report, REPORT)
    for entry, (shares, has_unit, is_ordered) in zip(features, BY_FEATURE, strict=True):
        for share in (found := entry.pop("shares")).values():
            matches(share, CHANGE)
        assert found.keys() == shares
        expected = FEATURE | ({} if has_unit else {"unit": type(None)})
        matches(entry, expected | ({} if is_ordered else {"kolmogorov_smirnov": type(None)}))
    assert [entry["feature"] for entry in features] == [feature["name"] for feature in FEATURES]
    json.dumps(report, allow_nan=False)


def test_a_report_says_what_it_is_of():
    """The caller adds the window."""
    report = full().report(suppress=True)
    assert (report["model_name"], report["model_version"], report["n"]) == ("m", "1", 1000)
    assert report["reference"] == {"id": "0123456789ab", "n": 1000, "data_fingerprint": "sha256:f00d"}
    assert report["suppression"] == {"enabled": True, "smallest_shown": 11}
    assert report["limits"] == {
        "least_psi": 0.1,
        "least_observations": 200,
        "error": 0.005,
        "least_share_increase": 0.05,
        "least_attribution_change": 0.05,
    }


@pytest.mark.parametrize("number", range(4))
def test_statistics_of_a_feature_are_those_of_scipy(number):
    """On the counts that the report shows, added up to cells."""
    entry = full().report(suppress=False)["features"][number]
    in_bins = [np.array([shown[name] for shown in entry["bins"]]) for name in ("n", "reference_n")]
    assert in_bins[0].tolist() == list(COUNTS.values())[number]
    n, m = (table.sum() for table in in_bins)
    assert (entry["n"], entry["reference_n"]) == (n, m) == (1000, 1000)
    assert [shown["share"] for shown in entry["bins"]] == pytest.approx((in_bins[0] / n).tolist())
    assert [shown["reference_share"] for shown in entry["bins"]] == pytest.approx((in_bins[1] / m).tolist())
    counts, reference = (np.array([table[cell].sum() for cell in CELLS[number]]) for table in in_bins)
    C = len(counts)
    p, q = ((table + 0.5) / (table.sum() + C / 2) for table in (counts, reference))
    assert entry["psi"]["value"] == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p))
    assert entry["psi"]["degrees_of_freedom"] == C - 1
    assert entry["psi"]["critical"] == pytest.approx(stats.chi2.isf(0.005 / 4, C - 1) * (1 / n + 1 / m))
    assert entry["jensen_shannon"]["distance"] == pytest.approx(jensenshannon(p, q, base=2))
    expected = stats.chi2_contingency(np.stack([counts, reference]), correction=False)
    found = entry["chi_squared"]
    assert (found["statistic"], found["p_value"]) == pytest.approx(
        (expected.statistic, expected.pvalue), rel=1e-9, abs=0
    )
    assert found["degrees_of_freedom"] == expected.dof


def test_kolmogorov_smirnov_is_about_values_that_are_there():
    """Missing ones have no order."""
    amount, hour, *_ = full().report(suppress=False)["features"]
    now, then = np.array(COUNTS["amount"][:-1]), np.array([0, 300, 400, 200, 0])
    expected = stats.ks_2samp(np.repeat(np.arange(5), now), np.repeat(np.arange(5), then)).statistic
    assert amount["kolmogorov_smirnov"]["statistic"] == pytest.approx(expected)
    expected = stats.ks_2samp(np.repeat([1, 2], [300, 700]), np.repeat([1, 2], [250, 750])).statistic
    assert hour["kolmogorov_smirnov"]["statistic"] == pytest.approx(expected)


def test_shares_are_plain_and_compared_with_those_of_the_reference():
    """Three shares of four features: twelve comparisons."""
    amount = full().report(suppress=False)["features"][0]["shares"]
    assert amount["missing"]["value"] == 0.3
    assert amount["missing"]["reference"] == 0.1
    assert amount["out_of_range"]["value"] == 0.05
    assert amount["out_of_range"]["reference"] == 0.0
    assert (amount["missing"]["state"], amount["out_of_range"]["state"]) == ("drift", "ok")
    pooled = (0.3 + 0.1) / 2
    expected = stats.norm.isf(0.005 / 12) * math.sqrt(pooled * (1 - pooled) * 2 / 1000)
    assert amount["missing"]["critical"] == pytest.approx(expected)
    entry = full().report(suppress=False)["features"][3]["shares"]
    assert (entry["unseen"]["value"], entry["missing"]["value"]) == (0.04, 0.02)


def test_group_scores_are_compared_with_those_of_the_same_group():
    """Bonferroni over the groups that have a reference; the group without one is left out."""
    sex, age = full().report(suppress=False)["group_scores"]
    assert [group["group"] for group in sex["groups"]] == ["female", "male"]
    assert [group["group"] for group in age["groups"]] == ["18-29", "50+"]
    women = sex["groups"][0]
    p, q = ((np.array(cells) + 0.5) / (400 + 1.5) for cells in ([180, 116, 104], [150, 150, 100]))
    assert women["psi"]["value"] == pytest.approx(((p - q) * np.log(p / q)).sum())
    assert women["psi"]["critical"] == pytest.approx(stats.chi2.isf(0.0025, 2) * (1 / 400 + 1 / 400))
    assert (women["n"], women["reference_n"], women["state"]) == (400, 400, "ok")
    rounded = full().report(suppress=True)["group_scores"][0]["groups"][0]["psi"]["value"]
    assert rounded == round(women["psi"]["value"], 3)


def test_attributions_are_shares_of_all_magnitudes():
    """By feature, against those of the reference."""
    found = full().report(suppress=False)["attribution"]
    assert (found["n"], found["reference_n"], found["state"]) == (900, 500, "drift")
    assert [entry["share"] for entry in found["features"]] == [0.4, 0.3, 0.1, 0.2]
    assert [entry["difference"] for entry in found["features"]] == pytest.approx([0, 0, -0.1, 0.1])
    z = stats.norm.isf(0.005 / 4 / 2)
    expected = z * 0.5 * math.sqrt(1 / 900 + 1 / 500)
    assert [entry["critical"] for entry in found["features"]] == pytest.approx([expected] * 4)
    assert [entry["state"] for entry in found["features"]] == ["ok", "ok", "drift", "drift"]


def test_performance_stands_beside_what_came_true():
    """By group, with the calibrator that was used."""
    sex, _ = full().report(suppress=False)["performance"]
    women, men = sex["groups"]
    assert [group["calibrator"] for group in (women, men)] == ["group", "pooled"]
    assert (women["n"], women["labelled"], women["state"]) == (400, 400, "ok")
    rates = women["rates"]
    assert rates["positive_predictive_value"]["expected"]["value"] == pytest.approx(0.4)
    assert rates["true_positive_rate"]["expected"]["value"] == pytest.approx(0.4)
    realised = rates["true_positive_rate"]["realised"]
    assert (realised["numerator"], realised["denominator"]) == (120, 220)


# States


def test_states_add_up():
    """Drift anywhere is drift; few rows are insufficient everywhere."""
    window = full()
    window.feature("amount", [0, 300, 400, 200, 0, 100])
    window.feature("entry", [600, 380, 0, 0, 20])
    window.set("magnitude", [4.0, 3.0, 2.0, 1.0])
    report = window.report(suppress=False)
    assert report["state"] == "ok"
    assert {entry["state"] for entry in report["features"]} == {"ok"}
    for change in (
        lambda: window.set("magnitude", [8.0, 1.0, 1.0, 1.0]),
        lambda: window.set("score yes", [0, 100, 100, 800, 0]),
        lambda: window.feature("hour", [0, 700, 300, 0]),
    ):
        before = window.values.copy()
        change()
        assert window.report(suppress=False)["state"] == "drift"
        window.values = before
    of_sex = window.layout.view(window.values, "group score sex")
    of_sex[0] = [0, 20, 80, 300, 0]
    report = window.report(suppress=False)
    assert (report["state"], report["scores"][0]["state"]) == ("drift", "ok")
    assert [group["state"] for group in report["group_scores"][0]["groups"]] == ["drift", "ok"]


def test_a_share_alone_is_drift():
    """Values out of range, where PSI is content."""
    window = full()
    window.feature("amount", [100, 300, 400, 200, 0, 100])
    window.set("magnitude", [4.0, 3.0, 2.0, 1.0])
    amount = window.report(suppress=False)["features"][0]
    assert amount["shares"]["out_of_range"]["state"] == "drift"
    assert window.report(suppress=False)["state"] == "drift"


def test_few_rows_are_insufficient_however_far_they_are():
    """199 of them."""
    window = Window()
    window.feature("hour", [0, 199, 0, 0])
    window.set("score yes", [0, 0, 0, 199, 0])
    window.set("magnitude", [10.0, 0.0, 0.0, 0.0])
    window.set("magnitude rows", [199])
    report = window.report(suppress=False)
    assert report["state"] == "insufficient"
    assert report["features"][1]["psi"]["value"] > 0.5
    assert report["features"][1]["state"] == report["attribution"]["state"] == "insufficient"


@pytest.mark.parametrize("suppress", [False, True])
def test_an_empty_window_is_undefined(suppress):
    """Null, not NaN and not 0."""
    report = Window().report(suppress=suppress)
    json.dumps(report, allow_nan=False)
    assert (report["state"], report["n"]) == ("insufficient", 0)
    for entry in (*report["features"], *report["scores"]):
        assert (entry["psi"], entry["jensen_shannon"], entry["chi_squared"], entry["n"]) == (None, None, None, 0)
        assert {cell["share"] for cell in entry["bins"]} == {None}
        assert entry["state"] == "insufficient"
    for entry in report["features"]:
        assert entry["kolmogorov_smirnov"] is None
        assert {share["value"] for share in entry["shares"].values()} <= {None}
    assert {entry["share"] for entry in report["attribution"]["features"]} == {None}
    assert {group["state"] for part in report["performance"] for group in part["groups"]} == {"insufficient"}


@pytest.mark.parametrize("suppress", [False, True])
@pytest.mark.parametrize(
    "missing",
    [("calibrators",), ("attributions",), ("calibrators", "attributions", "groups", "scores")],
    ids=" ".join,
)
def test_a_package_of_an_older_release_has_nothing_to_compare_with(missing, suppress):
    """Empty lists and null."""
    report = Window(reference=frozen(**dict.fromkeys(missing))).report(suppress=suppress)
    assert (report["performance"] == []) == ("calibrators" in missing)
    assert (report["attribution"] is None) == ("attributions" in missing)
    assert (report["scores"] == []) == (report["group_scores"] == []) == ("scores" in missing)


def test_a_model_without_groups_has_features_and_scores():
    """And no more."""
    manifest = declared(features=FEATURES, explained=True, digests=frozen_manifest().digests)
    report = Window(manifest, frozen(groups={})).report(suppress=True)
    assert (report["group_scores"], report["performance"]) == ([], [])
    assert len(report["scores"]) == 1


def test_several_classes_share_the_error():
    """Of scores; groups have those of the positive class."""
    manifest = frozen_manifest(classes=("yes", "no", "maybe", "never"), positive_class="yes", favourable_outcome="no")
    reference = frozen(scores=[SCORES[0], SCORES[0] | {"class": "no"}])
    window = Window(manifest, reference)
    window.set("score no", [0, 100, 100, 800, 0])
    report = window.report(suppress=False)
    assert [entry["class"] for entry in report["scores"]] == ["yes", "no"]
    critical = report["scores"][1]["psi"]["critical"]
    assert critical == pytest.approx(stats.chi2.isf(0.0025, 2) * 2 / 1000)
    assert {part["class"] for part in report["group_scores"]} == {"yes"}
