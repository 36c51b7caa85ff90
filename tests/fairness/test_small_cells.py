"""Suppression: no count of 1 to 10 stands in a report, and none can be worked out from everything that does."""

import json
import re
from collections import Counter

import numpy as np
import pytest
import stub
import tables
from derivable import SMALL, Attacker, counts_shown, hidden_groups, people_of

from service.manifest import read_manifest
from service.monitor.report import fairness_report
from service.monitor.tally import tally

FEATURES = tuple(tables.COMPAS_REFERENCES)
DRAWN_BINS = (0, 3, 6, 9)
OUTCOME_GAPS = ("equal_opportunity", "false_positive_rate", "predictive_parity", "equalized_odds")


@pytest.fixture(scope="module")
def report(suppressing):
    return stub.report(suppressing.http, "compas")


def assert_hidden_consistently(report) -> None:
    """What is hidden is hidden in every number that rests on it."""
    for feature in report["sensitive_features"]:
        decisions, outcomes = hidden_groups(feature)
        assert decisions <= outcomes
        reference = feature["reference_group"]
        for group in feature["groups"]:
            name, compared = group["group"], group["against_reference"] or {}
            if name in decisions:
                assert group["predicted"] is group["rates"]["selection_rate"] is group["attribution"] is None
            if name in outcomes:
                rates = {rate: value for rate, value in group["rates"].items() if rate != "selection_rate"}
                assert group["cells"] is group["calibration"] is None
                assert set(rates.values()) == {None}
            for comparison, found in compared.items():
                of_decisions = comparison.startswith(("impact", "adverse", "selection"))
                hidden = decisions if of_decisions else outcomes
                assert (found.get("state") == "suppressed") == bool({name, reference} & hidden), (name, comparison)
                if {name, reference} & hidden:
                    assert found["value"] is found["low"] is found["high"] is None
        declared = {group["group"] for group in feature["groups"] if group["kind"] == "declared"}
        for gap, found in feature["disparities"].items():
            hidden = declared & (outcomes if gap.startswith(OUTCOME_GAPS) else decisions)
            assert (found == {"suppressed": True}) == bool(hidden), gap


def assert_safe(report, people, **known):
    """No small count is shown, and none follows; the number of those that an attacker would like to know."""
    assert [(path, n) for path, n in counts_shown(report) if n in SMALL] == []
    assert_hidden_consistently(report)
    attacker = Attacker(report, people, **known)
    assert attacker.derived() == []
    return attacker.small_counts()


def test_no_count_of_1_to_10_is_shown(report) -> None:
    """Anywhere in the report; 0 may."""
    assert report["suppression"] == {"enabled": True, "smallest_shown": 11}
    assert report["n"] == report["labelled"] == 7214
    assert [(path, n) for path, n in counts_shown(report) if n in SMALL] == []


def test_small_races_are_hidden_and_the_sexes_are_not(report) -> None:
    """32 Asians and 18 Native Americans are hidden, with the combinations of race and sex and all gaps of race."""
    race, groups = stub.feature_of(report, "race")
    decisions, outcomes = hidden_groups(race)
    assert decisions == {"Asian", "Native American"}
    assert decisions < outcomes
    assert all(found == {"suppressed": True} for found in race["disparities"].values())
    assert groups["African-American"]["cells"]["true_positive"] == 1369
    sex, _ = stub.feature_of(report, "sex")
    assert hidden_groups(sex) == (set(), set())
    assert sex["disparities"]["demographic_parity_difference"]["value"] == pytest.approx(0.0448094581)
    both, groups = stub.feature_of(report, tables.INTERSECTION)
    assert hidden_groups(both)[0] == set(groups)


def test_hiding_is_consistent(report) -> None:
    """A hidden group's rates, comparisons, calibration and gaps are hidden with its counts."""
    assert_hidden_consistently(report)


def test_no_hidden_cell_can_be_derived(report, compas) -> None:
    """Race, sex and their combinations together leave each small cell at least two values."""
    assert assert_safe(report, people_of(tables.rows(compas, FEATURES), FEATURES)) >= 40


def test_the_attack_finds_what_is_not_hidden(compas_records, compas) -> None:
    """Where suppression is off every small count follows: the attack is a real one."""
    server, _ = compas_records
    report = stub.report(server.http, "compas")
    attacker = Attacker(report, people_of(tables.rows(compas, FEATURES), FEATURES))
    assert (("race", "Asian"), "cell 0 1") in [what for what, _ in attacker.derived()]
    assert len(attacker.derived()) == attacker.small_counts()


def test_one_feature_asked_for_hides_the_same(suppressing, report) -> None:
    """A report about one sensitive feature shows no more of it than the whole."""
    for feature in report["sensitive_features"]:
        (alone,) = stub.report(suppressing.http, "compas", sensitive_feature=feature["name"])["sensitive_features"]
        assert alone == feature


def test_the_page_hides_what_the_report_hides(suppressing, report) -> None:
    """No count of 1 to 10 stands in a table of the page."""
    page = suppressing.http.get("/v1/models/compas/fairness", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "Native American" in page.text
    counts = re.findall(r'<td class="number">([0-9,. ]+)</td>', page.text)
    assert "3,696" in counts
    assert not {str(n) for n in SMALL} & set(counts)


def test_people_without_outcomes_are_not_derived_either(serve, compas, compas_package) -> None:
    """With outcomes for some, and people of unknown sex, the missing ones are one more cell to protect."""
    rows = tables.rows(compas.iloc[::4], FEATURES)
    for place, row in enumerate(rows):
        if place % 9 == 0:
            row["actual"] = None
        if place % 31 == 0:
            del row["groups"]["sex"]
    client = serve(compas_package)
    stub.predict(client, "compas", rows)
    stub.label(client, "compas", rows)
    assert assert_safe(stub.report(client, "compas"), people_of(rows, FEATURES)) >= 40


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Two sensitive features of three groups each, and their combinations."""
    groups = {"region": ["north", "south", "west"], "band": ["young", "middle", "old"]}
    references = {"region": "north", "band": "middle"}
    folder = stub.write(
        tmp_path_factory.mktemp("drawn"), "drawn", references, groups=groups, intersections=[["region", "band"]]
    )
    return read_manifest(folder)


@pytest.mark.parametrize("seed", range(32))
def test_no_drawn_table_gives_a_small_cell_away(manifest, seed) -> None:
    """Tables of groups of any size, with and without people of unknown group, with few and with many outcomes."""
    dice = np.random.default_rng(seed)
    features = ("region", "band")
    groups = [["north", "south", "west", "unknown"], ["young", "middle", "old", "unknown"]]
    n = int(dice.choice([20, 60, 150, 400, 1000]))
    even, unknown = dice.choice([0.5, 3, 20]), dice.choice([0, 0.01, 0.1, 0.3])
    shares = [np.append(dice.dirichlet([even] * 3), unknown) for _ in features]
    drawn = [dice.choice(names, n, p=share / share.sum()) for names, share in zip(groups, shares, strict=True)]
    bins = dice.choice(DRAWN_BINS, n, p=dice.dirichlet([2, 1, 1, 0.5]))
    actual = dice.random(n) < np.where(bins > 4, 0.6, 0.2)
    labelled = dice.random(n) < dice.choice([0, 0.1, 0.9, 1])
    people = Counter(
        (
            tuple(str(groups[row]) for groups in drawn),
            int(bins[row]),
            int(actual[row]) if labelled[row] else None,
        )
        for row in range(n)
    )
    counts = [
        (
            json.dumps(dict(zip(features, of, strict=True))),
            str(int(place > 4)),
            None if a is None else str(a),
            place,
            number,
            number * (place + 0.5) / 10,
        )
        for (of, place, a), number in people.items()
    ]
    report = json.loads(json.dumps(fairness_report(manifest, tally(manifest, counts), suppress=True)))
    assert_safe(report, people, bins=DRAWN_BINS)
