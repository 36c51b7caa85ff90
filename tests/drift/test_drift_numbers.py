"""The numbers of the drift report: as scipy gives them for the rows that were sent to the service.

With suppression off; `test_drift_discloses_nothing` is about the other way.
"""

import drift_truth
import numpy as np
import pytest
import toy
from drift_traffic import Sent, body, post, report, rows, send
from referenced import add_reference
from statsmodels.stats.proportion import proportion_confint


def near(expected):
    return pytest.approx(expected, rel=1e-6, abs=1e-9)


def assert_distribution(entry, counts, bins, comparisons):
    """n, bins and every statistic of one distribution."""
    n = int(counts.sum())
    assert (entry["n"], entry["reference_n"]) == (n, bins.m)
    assert [part["bin"] for part in entry["bins"]] == bins.words
    assert [part["kind"] for part in entry["bins"]] == bins.kinds
    assert [part["n"] for part in entry["bins"]] == counts.tolist()
    assert [part["share"] for part in entry["bins"]] == near((counts / n).tolist())
    assert [part["reference_n"] for part in entry["bins"]] == bins.reference.tolist()
    assert [part["reference_share"] for part in entry["bins"]] == near((bins.reference / bins.m).tolist())
    expected = bins.compare(counts, comparisons)
    for name, numbers in expected.items():
        assert entry[name] == near(numbers), name
    assert entry["state"] == drift_truth.psi_state(expected["psi"], n)


def test_features_are_compared_as_scipy_does(serve, package) -> None:
    """PSI, Jensen-Shannon distance, chi-squared, Kolmogorov-Smirnov and shares of every kind of feature."""
    client = serve()
    sent = send(client, package)
    found = report(client)["features"]
    declared = package.manifest["features"]
    assert [(entry["feature"], entry["kind"]) for entry in found] == [(f["name"], f["kind"]) for f in declared]
    assert [entry["unit"] for entry in found] == ["EUR", None, None, None, None]
    for number, (entry, bins) in enumerate(zip(found, package.features, strict=True)):
        counts = sent.of_feature(number)
        assert_distribution(entry, counts, bins, len(found))
        distance = bins.kolmogorov_smirnov(counts)
        assert entry["kolmogorov_smirnov"] == (None if distance is None else near({"statistic": distance}))
        shares = bins.shares(counts, len(found))
        assert entry["shares"].keys() == shares.keys()
        for name, share in shares.items():
            state = entry["shares"][name].pop("state")
            assert state == share.pop("state")
            assert entry["shares"][name] == near(share)
    states = {(entry["feature"], name): share for entry in found for name, share in entry["shares"].items()}
    assert states.keys() == {
        ("amount", "out_of_range"),
        ("hour", "out_of_range"),
        ("entry_mode", "unseen"),
        ("balance", "missing"),
        ("balance", "out_of_range"),
    }


def test_scores_are_compared_as_scipy_does(serve, package) -> None:
    """Of all rows, and of the groups that the reference knows."""
    client = serve()
    sent = send(client, package)
    found = report(client)
    [entry] = found["scores"]
    assert entry["class"] == "fraud"
    assert "shares" not in entry
    assert_distribution(entry, sent.of_scores(), package.scores["fraud"], 1)
    groups = {
        (part["sensitive_feature"], part["class"]): {group["group"]: group for group in part["groups"]}
        for part in found["group_scores"]
    }
    assert groups.keys() == {("sex", "fraud"), ("age_band", "fraud")}
    for (name, _), entries in groups.items():
        known = package.groups_with_scores(name)
        assert entries.keys() == known.keys()
        for group, bins in known.items():
            counts = sent.of_group_scores(name, group)
            psi = bins.compare(counts, len(known))["psi"]
            assert entries[group]["psi"] == near(psi)
            assert (entries[group]["n"], entries[group]["reference_n"]) == (counts.sum(), bins.m)
            assert entries[group]["state"] == drift_truth.psi_state(psi, counts.sum())


def test_explanations_are_compared_with_the_reference(serve, package) -> None:
    """Shares of |SHAP| by feature, in the order of the manifest."""
    client = serve()
    sent = send(client, package, 300, explain=True)
    found = report(client)["attribution"]
    assert (found["n"], found["reference_n"]) == (300, 400)
    expected = list(drift_truth.attribution(package, np.array(sent.values)))
    for entry, numbers in zip(found["features"], expected, strict=True):
        assert (entry.pop("feature"), entry.pop("state")) == (numbers.pop("feature"), numbers.pop("state"))
        assert entry == pytest.approx(numbers, rel=1e-5)
    assert found["state"] == "drift"
    assert sum(entry["share"] for entry in found["features"]) == pytest.approx(1)


def test_few_rows_are_insufficient(serve, package) -> None:
    """Numbers are shown, nothing is claimed."""
    client = serve()
    send(client, package, 199, explain=True)
    found = report(client)
    states = [entry["state"] for entry in (*found["features"], *found["scores"], found["attribution"])]
    states += [share["state"] for entry in found["features"] for share in entry["shares"].values()]
    states += [group["state"] for part in found["group_scores"] for group in part["groups"]]
    assert {*states, found["state"]} == {"insufficient"}
    assert found["features"][0]["psi"]["value"] > 0.1


def test_expected_performance_stands_beside_the_realised(serve, package) -> None:
    """CBPE from the calibrators of the group or of all, and what outcomes say so far with Wilson intervals."""
    client = serve()
    sent = send(client, package)
    chance = np.random.default_rng(3)
    actual = [("fraud" if chance.random() < score else "legitimate") for score in sent.scores]
    labelled = [i for i in range(len(actual)) if i % 3]
    outcomes = [{"id": sent.ids[i], "label": actual[i]} for i in labelled]
    assert client.request("POST", "/v1/models/toy:outcomes", json={"outcomes": outcomes}).status_code == 200
    found = {part["sensitive_feature"]: part["groups"] for part in report(client)["performance"]}
    declared = {feature["name"]: feature["groups"] for feature in package.manifest["sensitive_features"]}
    assert {name: [group["group"] for group in groups] for name, groups in found.items()} == declared
    for name, groups in found.items():
        for entry in groups:
            group = entry["group"]
            mine = sent.mine(name, group)
            assert entry["n"] == len(mine)
            assert entry["labelled"] == len(set(mine) & set(labelled))
            assert entry["calibrator"] == ("group" if group == "female" else "pooled")
            assert entry["state"] == "ok"
            expected = drift_truth.expected_rates(sent.calibrated(name, group), "fraud")
            pairs = [(sent.labels[i], actual[i]) for i in mine if i in labelled]
            for rate, numbers in expected.items():
                assert entry["rates"][rate]["expected"] == near(
                    dict(zip(("value", "low", "high"), numbers, strict=True))
                )
                assert_realised(entry["rates"][rate]["realised"], pairs, rate)


def assert_realised(found, pairs, rate):
    """A rate of (predicted, actual) pairs."""
    condition = {"true_positive_rate": 1, "false_positive_rate": 1, "positive_predictive_value": 0}[rate]
    wanted = "legitimate" if rate == "false_positive_rate" else "fraud"
    among = [pair for pair in pairs if pair[condition] == wanted]
    k = sum(pair[1 - condition] == "fraud" for pair in among)
    assert (found["numerator"], found["denominator"]) == (k, len(among))
    low, high = proportion_confint(k, len(among), 0.05, method="wilson")
    assert (found["value"], found["low"], found["high"]) == near((k / len(among), low, high))


def test_a_model_without_sensitive_features_has_a_drift_report(serve, tmp_path) -> None:
    """What is compared by group is not there."""
    models = tmp_path / "models"
    calibrators = {"pooled": {"method": "sigmoid", "n": 9, "scores": [0.5], "probabilities": [0.5]}}
    folder = toy.write_toy(models, sensitive_features=[])
    package = drift_truth.Package(add_reference(folder, groups=None, calibrators=calibrators))
    client = serve()
    sent = post(client, Sent(package), body(rows(250)))
    found = report(client)
    assert (found["n"], found["group_scores"], found["performance"]) == (250, [], [])
    assert_distribution(found["scores"][0], sent.of_scores(), package.scores["fraud"], 1)
