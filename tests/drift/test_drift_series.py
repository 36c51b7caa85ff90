"""`/metrics` about drift: every label set from the start, constants that numpy and scipy compute from the reference."""

import shutil
import subprocess

import drift_truth
import numpy as np
import pytest
import toy
from drift_traffic import Sent, bodies, post
from referenced import FEATURES, add_reference
from scipy import stats
from scraping import scrape
from servers import CHECKOUT

from service.monitor.exposition import FAMILIES

COMMITTED = CHECKOUT / "models" / "repository"
DRIFT = (
    "plumbline_feature_",
    "plumbline_score_observations",
    "plumbline_score_reference",
    "plumbline_score_psi",
    "plumbline_group_score_",
    "plumbline_calibrated_",
    "plumbline_reference_info",
    "plumbline_input_share_z",
    "plumbline_attribution_magnitude",
    "plumbline_attribution_reference",
    "plumbline_attribution_share_z",
)
CONSTANTS = ("reference", "quantile", "_z")


def drift_samples(found, name):
    """Those of a model."""
    model = ("model_name", name)
    return {key: number for key, number in found.samples.items() if key[0].startswith(DRIFT) and model in key[1]}


def counted(key):
    """Whether a series counts, rather than states a constant."""
    return not any(part in key[0] for part in CONSTANTS)


def expected_series(package):
    """{(name, labels): constant, or 0 for what is counted} as the contract lists them."""
    made = {}

    def add(name, number, **labels):
        made[f"plumbline_{name}", tuple(sorted(labels.items()))] = number

    def each(bins):
        for words, kind, cell in zip(bins.names, bins.kinds, bins.cell_names, strict=True):
            yield {"bin": words, "kind": kind, "cell": cell}

    def compare(subject, labels, bins, comparisons):
        for own, rows in zip(each(bins), bins.reference, strict=True):
            add(f"{subject}_reference_observations", rows, **labels, **own)
        add(f"{subject}_psi_chi2_quantile", bins.quantile(comparisons), **labels)

    def count(subject, labels, bins):
        for own in each(bins):
            add(f"{subject}_observations_total", 0, **labels, **own)

    own, d = package.own, len(package.features)
    add("reference_info", 1, **own)
    add("input_share_z", stats.norm.isf(drift_truth.ERROR / (3 * d)), **own)
    for declared, bins in zip(package.manifest["features"], package.features, strict=True):
        labels = own | {"feature": declared["name"]}
        count("feature", labels, bins)
        compare("feature", labels, bins, d)
    for label, bins in package.scores.items():
        labels = own | {"class": label}
        count("score", labels, bins)
        compare("score", labels, bins, len(package.scores))
    for name, groups in package.sensitive_features():
        if package.positive is None:
            continue
        of_set = own | {"sensitive_feature": name, "class": package.positive}
        known = package.groups_with_scores(name)
        for group in groups:
            count("group_score", of_set | {"group": group}, known.get(group, package.scores[package.positive]))
        for group, bins in known.items():
            compare("group_score", of_set | {"group": group}, bins, len(known))
        for group in groups if "calibrators" in package.reference else ():
            for label in package.manifest["classes"]:
                labels = package.model | {"sensitive_feature": name, "group": group, "predicted": str(label)}
                add("calibrated_score_sum_total", 0, **labels)
                add("calibrated_score_variance_sum_total", 0, **labels)
    if attributions := package.reference.get("attributions"):
        add("attribution_magnitude_rows_total", 0, **package.model)
        add("attribution_reference_rows", attributions["n"], **own)
        add("attribution_share_z", stats.norm.isf(drift_truth.ERROR / (2 * d)), **own)
        for part in attributions["features"]:
            add("attribution_magnitude_sum_total", 0, **package.model, feature=part["name"])
            add("attribution_reference_share", part["share"], **own, feature=part["name"])
            add("attribution_reference_deviation", part["deviation"], **own, feature=part["name"])
    return made


def assert_as_expected(found, package):
    """The same series, and the same numbers."""
    there = drift_samples(found, package.manifest["name"])
    expected = expected_series(package)
    assert there.keys() == expected.keys()
    assert np.array([there[key] for key in expected]) == pytest.approx(np.array(list(expected.values())), rel=1e-9)


@pytest.mark.parametrize(
    "without",
    [(), ("groups",), ("calibrators",), ("attributions",), ("groups", "calibrators", "attributions", "scores")],
    ids=lambda names: "all" if not names else "without " + " ".join(names),
)
def test_the_first_scrape_has_every_series(serve, tmp_path, without) -> None:
    """Counters at 0 and constants as scipy has them; and no other series of drift, now and after traffic."""
    folder = add_reference(toy.write_toy(tmp_path / "models"), **dict.fromkeys(without))
    package = drift_truth.Package(folder)
    client = serve()
    first = scrape(client)
    assert_as_expected(first, package)
    post(client, Sent(package), *bodies(30, 10))
    later = drift_samples(scrape(client), "toy")
    assert later.keys() == drift_samples(first, "toy").keys()
    assert all(number == later[key] for key, number in drift_samples(first, "toy").items() if not counted(key))


def test_a_package_with_an_explainer_and_an_intersection_has_the_same_series(serve, package) -> None:
    """Intersections make none of drift."""
    found = scrape(serve())
    assert_as_expected(found, package)
    assert not [key for key in drift_samples(found, "toy") if ("sensitive_feature", "sex x age_band") in key[1]]


@pytest.mark.parametrize("name", ["diagnosis", "progression", "transaction"])
def test_committed_packages_have_every_series(serve, name) -> None:
    """Of features in the order and the words of their own references."""
    assert_as_expected(scrape(serve(COMMITTED)), drift_truth.Package(COMMITTED / name / "1"))


def test_a_package_without_a_reference_has_no_series_of_drift(serve, tmp_path) -> None:
    """It is served, and refused values are counted for it too."""
    toy.write_toy(tmp_path / "models")
    client = serve()
    assert client.predict(toy.request()).status_code == 200
    found = scrape(client)
    assert drift_samples(found, "toy") == {}
    assert len(found.of("plumbline_refused_values_total", model_name="toy")) == 5 * 4


def test_refused_values_are_there_at_0(serve, package) -> None:
    """Each feature with each reason."""
    found = scrape(serve()).of("plumbline_refused_values_total", **package.model)
    features = {feature["name"] for feature in package.manifest["features"]}
    assert {(own["feature"], own["reason"]) for own, _ in found} == {
        (feature, reason) for feature in features for reason in ("category", "range", "absent", "type")
    }
    assert all(number == 0 for _, number in found)


def test_the_limit_counts_every_series(serve, folder) -> None:
    """One fewer than there are refuses the package, and the message says how many there are."""
    exported = tuple(family.name for family in FAMILIES)
    samples = scrape(serve()).samples
    there = [key for key in samples if key[0].startswith(exported) and ("model_name", "toy") in key[1]]
    assert serve(max_series=len(there)).get("/v2/health/ready").status_code == 200
    refused = serve(max_series=len(there) - 1)
    ready = refused.get("/v2/health/ready")
    assert ready.status_code == 503
    message = f"its groups and features make {len(there)} series, PLUMBLINE_MAX_SERIES allows {len(there) - 1}"
    assert message in ready.json()["error"]
    assert drift_samples(scrape(refused), "toy") == {}


def test_series_end_with_the_version_that_is_served(serve, tmp_path) -> None:
    """Two versions with different references count apart, each in its own bins."""
    models = tmp_path / "models"
    one = add_reference(toy.write_toy(models, version=1))
    wide = [{"class": "fraud", "edges": [0.0, 0.5, 1.0], "counts": {"bins": [300, 100]}}]
    two = add_reference(toy.write_toy(models, version=2), scores=wide, groups=None, calibrators=None)
    first, second = drift_truth.Package(one), drift_truth.Package(two)
    assert first.id != second.id
    client = serve()
    post(client, Sent(first), *bodies(20, 20), model="toy/versions/1")
    post(client, Sent(second), *bodies(7, 7))
    found = scrape(client)
    for package, n in ((first, 20), (second, 7)):
        for feature in package.manifest["features"]:
            assert found.sum("plumbline_feature_observations_total", **package.own, feature=feature["name"]) == n
        assert found.sum("plumbline_score_observations_total", **package.own) == n


def test_names_of_committed_packages_fit_into_their_limit(serve) -> None:
    """The default number of series is enough for all of them."""
    assert serve(COMMITTED).get("/v2/health/ready").status_code == 200


def test_categories_of_any_text_are_labels(serve, tmp_path) -> None:
    """Quotes, backslashes, line ends and other letters come back from a parser as they were declared."""
    names = ['"chip"', "con\\tactless", "on\nline ü"]

    def renamed(features):
        return [feature | ({"categories": names} if feature["name"] == "entry_mode" else {}) for feature in features]

    folder = toy.write_toy(tmp_path / "models", features=renamed(toy.TOY_FEATURES))
    package = drift_truth.Package(add_reference(folder, features=renamed(FEATURES)))
    client = serve()
    assert client.predict(toy.request({"entry_mode": names[2]})).status_code == 200
    found = scrape(client)
    counted_bins = found.of("plumbline_feature_observations_total", **package.own, feature="entry_mode")
    assert {own["bin"]: number for own, number in counted_bins} == {
        f"00 {names[0]}": 0,
        f"01 {names[1]}": 0,
        f"02 {names[2]}": 1,
        "03 other": 0,
    }
    assert client.get("/v1/models/toy/drift").json()["features"][3]["bins"][2]["bin"] == names[2]


def test_prometheus_has_nothing_to_say_against_the_names(serve, package) -> None:
    """`promtool check metrics` on a whole scrape."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    client = serve()
    post(client, Sent(package), *bodies(30, 10))
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=scrape(client).text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
