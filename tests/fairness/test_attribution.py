"""What drives a gap: differences of mean SHAP values add up to that of mean margins, wherever they are read."""

import json
import random
from collections import defaultdict

import explained
import numpy as np
import pytest
import stub
import toy
from scraping import scrape
from servers import CHECKOUT, eventually, running

REPOSITORY = CHECKOUT / "models" / "repository"
TOLERANCE = 1e-4
# Explanations of the diagnosis model are estimates that take some milliseconds each.
ROWS = {"transaction": 400, "diagnosis": 60}
ROWS_PER_REQUEST = 20
# Explanations take what predictions leave: on a machine that is busy otherwise, that is little. Each look takes of it.
PATIENT = {"seconds": 120, "every": 0.2}
ROWS_COUNTED = "plumbline_attribution_rows_total"
SAMPLES = "plumbline_explanation_samples_total"


def people(model):
    """(instance, groups) of held-out rows: with their own groups, or with drawn ones where the data has none."""
    folder = REPOSITORY / model / "1"
    declared = json.loads((folder / "manifest.json").read_text())["sensitive_features"]
    dice = random.Random(7)
    found = []
    for line in (folder / "replay.jsonl").read_text().splitlines()[: ROWS[model]]:
        row = json.loads(line)
        drawn = {feature["name"]: dice.choice(feature["groups"]) for feature in declared}
        found.append((row["instance"], row.get("sensitive_features") or drawn))
    return found


def replay(http, model, **fields):
    """Post all of them, some at a time; the entries of the explanations, if there are any."""
    rows, entries = people(model), []
    for start in range(0, len(rows), ROWS_PER_REQUEST):
        instances, groups = zip(*rows[start : start + ROWS_PER_REQUEST], strict=True)
        body = {"instances": instances, "sensitive_features": groups} | fields
        entries += stub.post(http, f"/v1/models/{model}:predict", body).get("explanations", [])
    return entries


def means_of_metrics(found, model, feature):
    """{group: (rows, mean margin, {feature: mean SHAP value})} of one sensitive feature, from one scrape."""
    where = {"model_name": model, "sensitive_feature": feature}

    def signed(name, **labels):
        return sum(
            found.sum(name, **where, **labels, sign=sign) * factor
            for sign, factor in (("positive", 1), ("negative", -1))
        )

    means = {}
    for labels, rows in found.of(ROWS_COUNTED, **where):
        group = labels["group"]
        if rows:
            series = found.of("plumbline_attribution_sum_total", **where, group=group)
            names = {own["feature"] for own, _ in series}
            sums = {name: signed("plumbline_attribution_sum_total", group=group, feature=name) for name in names}
            margin = signed("plumbline_attribution_margin_sum_total", group=group)
            means[group] = rows, margin / rows, {name: value / rows for name, value in sums.items()}
    return means


def assert_adds_up(report, found, model):
    """In the report and in the scrape, for every group of every sensitive feature; how many comparisons there were."""
    compared = 0
    for feature in report["sensitive_features"]:
        if feature["intersection_of"]:
            assert all(group["attribution"] is None for group in feature["groups"])
            assert found.of(ROWS_COUNTED, model_name=model, sensitive_feature=feature["name"]) == []
            continue
        means = means_of_metrics(found, model, feature["name"])
        _, reference_margin, reference_values = means[feature["reference_group"]]
        for group in feature["groups"]:
            attribution = group["attribution"]
            if attribution is None:
                assert group["group"] not in means or group["group"] == feature["reference_group"]
                continue
            rows, margin, values = means[group["group"]]
            shown = {entry["feature"]: entry["difference"] for entry in attribution["features"]}
            assert sum(shown.values()) == pytest.approx(attribution["mean_margin_difference"], abs=TOLERANCE)
            sizes = [abs(difference) for difference in shown.values()]
            assert sizes == sorted(sizes, reverse=True)
            assert attribution["n"] == rows
            counted = {name: values[name] - reference_values[name] for name in values}
            assert sum(counted.values()) == pytest.approx(margin - reference_margin, abs=TOLERANCE)
            assert counted == pytest.approx(shown, abs=1e-6)
            compared += 1
    return compared


@pytest.mark.parametrize("model", ROWS)
def test_asked_explanations_add_up_to_the_gap(serve, model) -> None:
    """With `explain: true`, by group, in the report and in `/metrics`; the means are those of the answers."""
    client = serve(REPOSITORY, explain_sample_ratio=0, suppress_small_cells=False, request_timeout_seconds=60)
    entries = replay(client, model, explain=True)
    report, found = stub.report(client, model), scrape(client)
    assert assert_adds_up(report, found, model) >= 4
    for feature in report["sensitive_features"][:2]:
        by_group = defaultdict(list)
        for (_, groups), entry in zip(people(model), entries, strict=True):
            by_group[groups[feature["name"]]].append(entry)
        for group, (rows, margin, values) in means_of_metrics(found, model, feature["name"]).items():
            assert rows == len(by_group[group])
            assert margin == pytest.approx(np.mean([entry["fx"][0] for entry in by_group[group]]), abs=1e-5)
            answered = np.mean([entry["values"] for entry in by_group[group]], axis=0)[:, 0]
            names = by_group[group][0]["feature_names"]
            assert values == pytest.approx(dict(zip(names, answered, strict=True)), abs=1e-5)


def test_sampled_explanations_add_up_to_the_gap(tmp_path) -> None:
    """With PLUMBLINE_EXPLAIN_SAMPLE_RATIO=1 every row is explained for the monitor, when nobody waits for one."""
    settings = {"explain_sample_ratio": 1, "suppress_small_cells": "false"}
    with running(tmp_path / "server.log", REPOSITORY, **settings) as server:

        def rows_explained(model):
            return scrape(server.http).sum(SAMPLES, model_name=model, result="explained")

        for model, rows in ROWS.items():
            for start in range(0, rows, 100):  # fewer than may wait
                part = people(model)[start : start + 100]
                instances, groups = zip(*part, strict=True)
                body = {"instances": instances, "sensitive_features": groups}
                stub.post(server.http, f"/v1/models/{model}:predict", body)
                posted = start + len(part)
                assert eventually(lambda model=model, posted=posted: rows_explained(model) == posted, **PATIENT), model
            report, found = stub.report(server.http, model), scrape(server.http)
            assert assert_adds_up(report, found, model) >= 4
            assert found.sum(SAMPLES, model_name=model) == rows


@pytest.fixture
def serve_toy(serve, tmp_path):
    """Serve the toy with its linear explainer."""
    explained.add_explainer(toy.write_toy(tmp_path), explained.linear_explainer())
    return lambda **settings: serve(**{"explain_sample_ratio": 0, "suppress_small_cells": False} | settings)


SEXES = [{"sex": "female"}, {"sex": "male"}, {"sex": "female"}, {"sex": "male"}]
# Four rows that are explained by hand: of the toy's margin, the amounts make up half each.
ROWS_OF_TOY = [{"amount": 100}, {"amount": 40}, {"amount": 0, "balance": -9}, {"amount": 20}]


def test_what_drives_a_gap_is_what_a_person_would_say(serve_toy) -> None:
    """Women pay 20 more and have a balance 5.5 lower on average: 0.5 * 20 and 2 * -5.5 in margin units."""
    client = serve_toy()
    answer = client.predict(toy.request(*ROWS_OF_TOY, sensitive_features=SEXES, explain=True))
    assert answer.status_code == 200
    attribution = stub.feature_of(stub.report(client, "toy"), "sex")[1]["female"]["attribution"]
    differences = {entry["feature"]: entry["difference"] for entry in attribution["features"]}
    expected = {"amount": 10, "balance": -11, "hour": 0, "cross_border": 0, "entry_mode": 0}
    assert differences == pytest.approx(expected, abs=1e-5)
    assert attribution["mean_margin_difference"] == pytest.approx(-1, abs=1e-5)
    assert (attribution["n"], attribution["features"][0]["feature"]) == (2, "balance")


@pytest.mark.parametrize("when", ["negative", "positive"])
def test_a_selection_by_outcome_does_not_enter_the_means(serve_toy, when) -> None:
    """Rows of a filtered request are explained to their caller, and left out of sums in metrics and report."""
    client = serve_toy()
    body = toy.request(*ROWS_OF_TOY, sensitive_features=SEXES, explain={"if": when})
    statuses = {entry["status"] for entry in client.predict(body).json()["explanations"]}
    assert statuses == {"exact", "skipped"}
    assert scrape(client).sum(ROWS_COUNTED) == 0
    assert stub.feature_of(stub.report(client, "toy"), "sex")[1]["female"]["attribution"] is None


@pytest.mark.parametrize("audit", ["before_response", "after_response"])
@pytest.mark.parametrize("sampled", [False, True])
def test_a_retry_counts_once(serve_toy, audit, sampled) -> None:
    """Nothing is added when ids are sent again, whether explained for the caller or for the monitor."""
    client = serve_toy(audit=audit, explain_sample_ratio=int(sampled))
    body = toy.request(*ROWS_OF_TOY, sensitive_features=SEXES, ids=["a", "b", "c", "d"], explain=not sampled)
    for _ in range(3):
        assert client.predict(body).status_code == 200
    client.predict(toy.request({}, sensitive_features=[{"sex": "male"}], explain=not sampled))
    assert eventually(lambda: scrape(client).sum(ROWS_COUNTED, group="male") == 3, **PATIENT)  # the last comes last
    found = scrape(client)
    assert found.sum(ROWS_COUNTED, sensitive_feature="sex") == 5
    assert found.sum(SAMPLES, result="explained") == (5 if sampled else 0)
    assert found.sum("plumbline_predictions_total", sensitive_feature="sex") == 5
    assert stub.feature_of(stub.report(client, "toy"), "sex")[1]["female"]["attribution"]["n"] == 2


@pytest.mark.parametrize("sampled", [False, True])
def test_partly_repeated_request_counts_what_is_new(serve_toy, sampled) -> None:
    """Of a retry with two more rows, those count."""
    client = serve_toy(explain_sample_ratio=int(sampled))
    for rows in (2, 4):
        fields = {"sensitive_features": SEXES[:rows], "ids": list("abcd")[:rows], "explain": not sampled}
        assert client.predict(toy.request(*ROWS_OF_TOY[:rows], **fields)).status_code == 200
    assert eventually(lambda: scrape(client).sum(ROWS_COUNTED, sensitive_feature="sex") == 4, **PATIENT)


def test_a_row_explained_to_its_caller_is_not_sampled_too(serve_toy) -> None:
    """Where all rows are sampled, those asked for count once."""
    client = serve_toy(explain_sample_ratio=1)
    client.predict(toy.request(*ROWS_OF_TOY, sensitive_features=SEXES, explain=True))
    client.predict(toy.request(*ROWS_OF_TOY, sensitive_features=SEXES))
    assert eventually(lambda: scrape(client).sum(SAMPLES, result="explained") == 4, **PATIENT)
    assert scrape(client).sum(ROWS_COUNTED, sensitive_feature="sex") == 8


def test_sampling_draws_the_share_that_is_set(serve_toy) -> None:
    """A fifth of 20,000 rows, within six standard deviations, up to 256 of them still waiting; of either sex alike."""
    client = serve_toy(explain_sample_ratio=0.2)
    groups = [{"sex": "female" if place % 4 < 2 else "male"} for place in range(1000)]
    body = toy.request(*ROWS_OF_TOY * 250, sensitive_features=groups)
    for _ in range(20):
        assert client.predict(body).status_code == 200
    found = scrape(client)
    slack = 6 * np.sqrt(20_000 * 0.2 * 0.8)
    assert 4000 - 256 - slack <= found.sum(SAMPLES) <= 4000 + slack
    explained_rows = found.sum(ROWS_COUNTED, sensitive_feature="sex")
    of_women = found.sum(ROWS_COUNTED, sensitive_feature="sex", group="female")
    assert abs(of_women - explained_rows / 2) <= 6 * np.sqrt(explained_rows / 4)


def test_nothing_is_sampled_at_a_share_of_0(serve_toy) -> None:
    """Nobody is explained who was not asked about."""
    client = serve_toy()
    for _ in range(5):
        client.predict(toy.request(*ROWS_OF_TOY, sensitive_features=SEXES))
    assert scrape(client).sum(SAMPLES) == 0
