"""The drift report with suppression: what it hides does not follow from what it shows."""

import json

import numpy as np
import pytest
from frozen import PARTS, frozen
from scipy.optimize import linprog
from windows import COUNTS, Window, full

from service.monitor.bins import SHARES
from service.monitor.pooling import without_small_counts
from service.monitor.suppression import is_small


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
        ("below 0 or 0 to 5", "cell", 304, 250),
        ("6 to 23 or above 23", "cell", 696, 750),
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


def test_pooling_for_show_does_not_decide():
    """Rows moved between neighbours that are shown as one: the state is that of the rules, the numbers are not."""
    window = full()
    window.feature("amount", [0, 300, 3, 297, 0, 400])
    shown, plain = (window.report(suppress=suppress)["features"][0] for suppress in (True, False))
    assert shown["state"] == plain["state"] == "drift"
    assert shown["psi"]["value"] < plain["psi"]["value"]
    assert not [cell["n"] for cell in shown["bins"] if 1 <= cell["n"] <= 10]


def test_a_group_with_a_small_cell_shows_no_psi():
    """From PSI, n and the reference a cell could be solved for; that there is drift is said."""
    window = full()
    scores = window.layout.view(window.values, "group score sex")
    scores[0] = [0, 393, 3, 4, 0]
    (female, male) = window.report(suppress=True)["group_scores"][0]["groups"]
    assert (female["psi"], female["state"]) == (None, "drift")
    assert male["psi"] is not None
    (plain, _) = window.report(suppress=False)["group_scores"][0]["groups"]
    assert plain["psi"]["value"] > 0.1


def test_expected_rates_of_few_positives_are_hidden():
    """However many the records know: TPR, FPR and PPV together tell the number predicted positive."""
    window = full()
    counted = window.layout.view(window.values, "predictions sex")
    counted[0] = [296, 4]
    (female, male) = window.report(suppress=True)["performance"][0]["groups"]
    assert female["state"] == "suppressed"
    assert {name: rate["expected"] for name, rate in female["rates"].items()} == dict.fromkeys(female["rates"])
    assert male["state"] == "ok"
