"""What the drift job reads: a uniform sample of features, and outcomes as they came. The same from either database."""

import json
from collections import Counter

import pytest
from auditlog import FEMALE, MALE, MODEL

from service.errors import ConfigurationError, RecordsUnavailable
from service.records.append import Append
from service.records.database import check
from service.records.samples import Arrival, arrivals, model_names, sample_features
from service.records.tables import metadata, schema

EARLY = 1_700_000_000.0
FOREVER = {"since": 0, "until": 1e12}


def recorded(log, count, *, at=EARLY, package=None, prefix=""):
    """`count` predictions whose features say which they are."""
    rows = [
        log.row(f"{prefix}{number}", at=at, package=package, features=json.dumps({"amount": number}))
        for number in range(count)
    ]
    log.do(Append(rows, callers_ids=True))


def sampled(log, size, *, seed=0, package=None, **times):
    window = FOREVER | times
    return sample_features(log.engine, MODEL, package or log.package, size=size, seed=seed, **window)


def amounts(sample):
    return [instance["amount"] for instance in sample.instances]


def arrived(log, *, most=1000, horizon=1e12, packages=None, **times):
    window = FOREVER | times
    return arrivals(log.engine, MODEL, packages or [log.package], horizon_seconds=horizon, most=most, **window)


def test_a_sample_holds_each_row_once(log):
    """All of them, if they are fewer than may be drawn."""
    recorded(log, 50)
    found = sampled(log, 80)
    assert sorted(amounts(found)) == list(range(50))
    assert (found.predictions, found.recorded) == (50, 50)


def test_a_sample_is_uniform(log):
    """Over 100 seeds each row is drawn as often as another one, within what chance explains."""
    recorded(log, 60)
    drawn = Counter(amount for seed in range(100) for amount in amounts(sampled(log, 20, seed=seed)))
    assert sum(drawn.values()) == 2000
    expected = 2000 / 60
    # Chi-squared with 59 degrees of freedom, shrunk by what is drawn without replacement: its mean is 40.
    assert sum((drawn[number] - expected) ** 2 / expected for number in range(60)) < 80


def test_the_same_seed_draws_the_same_rows_from_either_database(log):
    """The draw goes by ids alone."""
    recorded(log, 60)
    assert amounts(sampled(log, 5)) == [52, 22, 28, 6, 27]
    assert amounts(sampled(log, 5, seed=1)) != amounts(sampled(log, 5))


def test_only_what_was_asked_for_is_drawn(log):
    """This package, these times, and only rows with features."""
    recorded(log, 3)
    recorded(log, 4, at=EARLY + 100, prefix="late ")
    recorded(log, 5, package="another", prefix="another ")
    log.append("without", at=EARLY)
    found = sampled(log, 100, until=EARLY + 100)
    assert (found.predictions, found.recorded, len(found.instances)) == (4, 3, 3)
    assert len(sampled(log, 100, package="another").instances) == 5
    assert len(sampled(log, 100, since=EARLY + 100).instances) == 4


def test_outcomes_come_in_the_order_of_their_arrival(log):
    """Not of the predictions. Those that came together go by their ids, as bytes, also where text has a locale."""
    if log.engine.dialect.name == "postgresql":
        with log.engine.begin() as connection:
            connection.exec_driver_sql('ALTER TABLE predictions ALTER COLUMN id TYPE text COLLATE "en-x-icu"')
    for number, id_ in enumerate("dabcBz"):
        log.append(id_, at=EARLY + number, groups=MALE if id_ == "B" else FEMALE)
    log.join(("z", "fraud"), now=EARLY + 10)
    log.join(("c", "fraud"), ("B", "legitimate"), ("a", "fraud"), now=EARLY + 20)
    log.join(("d", "legitimate"), now=EARLY + 30)
    assert arrived(log) == [
        Arrival(EARLY + 10, False, FEMALE),
        Arrival(EARLY + 20, True, MALE),  # B
        Arrival(EARLY + 20, False, FEMALE),
        Arrival(EARLY + 20, False, FEMALE),
        Arrival(EARLY + 30, True, FEMALE),
    ]


def test_the_newest_outcomes_are_kept(log):
    """Where there are more than may be read; at the same time, those with the highest ids."""
    log.append(*"abcd", at=EARLY)
    log.join(("c", "legitimate"), now=EARLY + 10)
    log.join(("a", "fraud"), ("b", "legitimate"), now=EARLY + 20)
    assert [arrival.error for arrival in arrived(log, most=1)] == [True]
    assert [arrival.error for arrival in arrived(log, most=2)] == [False, True]


def test_only_outcomes_of_the_window_are_read(log):
    """By when they came; and only of predictions that may still have had one."""
    log.append("a", at=EARLY)
    log.append("b", at=EARLY + 50)
    log.append("c", at=EARLY, package="another")
    for id_ in "abc":
        log.join((id_, "fraud"), now=EARLY + 100)
    assert len(arrived(log)) == 2
    assert len(arrived(log, packages=[log.package, "another"])) == 3
    assert len(arrived(log, until=EARLY + 100)) == 0
    assert len(arrived(log, since=EARLY + 100, until=EARLY + 101)) == 2
    assert len(arrived(log, since=EARLY + 100, horizon=60)) == 1


def test_models_are_known_by_name(log):
    assert model_names(log.engine) == [MODEL]


def test_a_check_makes_nothing(url, log):
    """It says that the tables are those of this release, or what is wrong, and leaves an empty database empty."""
    check(log.engine)
    metadata.drop_all(log.engine)
    with pytest.raises(ConfigurationError, match="schema version None"):
        check(log.engine)
    metadata.create_all(log.engine)
    with log.engine.begin() as connection:
        connection.execute(schema.insert().values(version=99))
    with pytest.raises(ConfigurationError, match="schema version 99"):
        check(log.engine)


def test_a_database_that_does_not_answer_is_said_to_be_unavailable(postgresql_server, log_on_postgresql):
    with postgresql_server.stopped(), pytest.raises(RecordsUnavailable, match=r"^records: the database .{,60}$"):
        check(log_on_postgresql.engine)
