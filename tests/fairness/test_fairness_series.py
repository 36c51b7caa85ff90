"""`/metrics` about groups: every label set from the start, each thing counted once, nothing of a model that is gone.

Expected label sets are written down from the manifest as JSON, not from the service's own classes.
"""

import asyncio
import itertools
import json
import subprocess
import sys

import explained
import numpy as np
import pytest
import stub
import toy
from declared import SEX, declared
from exposition import samples
from prometheus_client import CollectorRegistry, generate_latest
from scraping import Scrape, scrape
from servers import CHECKOUT, environment

from service.app import create_app
from service.manifest import read_manifest
from service.monitor.counters import AttributionTotal, Counters, Explained
from service.monitor.metrics import Metrics
from service.monitor.monitor import FairnessMonitor
from service.settings import read_settings

RESERVED = ("unknown", "declined", "other")
BINS = [f"{low / 10}-{(low + 1) / 10}" for low in range(10)]
RESULTS = ("joined", "duplicate", "conflict", "unknown", "expired", "corrected")


def write_trio(root, **manifest):
    """Three classes, of which 30 is the positive one and 10 the favourable one."""
    return toy.write(
        root / "trio" / "1",
        toy.trio_model(),
        [[0.0, 0.0], [1.0, -1.0]],
        **{
            "task": "multiclass",
            "link": "softmax",
            "classes": [10, 20, 30],
            "positive_class": 30,
            "favourable_outcome": 10,
            "threshold": None,
            "features": [{"name": "x", "kind": "numeric"}, {"name": "y", "kind": "numeric"}],
            "sensitive_features": toy.SENSITIVE_FEATURES,
            "intersections": [["sex", "age_band"]],
        }
        | manifest,
    )


def write_explained(root, **manifest):
    folder = toy.write_toy(root, intersections=[["sex", "age_band"]], **manifest)
    explained.add_explainer(folder, explained.linear_explainer())
    return folder


def declared_series(folder):
    """Every series (name, labels) that the groups of this package are to have, as the contract lists them."""
    manifest = json.loads((folder / "manifest.json").read_text())
    model = {"model_name": manifest["name"], "model_version": manifest["version"]}
    classes = [str(label) for label in manifest["classes"]]
    singles = {feature["name"]: feature for feature in manifest["sensitive_features"]}
    features = [(name, feature["groups"], feature["reference_group"], True) for name, feature in singles.items()]
    for names in manifest.get("intersections", []):
        groups = [" x ".join(of) for of in itertools.product(*(singles[name]["groups"] for name in names))]
        features.append((" x ".join(names), groups, " x ".join(singles[n]["reference_group"] for n in names), False))
    for label in manifest["classes"]:
        roles = {
            role: str(label == manifest.get(key)).lower()
            for role, key in (("positive", "positive_class"), ("favourable", "favourable_outcome"))
        }
        yield "plumbline_class_info", model | {"class": str(label)} | roles
    yield "plumbline_label_delay_seconds_count", model
    for name, groups, reference, single in features:
        of_feature = model | {"sensitive_feature": name}
        yield "plumbline_reference_group_info", of_feature | {"group": reference}
        yield "plumbline_simultaneous_z", of_feature
        yield "plumbline_simultaneous_difference_z", of_feature
        for status in ("known", *RESERVED):
            yield "plumbline_sensitive_feature_values_total", of_feature | {"status": status}
        for group in (*groups, *RESERVED):
            of_group = of_feature | {"group": group}
            yield from _of_group(of_group, classes, binned=single)
        for group in groups if single and "explainer" in manifest else ():
            of_group = of_feature | {"group": group}
            yield "plumbline_attribution_rows_total", of_group
            for sign in ("positive", "negative"):
                yield "plumbline_attribution_margin_sum_total", of_group | {"sign": sign}
                for feature in manifest["features"]:
                    labels = of_group | {"feature": feature["name"], "sign": sign}
                    yield "plumbline_attribution_sum_total", labels


def _of_group(of_group, classes, *, binned):
    for predicted in classes:
        yield "plumbline_predictions_total", of_group | {"predicted": predicted}
        yield "plumbline_score_sum_total", of_group | {"predicted": predicted}
        yield "plumbline_outcome_score_sum_total", of_group | {"actual": predicted}
        for actual in classes:
            yield "plumbline_outcomes_total", of_group | {"predicted": predicted, "actual": actual}
        for before, after in itertools.permutations(classes, 2):
            moved = {"predicted": predicted, "from_actual": before, "to_actual": after}
            yield "plumbline_outcome_corrections_total", of_group | moved
    for place in BINS if binned else ():
        for actual in classes:
            yield "plumbline_outcome_score_bin_total", of_group | {"bin": place, "actual": actual}


@pytest.mark.parametrize("write", [write_explained, toy.write_toy, write_trio])
def test_every_declared_label_set_is_there_at_0(serve, tmp_path, write) -> None:
    """Before the first request, and no other: a series that is first seen at 5 has an increase of 0."""
    folder = write(tmp_path)
    name = folder.parent.name
    found = scrape(serve(max_series=5000))
    expected = {(series, tuple(sorted(labels.items()))) for series, labels in declared_series(folder)}
    delay = {"plumbline_label_delay_seconds_bucket", "plumbline_label_delay_seconds_sum"}
    there = found.fairness(name)
    assert {key for key in there if key[0] not in delay} == expected
    gauges = (
        "plumbline_class_info",
        "plumbline_reference_group_info",
        "plumbline_simultaneous_z",
        "plumbline_simultaneous_difference_z",
    )
    assert all((number > 0) if key[0] in gauges else (number == 0) for key, number in there.items())
    for result in RESULTS:
        assert found.value("plumbline_outcomes_received_total", model_name=name, result=result) == 0
    assert found.value("plumbline_monitor_failures_total") == 0
    assert found.value("plumbline_monitor_last_success_timestamp_seconds") > 1.7e9
    seen = serve(max_series=5000)
    row = toy.request({}) if name == "toy" else {"instances": [{"x": 1, "y": 0}]}
    assert seen.predict(row, model=name).status_code == 200
    assert scrape(seen).fairness(name).keys() == there.keys()


def predictions(found, feature, predicted, **labels):
    """{group: n} of the groups with predictions of this class."""
    series = found.of("plumbline_predictions_total", sensitive_feature=feature, predicted=predicted, **labels)
    return {own["group"]: number for own, number in series if number}


PEOPLE = [
    {"sex": "female", "age_band": "18-29"},
    {"sex": "female", "age_band": "declined"},
    {"sex": "Female", "age_band": "50+"},
    {"sex": "declined"},
    {},
    {"sex": "male", "age_band": "unknown"},
    {"sex": "other", "age_band": "30-49"},
]


def test_reserved_groups_are_counted_apart(serve, tmp_path) -> None:
    """Absent is unknown, undeclared is other, and case matters; a combination with a reserved part is reserved."""
    write_explained(tmp_path)
    client = serve()
    assert client.predict(toy.request(*[{}] * len(PEOPLE), sensitive_features=PEOPLE)).status_code == 200
    found = scrape(client)
    assert predictions(found, "sex", "fraud") == {"female": 2, "male": 1, "unknown": 1, "declined": 1, "other": 2}
    assert predictions(found, "age_band", "fraud") == {"18-29": 1, "30-49": 1, "50+": 1, "declined": 1, "unknown": 3}
    both = predictions(found, "sex x age_band", "fraud")
    assert both.pop("female x 18-29") == 1
    assert both.keys() <= set(RESERVED)
    assert sum(both.values()) == 6
    statuses = found.of("plumbline_sensitive_feature_values_total", sensitive_feature="sex")
    assert {labels["status"]: n for labels, n in statuses} == {"known": 3, "unknown": 1, "declined": 1, "other": 2}


def test_reserved_groups_enter_no_gap(serve, tmp_path) -> None:
    """They are shown, with their rates, and are neither compared nor part of a disparity."""
    toy.write_toy(tmp_path)
    client = serve(suppress_small_cells=False)
    rows = [({}, "female"), ({}, "male"), ({"balance": -9}, "unheard of"), ({"balance": -9}, "declined")]
    body = toy.request(*(change for change, _ in rows), sensitive_features=[{"sex": sex} for _, sex in rows])
    client.predict(body)
    feature, groups = stub.feature_of(stub.report(client, "toy"), "sex")
    assert {name: group["n"] for name, group in groups.items() if group["kind"] == "reserved"} == {
        "unknown": 0,
        "declined": 1,
        "other": 1,
    }
    assert groups["other"]["rates"]["selection_rate"]["value"] == 1
    assert groups["other"]["against_reference"] is None
    assert feature["disparities"]["demographic_parity_difference"]["value"] == 0


def test_scores_are_summed_and_binned(serve, tmp_path) -> None:
    """By predicted class and, once the outcome is known, by actual class and bin; 1.0 is in the last bin."""
    stub.write(tmp_path, "stub", {"sex": "male"}, groups={"sex": ["female", "male"]})
    client = serve()
    scores = [0.0, 0.5, 1.0, 0.55]
    ids = list("abcd")
    body = {"instances": [{"score": score} for score in scores], "ids": ids}
    answers = stub.post(client, "/v1/models/stub:predict", body | {"sensitive_features": [{"sex": "female"}] * 4})
    served = [answer["probability"] for answer in answers["predictions"]]
    stub.post(client, "/v1/models/stub:outcomes", {"outcomes": [{"id": i, "label": 1} for i in ids[2:]]})
    found = scrape(client)
    labels = {"sensitive_feature": "sex", "group": "female"}
    assert found.sum("plumbline_score_sum_total", **labels) == pytest.approx(sum(served))
    assert found.sum("plumbline_score_sum_total", **labels, predicted="0") == pytest.approx(served[0])
    assert found.sum("plumbline_outcome_score_sum_total", **labels, actual="1") == pytest.approx(sum(served[2:]))
    with_outcome = found.of("plumbline_outcome_score_bin_total", **labels, actual="1")
    assert {own["bin"]: n for own, n in with_outcome if n} == {"0.7-0.8": 1, "0.9-1.0": 1}
    assert found.value("plumbline_label_delay_seconds_count", model_name="stub", model_version="1") == 2


def test_a_model_of_three_classes_is_counted_by_all_and_judged_by_one(serve, tmp_path) -> None:
    """Nine cells in the metrics; in the report the positive class against the rest."""
    write_trio(tmp_path)
    client = serve(suppress_small_cells=False, max_series=5000)
    rows = {10: {"x": 9, "y": 0}, 20: {"x": 0, "y": 9}, 30: {"x": -9, "y": -9}}
    pairs = [*itertools.product(rows, rows), (30, 30), (10, 30)]
    ids = [f"{place}" for place in range(len(pairs))]
    body = {"instances": [rows[predicted] for predicted, _ in pairs], "ids": ids}
    groups = [{"sex": "female", "age_band": "50+"}] * len(pairs)
    answers = stub.post(client, "/v1/models/trio:predict", body | {"sensitive_features": groups})["predictions"]
    assert [answer["label"] for answer in answers] == [predicted for predicted, _ in pairs]
    labels = [{"id": i, "label": actual} for i, (_, actual) in zip(ids, pairs, strict=True)]
    stub.post(client, "/v1/models/trio:outcomes", {"outcomes": labels})
    found = scrape(client)
    for feature, group in (("sex", "female"), ("age_band", "50+"), ("sex x age_band", "female x 50+")):
        where = {"sensitive_feature": feature, "group": group}
        cells = found.of("plumbline_outcomes_total", **where)
        expected = {(str(p), str(a)): float(pairs.count((p, a))) for p, a in pairs}
        assert {(own["predicted"], own["actual"]): n for own, n in cells} == expected
        entry = stub.feature_of(stub.report(client, "trio"), feature)[1][group]
        assert entry["cells"] == {"true_positive": 2, "false_positive": 2, "false_negative": 3, "true_negative": 4}
        assert entry["predicted"] == {"10": 4, "20": 3, "30": 4}
        assert entry["rates"]["selection_rate"]["numerator"] == 4
    assert found.value(
        "plumbline_class_info",
        model_name="trio",
        model_version="1",
        **{"class": "30"},
        positive="true",
        favourable="false",
    )


def test_a_correction_moves_one_cell_to_another(serve, tmp_path) -> None:
    """First outcomes stay as they were counted; corrections say what to take away and add; the report nets them."""
    toy.write_toy(tmp_path)
    client = serve(suppress_small_cells=False)
    client.predict(toy.request({}, {}, ids=["a", "b"], sensitive_features=[{"sex": "female"}] * 2))

    def outcome(**item):
        found = stub.post(client, "/v1/models/toy:outcomes", {"outcomes": [{"id": "a"} | item]})
        (fate,) = (name for name, number in found.items() if number)
        return fate

    assert outcome(label="fraud") == "joined"
    assert outcome(label="fraud") == outcome(label="fraud", correction=True) == "duplicate"
    assert outcome(label="legitimate") == "conflict"
    assert outcome(label="legitimate", correction=True) == "corrected"
    assert outcome(id="nobody", label="fraud") == "unknown"
    found = scrape(client)
    where = {"sensitive_feature": "sex", "group": "female", "predicted": "fraud"}
    cells = {own["actual"]: number for own, number in found.of("plumbline_outcomes_total", **where)}
    moves = {
        (own["from_actual"], own["to_actual"]): number
        for own, number in found.of("plumbline_outcome_corrections_total", **where)
    }
    assert cells == {"fraud": 1, "legitimate": 0}
    assert moves == {("fraud", "legitimate"): 1, ("legitimate", "fraud"): 0}
    group = stub.feature_of(stub.report(client, "toy"), "sex")[1]["female"]
    assert group["cells"] == {"true_positive": 0, "false_positive": 1, "false_negative": 0, "true_negative": 0}
    received = {own["result"]: n for own, n in found.of("plumbline_outcomes_received_total", model_name="toy")}
    assert received == {"joined": 1, "duplicate": 2, "conflict": 1, "unknown": 1, "expired": 0, "corrected": 1}


def test_a_group_without_positives_has_no_rate_of_them_and_enters_no_gap(serve, tmp_path) -> None:
    """No positives, no TPR: not 0, which would make a gap of the other group's TPR."""
    groups = {"side": ["left", "right", "middle"]}
    stub.write(tmp_path, "stub", {"side": "right"}, groups=groups)
    client = serve(suppress_small_cells=False)
    people = [("left", 1, 0), ("left", 0, 0), ("right", 1, 1), ("right", 0, 0), ("middle", 0, 1), ("middle", 0, 1)]
    rows = [
        {"id": f"{place}", "score": predicted, "actual": actual, "groups": {"side": side}}
        for place, (side, predicted, actual) in enumerate(people)
    ]
    stub.predict(client, "stub", rows)
    stub.label(client, "stub", rows)
    feature, found = stub.feature_of(stub.report(client, "stub"), "side")
    undefined = {"value": None, "numerator": 0, "denominator": 0, "low": None, "high": None}
    assert found["left"]["rates"]["true_positive_rate"] == undefined
    assert found["middle"]["rates"]["false_positive_rate"] == undefined
    assert found["left"]["against_reference"]["true_positive_rate_difference"] == {
        "value": None,
        "low": None,
        "high": None,
        "state": "insufficient",
    }
    gaps = feature["disparities"]
    assert gaps["equal_opportunity_difference"]["value"] == 1  # right 1, middle 0
    assert gaps["false_positive_rate_difference"]["value"] == 0.5  # left 0.5, right 0
    assert gaps["equal_opportunity_difference_eligible"] is None
    scrape(client)


def test_a_package_of_too_many_series_is_refused_with_the_setting_named(serve, tmp_path) -> None:
    """The service is not ready and says why; the package beside it is served."""
    write_explained(tmp_path)
    toy.write_brittle(tmp_path)
    client = serve(max_series=300)
    ready = client.get("/v2/health/ready")
    assert ready.status_code == 503
    assert "toy/1" in ready.json()["error"]
    assert "PLUMBLINE_MAX_SERIES allows 300" in ready.json()["error"]
    assert client.predict(toy.request()).status_code == 503
    found = scrape(client)
    assert found.fairness("toy") == {}
    assert found.value("plumbline_model_ready", model_name="toy", model_version="1") == 0
    assert found.fairness("brittle") != {}


def test_a_package_just_within_the_limit_makes_as_many_series_as_were_counted(serve, tmp_path) -> None:
    """The limit is on what a scrape holds: one less than that refuses the package."""
    write_explained(tmp_path)
    there = len(scrape(serve()).fairness("toy"))
    assert serve(max_series=there).get("/v2/health/ready").status_code == 200
    assert serve(max_series=there - 1).get("/v2/health/ready").status_code == 503


def test_two_applications_count_apart(serve, tmp_path) -> None:
    """Each has its own monitor and registry."""
    toy.write_toy(tmp_path)
    first, second = serve(), serve()
    first.predict(toy.request(sensitive_features=[{"sex": "female"}]))
    assert scrape(first).sum("plumbline_predictions_total", sensitive_feature="sex") == 1
    assert scrape(second).sum("plumbline_predictions_total", sensitive_feature="sex") == 0


def test_versions_count_apart_and_an_outcome_under_the_one_that_predicted(serve, toys) -> None:
    """Version 9 predicted; version 10 is asked by name only."""
    client = serve(toys)
    client.predict(toy.request(ids=["a"], sensitive_features=[{"sex": "male"}]), model="toy/versions/9")
    stub.post(client, "/v1/models/toy:outcomes", {"outcomes": [{"id": "a", "label": "fraud"}]})
    found = scrape(client)
    for name in ("plumbline_predictions_total", "plumbline_outcomes_total"):
        by_version = {
            v: found.sum(name, model_name="toy", model_version=v, sensitive_feature="sex") for v in ("9", "10")
        }
        assert by_version == {"9": 1, "10": 0}


def test_forgetting_a_version_removes_its_series_and_no_other(tmp_path) -> None:
    """`Metrics.forget_model`: what is labelled with the version goes, its neighbours stay."""
    metrics = Metrics(CollectorRegistry())
    for version in ("1", "2"):
        metrics.expect(declared(SEX, explained=True, name="toy", version=version), fates=RESULTS)
        metrics.batch_observer("toy", version)(3, 0.01)
        metrics.explanations.labels("toy", version, "exact").inc()
        metrics.explanation_latency.labels("toy", version, "linear").observe(0.01)
        metrics.additivity_residual.labels("toy", version).observe(0)
    metrics.forget_model("toy", "1")
    labels = [dict(pairs) for _, pairs in samples(generate_latest(metrics.registry).decode())]
    assert {own["model_version"] for own in labels if "model_version" in own} == {"2"}
    assert {own["result"] for own in labels if own.get("model_name") == "toy" and "result" in own} >= set(RESULTS)


def test_a_model_that_leaves_the_repository_has_no_fairness_series(tmp_path) -> None:
    """The exposition follows what is loaded: nothing is kept of a model that is gone."""
    write_explained(tmp_path / "models")
    toy.write_toy(tmp_path / "models", name="stays")
    settings = read_settings(models=tmp_path / "models", device="cpu", records_url=f"sqlite:///{tmp_path}/r.db")
    app = create_app(settings)
    service = app.state.service

    def exposed():
        return Scrape(service.scrape().decode())

    async def live():
        async with app.router.lifespan_context(app):
            assert exposed().fairness("toy")
            gone = service.repository.models.pop("toy")
            service.metrics.forget_model("toy", "1")
            left = exposed()
            assert left.fairness("toy") == {}
            assert left.of("plumbline_explanation_samples_total", model_name="toy") == []
            assert left.of("plumbline_refused_values_total", model_name="toy") == []
            assert left.fairness("stays")
            await gone[1].batcher.close()

    asyncio.run(live())


def test_more_combinations_than_can_be_counted_are_refused(serve, tmp_path) -> None:
    """Six features of twenty groups: few series, and a hundred million ways to combine them."""
    groups = [str(number) for number in range(20)]
    features = [{"name": name, "groups": groups, "reference_group": "0"} for name in "abcdef"]
    toy.write_toy(tmp_path, sensitive_features=features)
    ready = serve(tmp_path, max_series=100_000).get("/v2/health/ready")
    assert ready.status_code == 503
    assert "148035889 combinations of groups" in ready.json()["error"]


def test_a_model_without_sensitive_features_has_no_report(serve, tmp_path) -> None:
    """A clear refusal, not a report of nobody."""
    toy.write_toy(tmp_path, sensitive_features=[])
    response = serve(tmp_path).get("/v1/models/toy/fairness")
    assert response.status_code == 501
    assert "declares no sensitive features" in response.json()["error"]


def test_check_refuses_a_package_of_too_many_series(tmp_path) -> None:
    """`python -m service check` says what the service would say."""
    write_explained(tmp_path)
    done = run_check(tmp_path, max_series=300)
    assert done.returncode == 1
    assert "refused  toy/1" in done.stdout
    assert "PLUMBLINE_MAX_SERIES allows 300" in done.stdout
    assert run_check(tmp_path).returncode == 0


def run_check(models, **settings):
    command = [sys.executable, "-m", "service", "check", str(models), "--device", "cpu"]
    return subprocess.run(
        command, cwd=CHECKOUT, env=environment(**settings), capture_output=True, text=True, timeout=60, check=False
    )


def test_saving_attributions_twice_at_once_loses_nothing(tmp_path) -> None:
    """Two that saved the same past day: the second finds it gone, and goes on."""
    manifest = read_manifest(write_explained(tmp_path))
    monitor, counters = FairnessMonitor(), Counters(manifest)
    group = counters.groups.of({"sex": "female"})
    counters.daily[0, group.text] = AttributionTotal(np.ones(5), rows=1, margin_sum=5.0)  # of 1970
    monitor.take_explained(counters, [Explained(group, [1.0] * 5, 5.0)])
    rows = {key: total.rows for key, total in monitor.changed_attributions(counters).items()}
    assert len(rows) == 2
    for _ in range(2):
        monitor.attributions_saved(counters, rows)
    assert monitor.changed_attributions(counters) == {}
    monitor.take_explained(counters, [Explained(group, [1.0] * 5, 5.0)])
    assert [total.rows for total in monitor.changed_attributions(counters).values()] == [2]
