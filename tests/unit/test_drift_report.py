"""The drift report from counts made by hand: every number, and nothing that suppression hides."""

import json
import math

import numpy as np
import pytest
from declared import declared
from frozen import FEATURES, PARTS, SCORES, frozen, frozen_manifest
from scipy import stats
from scipy.optimize import linprog
from scipy.spatial.distance import jensenshannon

from service.monitor.bins import SHARES
from service.monitor.drift_counters import DriftLayout
from service.monitor.drift_report import drift_report
from service.monitor.pooling import without_small_counts
from service.monitor.report import fairness_report
from service.monitor.suppression import is_small
from service.monitor.tally import tally

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
COUNTS = {
    "amount": [20, 100, 150, 400, 30, 300],
    "hour": [0, 300, 700, 0],
    "abroad": [860, 140],
    "entry": [590, 350, 20, 20, 20],
}
# Which of those bins are compared together.
CELLS = [[[0, 1], [2], [3, 4], [5]], [[0, 1], [2, 3]], [[0], [1]], [[0], [1], [2, 3, 4]]]
SCORED = [0, 450, 290, 260, 0]
AGES = {"18-29": 0.3, "30-49": 0.2, "50+": 0.5}
SEXES = {"female": 0.4, "male": 0.6}


class Window:
    """Counts of a window, to be changed by name, and the outcomes that came to it."""

    def __init__(self, manifest=None, reference=None):
        self.layout = DriftLayout(manifest or frozen_manifest(), reference or frozen())
        self.values = np.zeros(self.layout.size)
        self.outcomes = {}

    def feature(self, name, counts):
        names = self.layout.manifest.feature_names
        self.layout.of_feature(self.values, names.index(name))[:] = counts

    def set(self, name, counts):
        self.layout.view(self.values, name)[:] = counts

    def report(self, *, suppress):
        manifest = self.layout.manifest
        found = [
            (json.dumps(dict(groups)), predicted, actual, 8 if predicted == "yes" else 2, n, n * 0.5)
            for (groups, predicted, actual), n in self.outcomes.items()
        ]
        fairness = fairness_report(manifest, tally(manifest, found), suppress=suppress)
        return drift_report(self.layout, self.values, fairness, suppress=suppress)


def full():
    """1000 rows with everything in quantity."""
    window = Window()
    for name, counts in COUNTS.items():
        window.feature(name, counts)
    window.set("score yes", SCORED)
    for name, shares in (("sex", SEXES), ("age_band", AGES)):
        by_group = np.zeros((len(shares) + 3, 5))
        by_group[: len(shares)] = np.outer(list(shares.values()), SCORED)
        window.set(f"group score {name}", by_group)
        n = by_group.sum(axis=1)
        for part, one in (("predictions", 1.0), ("calibrated", 0.4), ("variance", 0.2)):
            window.set(f"{part} {name}", np.outer(n, [0.6 * one, 0.4 * one]))
    window.set("magnitude", [40.0, 30.0, 10.0, 20.0])
    window.set("magnitude rows", [900])
    window.outcomes = {
        ((("sex", sex), ("age_band", age)), predicted, actual): round(of_sex * of_age * share)
        for sex, of_sex in SEXES.items()
        for age, of_age in AGES.items()
        for predicted, actual, share in (("yes", "yes", 300), ("yes", "no", 200), ("no", "yes", 250), ("no", "no", 250))
    }
    return window


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


# Suppression


def random_window(seed):
    """Counts of which many are small, in bins of which many are rare."""
    dice = np.random.default_rng(seed)
    parts = json.loads(json.dumps(PARTS))
    for part in parts:
        counts = part["counts"]
        counts["bins"] = dice.choice([0, 1, 4, 30, 300, 800], len(counts["bins"])).tolist()
        if "missing" in counts:
            counts["missing"] = int(dice.choice([0, 4, 300]))
    window = Window(reference=frozen(features=parts))
    for name, cells in COUNTS.items():
        window.feature(name, dice.choice([0, 0, 0, 1, 3, 5, 9, 10, 11, 12, 15, 40, 200], len(cells)))
    return window


def equations(entry, counts, bins):
    """All that a reader knows of the bins: which of them `(E, B)` add up to what `(E,)`."""
    pools = without_small_counts(counts, bins)
    assert [(made.words(bins), made.count) for made in pools] == [(shown["bin"], shown["n"]) for shown in entry["bins"]]
    rows = [np.isin(range(len(bins)), made.members) for made in pools]
    totals = [made.count for made in pools]
    for name, share in entry["shares"].items():
        if share.get("value") is not None:
            rows.append(np.isin(bins.kinds, SHARES[name]))
            totals.append(round(share["value"] * entry["n"]))
    return np.array(rows, float), np.array(totals)


def what_follows(window, dice):
    """(feature, bins) of which a reader can tell that they have 1 to 10 rows, and how many shares are shown."""
    found, shown = [], 0
    features = window.report(suppress=True)["features"]
    for number, (entry, bins) in enumerate(zip(features, window.layout.table.columns, strict=True)):
        counts, B = window.layout.of_feature(window.values, number).astype(int), len(bins)
        if entry["state"] == "suppressed":
            assert counts.sum() <= 10
            continue
        rows, totals = equations(entry, counts, bins)
        assert entry["n"] == counts.sum()
        shown += sum("value" in share for share in entry["shares"].values())
        kinds = [np.isin(bins.kinds, of) for of in SHARES.values()]
        for goal in (*np.eye(B), *kinds, *(~mine for mine in kinds), *(dice.random((8, B)) < 0.5)):
            low, high = (
                sign * linprog(sign * goal.astype(float), A_eq=rows, b_eq=totals, method="highs").fun
                for sign in (1, -1)
            )
            if low > 0.5 and high < 10.5:
                found.append((entry["feature"], np.flatnonzero(goal).tolist()))
    return found, shown


@pytest.mark.parametrize("seed", range(30))
def test_no_small_count_stands_in_a_report_or_follows_from_it(seed):
    """Neither of a bin, nor of a share, nor of any others: with all that is shown, each may be 0 or above 10."""
    found, _ = what_follows(random_window(seed), np.random.default_rng(seed))
    assert found == []


def only_itself(counts, pools, bins):
    """A guard that looks at the share and at the others, not at pools."""
    count = int(counts[list(bins)].sum())
    return bool(is_small(np.array([count, counts.sum() - count])).any())


@pytest.mark.parametrize(
    ("guard", "seeds"), [(lambda *_: False, [0, 1, 2]), (only_itself, [27, 38, 44])], ids=["none", "not at pools"]
)
def test_small_counts_would_follow_from_shares_with_less_of_a_guard(guard, seeds, monkeypatch):
    """Which shows that the test above could tell."""
    monkeypatch.setattr("service.monitor.drift_report.leaves_small_count", guard)
    assert all(what_follows(random_window(seed), np.random.default_rng(seed))[0] for seed in seeds)


def test_a_share_that_is_safe_alone_may_not_be_beside_the_other():
    """40 unseen and 200 missing in a pool of 245: 5 of another category."""
    window = full()
    window.feature("entry", [0, 5, 30, 10, 200])
    entry = window.report(suppress=True)["features"][3]
    assert [shown["n"] for shown in entry["bins"]] == [0, 245]
    assert entry["shares"]["missing"]["value"] == 200 / 245
    assert entry["shares"]["unseen"] == {"suppressed": True}


def test_shares_are_shown_where_nothing_follows_from_them():
    """Of the counts of a usual day all."""
    report = full().report(suppress=True)
    assert all("value" in share for entry in report["features"] for share in entry["shares"].values())
    assert sum(what_follows(random_window(seed), np.random.default_rng(seed))[1] for seed in range(5)) >= 8


def test_bins_of_few_rows_are_pooled_and_everything_is_about_the_pools():
    """PSI and the rest could otherwise be solved for the counts."""
    window = full()
    window.feature("hour", [4, 300, 692, 4])
    hour = window.report(suppress=True)["features"][1]
    assert [(cell["bin"], cell["kind"], cell["n"], cell["reference_n"]) for cell in hour["bins"]] == [
        ("below 0 or 0 to 6", "pooled", 304, 250),
        ("6 to 24 or from 24", "pooled", 696, 750),
    ]
    assert hour["n"] == 1000
    p, q = (np.array(cells) / 1001 for cells in ([304.5, 696.5], [250.5, 750.5]))
    assert hour["psi"]["value"] == pytest.approx(((p - q) * np.log(p / q)).sum())
    assert hour["psi"]["degrees_of_freedom"] == hour["chi_squared"]["degrees_of_freedom"] == 1
    assert hour["kolmogorov_smirnov"]["statistic"] == pytest.approx(0.054)
    assert hour["shares"] == {"out_of_range": {"suppressed": True}}
    plain = window.report(suppress=False)["features"][1]
    assert [cell["n"] for cell in plain["bins"]] == [4, 300, 692, 4]
    assert plain["shares"]["out_of_range"]["value"] == 0.008


@pytest.mark.parametrize(
    ("counts", "shown", "hidden"),
    [
        ([12, 300, 400, 200, 3, 85], [312, 400, 203, 85], False),  # 15 beyond the edges: any of 12 and 3, 0 and 15
        ([6, 300, 400, 200, 3, 91], [306, 400, 203, 91], True),  # 9
        ([12, 3, 400, 5, 100, 85], [15, 400, 105, 85], True),  # 112 of 120: 8 within
    ],
)
def test_a_share_that_would_tell_of_a_small_count_is_hidden(counts, shown, hidden):
    """Bins are shown by cells: how many are beyond the edges is told by the share alone."""
    window = full()
    window.feature("amount", counts)
    amount = window.report(suppress=True)["features"][0]
    assert [cell["n"] for cell in amount["bins"]] == shown
    assert ("value" not in amount["shares"]["out_of_range"]) == hidden
    assert amount["shares"]["missing"]["value"] == counts[-1] / sum(counts)
    assert amount["kolmogorov_smirnov"] is not None


def test_pools_that_interleave_are_one_in_a_distribution_function():
    """A cell of rare bins lies on both sides of others: only beyond it the order is known."""
    part = PARTS[0] | {"edges": [0.5, 1, 10, 100, 1600], "counts": {"bins": [2, 500, 3, 495]}}
    window = Window(reference=frozen(features=[part, *PARTS[1:]]))
    window.feature("amount", [0, 40, 300, 60, 600, 0, 0])
    amount = window.report(suppress=True)["features"][0]
    assert [(shown["bin"], shown["n"]) for shown in amount["bins"]] == [
        ("1 to 10", 300),
        ("100 to 1600 or from 1600", 600),
        ("below 0.5 or 0.5 to 1 or 10 to 100 or missing", 100),
    ]
    assert amount["kolmogorov_smirnov"] is None
    window = Window(reference=frozen(features=[part | {"counts": part["counts"] | {"missing": 50}}, *PARTS[1:]]))
    window.feature("amount", [0, 40, 300, 60, 600, 0, 0])
    amount = window.report(suppress=True)["features"][0]
    assert amount["kolmogorov_smirnov"]["statistic"] == pytest.approx(abs(0.4 - 0.505))


def test_missing_values_that_are_pooled_leave_no_order_to_compare():
    """The pool holds values and none."""
    window = full()
    window.feature("amount", [0, 300, 400, 290, 0, 4])
    amount = window.report(suppress=True)["features"][0]
    assert amount["bins"][-1]["kind"] == "pooled"
    assert amount["kolmogorov_smirnov"] is None
    assert amount["shares"]["missing"] == {"suppressed": True}


@pytest.mark.parametrize("n", [1, 10])
def test_a_window_of_few_rows_is_hidden_whole(n):
    """Nothing about it is said; without suppression everything is."""
    window = Window()
    for name, cells in COUNTS.items():
        window.feature(name, [0, n, *[0] * (len(cells) - 2)])
    window.set("score yes", [0, n, 0, 0, 0])
    window.set("magnitude", [1.0, 0, 0, 0])
    window.set("magnitude rows", [n])
    report = window.report(suppress=True)
    assert (report["n"], report["state"]) == (None, "insufficient")
    for entry in (*report["features"], *report["scores"]):
        assert (entry["n"], entry["state"], entry["bins"]) == (None, "suppressed", [])
        assert (entry["psi"], entry["jensen_shannon"], entry["chi_squared"]) == (None, None, None)
    assert {json.dumps(share) for entry in report["features"] for share in entry["shares"].values()} == {
        '{"suppressed": true}'
    }
    assert report["attribution"] == {"n": None, "reference_n": 500, "state": "suppressed", "features": []}
    assert window.report(suppress=False)["n"] == n


def test_groups_that_the_fairness_report_hides_are_hidden_here():
    """One for its own small cell, the other because it would follow."""
    window = full()
    of_age = window.outcomes
    for key in list(of_age):
        if dict(key[0])["age_band"] == "30-49":
            del of_age[key]
    of_age[(("sex", "male"), ("age_band", "30-49")), "yes", "yes"] = 5
    report = window.report(suppress=True)
    sex, age = report["group_scores"]
    hidden = {"n": None, "state": "suppressed", "psi": None}
    young = next(group for group in age["groups"] if group["group"] == "18-29")
    assert young == {"group": "18-29", "reference_n": 500} | hidden
    assert [group["state"] for group in sex["groups"]] == ["ok", "ok"]
    performance = {group["group"]: group for group in report["performance"][1]["groups"]}
    for name in ("18-29", "30-49"):
        group = performance[name]
        assert (group["n"], group["labelled"], group["state"]) == (None, None, "suppressed")
        assert all(rate == {"expected": None, "realised": None} for rate in group["rates"].values())
    assert performance["50+"]["state"] == "ok"
    assert "suppressed" not in str(window.report(suppress=False))


def test_scores_of_few_of_a_group_are_hidden_and_of_some_not_judged():
    """PSI of 12 rows could be solved for their bins."""
    window = full()
    scores = window.layout.view(window.values, "group score sex")
    scores[0], scores[1] = [0, 4, 4, 4, 0], [0, 2, 2, 2, 0]
    women, men = window.report(suppress=True)["group_scores"][0]["groups"]
    assert (women["n"], women["state"], women["psi"]) == (12, "insufficient", None)
    assert (men["n"], men["state"], men["psi"]) == (None, "suppressed", None)
