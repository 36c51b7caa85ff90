"""The rows that a replay sends: as recorded, shifted, and with a bias that touches nothing but who carries a group."""

import itertools
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.replay import Replay, Scenario
from service.replay.scenario import Row

REPOSITORY = Path(__file__).parents[2] / "models" / "repository"


@pytest.fixture(scope="module")
def diagnosis():
    """A model whose data has no groups: they are drawn."""
    return Replay.of_package(REPOSITORY, "diagnosis", url="http://127.0.0.1:1", seed=3)


@pytest.fixture(scope="module")
def transaction():
    """A model with integers, missing values and groups of its own."""
    return Replay.of_package(REPOSITORY, "transaction", url="http://127.0.0.1:1", seed=3)


def scenario(replay, *, shift=(), bias=(), after=None, lasting=None):
    return Scenario.parse(replay.manifest, shifts=shift, biases=bias, after=after, lasting=lasting)


def sent(replay, *of_scenario, passes=1, batch=1):
    """The rows of so many passes over the data."""
    batches = replay.batches(*of_scenario, rate=1, batch=batch)
    return list(itertools.islice(itertools.chain.from_iterable(batches), passes * len(replay.rows)))


def values(rows, name):
    return [row.instance[name] for row in rows]


@pytest.mark.parametrize("batch", [1, 7, 400])
def test_every_row_is_sent_once_in_each_pass(transaction, batch):
    """However many go into one request; the next pass has another order."""
    rows = sent(transaction, passes=2, batch=batch)
    first, second = rows[: len(transaction.rows)], rows[len(transaction.rows) :]
    assert Counter(map(str, first)) == Counter(map(str, second)) == Counter(map(str, transaction.rows))
    assert first != second


def test_a_seed_gives_the_same_rows_with_the_same_groups(diagnosis):
    """And another seed others."""
    assert sent(diagnosis) == sent(diagnosis)
    assert sent(diagnosis) != sent(replace(diagnosis, seed=4))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("amount=1.5", lambda value: value * 1.5),
        ("amount=+20.5", lambda value: value + 20.5),
        ("amount=-5", lambda value: max(value - 5, 0)),
        ("amount=1e9", lambda value: min(value * 1e9, 1_000_000)),
        ("customer_count_7d=1.5", lambda value: round(value * 1.5)),
        ("hour=+6", lambda value: min(value + 6, 23)),
        ("days_since_last_payment=2", lambda value: None if value is None else min(value * 2, 36500)),
    ],
)
def test_a_shift_changes_its_feature_within_the_manifests_bounds(transaction, change, expected):
    """Integers stay integers, missing values missing; no other feature, group or label changes."""
    name = change.partition("=")[0]
    before, after = sent(transaction), sent(transaction, scenario(transaction, shift=[change]))
    assert values(after, name) == [expected(value) for value in values(before, name)]
    assert values(after, name) != values(before, name)
    kind = next(feature.kind for feature in transaction.manifest.features if feature.name == name)
    assert kind != "integer" or all(type(value) is int for value in values(after, name))
    restored = [
        replace(new, instance=new.instance | {name: old.instance[name]}) for new, old in zip(after, before, strict=True)
    ]
    assert restored == before


def test_a_bias_changes_nothing_but_who_carries_the_group(diagnosis):
    """The same rows in the same order, groups of the same sizes, and the group has gained unfavourable rows."""
    before, after = sent(diagnosis, passes=5), sent(diagnosis, scenario(diagnosis, bias=["age_band=70+"]), passes=5)
    assert [(row.instance, row.label) for row in after] == [(row.instance, row.label) for row in before]
    assert [row.groups["sex"] for row in after] == [row.groups["sex"] for row in before]
    assert Counter(row.groups["age_band"] for row in after) == Counter(row.groups["age_band"] for row in before)
    assert unfavourable(after, "70+") > unfavourable(before, "70+") + 0.3
    assert 0 < unfavourable(after, "70+") < 1
    assert all(unfavourable(after, group) < 0.6 for group in ("18-29", "30-39", "40-49", "50-59", "60-69"))


def unfavourable(rows, group):
    """Share of the group's rows whose truth is malignant."""
    labels = [row.label for row in rows if row.groups["age_band"] == group]
    return labels.count("malignant") / len(labels)


def test_rows_without_a_label_or_a_group_are_left_alone(diagnosis):
    """A bias exchanges between rows that have both."""
    (bias,) = scenario(diagnosis, bias=["sex=male"]).biases
    rows = [Row({}, {"sex": "male"}, "benign"), Row({}, {"sex": "female"}, None), Row({}, {}, "malignant")]
    assert bias.applied(rows, random.Random(0)) == rows


def test_a_scenario_holds_for_its_time(transaction):
    """From `after` on, for `lasting` seconds, by the time a request is due."""
    late = scenario(transaction, shift=["amount=+1000"], after=3, lasting=2)
    shifted = [
        min(values(rows, "amount")) >= 1000 for rows in itertools.islice(transaction.batches(late, rate=2, batch=5), 14)
    ]
    assert shifted == [False] * 6 + [True] * 4 + [False] * 4


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"shift": ["nope=2"]}, "--shift nope=2: no numeric feature; there are amount, hour, "),
        ({"shift": ["amount"]}, "--shift amount: a factor (1.5) or an amount"),
        ({"shift": ["amount=much"]}, "a factor (1.5) or an amount"),
        ({"shift": ["amount=nan"]}, "a factor (1.5) or an amount"),
        ({"shift": ["amount=+inf"]}, "a factor (1.5) or an amount"),
        ({"shift": ["entry_mode=2"]}, "no numeric feature"),
        ({"shift": ["weekend=2"]}, "no numeric feature"),
        ({"shift": ["amount=2", "amount=+3"]}, "--shift names amount twice"),
        ({"bias": ["sex=male"]}, "--bias sex=male: no sensitive feature; there are age_band, region"),
        ({"bias": ["region=moon"]}, "--bias region=moon: no group of region; there are centre, coast, border"),
        ({"bias": ["region"]}, "no group of region"),
        ({"after": 5}, "neither is given"),
        ({"lasting": 5}, "neither is given"),
    ],
    ids=str,
)
def test_a_scenario_that_makes_no_sense_is_refused_with_what_there_is(transaction, options, reason):
    """Before anything is sent."""
    with pytest.raises(ConfigurationError) as refused:
        scenario(transaction, **options)
    assert reason in str(refused.value)


def test_a_bias_needs_a_favourable_outcome(transaction):
    """A model of several classes may have none."""
    manifest = transaction.manifest.model_copy(update={"favourable_outcome": None})
    with pytest.raises(ConfigurationError, match="has no favourable outcome"):
        scenario(replace(transaction, manifest=manifest), bias=["region=coast"])


def test_a_scenario_says_in_words_what_it_does(transaction):
    """One line, for the person who watches."""
    told = scenario(transaction, shift=["amount=1.5", "hour=-3"], bias=["region=border"])
    assert str(told) == "amount x 1.5, hour -3, region border gets unfavourable rows"
    assert str(Scenario()) == "as recorded"
