"""Counting records: the same bins as the monitor's, each prediction and each saved sum once."""

import numpy as np
import pytest
from auditlog import FEMALE, MALE, MODEL
from declared import declared

from service.errors import RecordsUnavailable
from service.monitor.counters import Counters, JoinedOutcome
from service.records.append import Append
from service.records.attributions import DailyAttribution, SaveAttributions
from service.records.counts import SCORE_BINS, AttributionSum, CellCount, attribution_sums, cell_counts, versions

TENTHS = np.arange(11) / 10
DAY = 86_400


def append_scores(log, scores, package):
    rows = [log.row(f"{package} {number}", score=score, package=package) for number, score in enumerate(scores)]
    log.do(Append(rows, callers_ids=True))


def bins(log, package):
    """How many predictions there are in each bin."""
    found = [0] * SCORE_BINS
    for cell in cell_counts(log.engine, MODEL, [package], since=0, until=1e12):
        found[cell.bin] += cell.n
    return found


def monitors_bins(scores):
    """How many predictions with an outcome the monitor counts in each bin."""
    counters = Counters(declared())
    counters.add_outcomes([JoinedOutcome(counters.groups.nobody, 0, 0, score, 0.0) for score in scores])
    return counters.outcome_score_bins.sum(axis=(0, 2)).tolist()


def test_scores_at_the_edges_fall_into_the_monitors_bins(log):
    """Tenths as float32 and as float64, their neighbours, 0 and 1: what a report shows is what Prometheus shows."""
    narrow = TENTHS.astype(np.float32)
    sides = [np.nextafter(narrow, np.float32(side)) for side in (-1, 2)]
    scores = np.concatenate([TENTHS, *(side.astype(np.float64).clip(0, 1) for side in (narrow, *sides))])
    for number, score in enumerate(scores.tolist()):
        append_scores(log, [score], f"package {number}")
        assert bins(log, f"package {number}") == monitors_bins([score]), score


def test_float32_scores_fall_into_the_monitors_bins(log):
    """Thousands of them, as the models give them."""
    scores = np.random.default_rng(7).random(5000, np.float32).astype(np.float64)
    append_scores(log, scores.tolist(), "package")
    assert bins(log, "package") == monitors_bins(scores.tolist())


def test_predictions_that_are_alike_are_counted_together(log):
    """By group, decision, outcome and bin; the scores are added up."""
    log.append("a", "b", score=0.75)
    log.append("c", score=0.25, predicted="legitimate", groups=MALE)
    log.append("d", "e", score=0.75)
    log.join(("d", "legitimate"))
    found = cell_counts(log.engine, MODEL, [log.package], since=0, until=1e12)
    assert sorted(found, key=lambda cell: (cell.n, cell.score_sum)) == [
        CellCount(MALE, "legitimate", None, 2, 1, 0.25),
        CellCount(FEMALE, "fraud", "legitimate", 7, 1, 0.75),
        CellCount(FEMALE, "fraud", None, 7, 3, 2.25),
    ]


def test_only_the_packages_and_the_time_that_were_asked_for_are_counted(log):
    """From the first second on, up to but without the last."""
    log.append("a", at=10.0)
    log.append("b", at=20.0)
    log.append("c", at=10.0, package="another")

    def counted(*packages, **times):
        return sum(cell.n for cell in cell_counts(log.engine, MODEL, packages, **times))

    assert counted(log.package, since=10, until=20) == 1
    assert counted(log.package, since=10, until=20.5) == 2
    assert counted(log.package, "another", since=0, until=20) == 2
    assert counted(log.package, since=10.5, until=20) == 0


def test_attributions_that_are_saved_twice_count_once(log):
    """A replica writes its day's sums over and over."""
    day = 1_700_000_000 // DAY * DAY
    for rows in (1, 1, 3):
        log.do(SaveAttributions("one", [DailyAttribution(log.package, day, MALE, rows, rows / 2, [rows / 4] * 5)]))
    assert attribution_sums(log.engine, [log.package], since=day) == [AttributionSum(MALE, 3, 1.5, [0.75] * 5)]


def test_attributions_of_replicas_add_up(log, open_log):
    """Each has its own row; groups stay apart, and days that ended before are left out."""
    other, day = open_log(), 1_700_000_000 // DAY * DAY
    for replica, sums in ((log, [1.0] * 5), (other, [-0.25] * 5)):
        work = [
            DailyAttribution(log.package, day, MALE, 2, 0.5, sums),
            DailyAttribution(log.package, day, FEMALE, 1, 0.25, sums),
            DailyAttribution(log.package, day - 2 * DAY, FEMALE, 100, 25, sums),
        ]
        assert replica.do(SaveAttributions(replica.records.replica, work)) is None
    found = attribution_sums(log.engine, [log.package], since=day - DAY)
    of_men = [total for total in found if total.groups == MALE]
    assert len(found) == 4
    assert sum(total.n for total in of_men) == 4
    assert sum(total.margin_sum for total in of_men) == 1.0
    assert np.sum([total.sums for total in of_men], axis=0).tolist() == [0.75] * 5


def test_every_version_that_ever_ran_is_known(log, manifests):
    """With its manifest, so that reports can read past predictions."""
    found = versions(log.engine, MODEL)
    assert found.keys() == {"9", "10"}
    assert found["10"] == [(log.package, manifests[-1].to_json())]
    assert versions(log.engine, "nobody") == {}


def test_a_database_that_does_not_answer_is_said_to_be_unavailable(postgresql_server, log_on_postgresql):
    """Without a statement or a value in the message; afterwards it counts again."""
    log = log_on_postgresql
    log.append("a")
    with postgresql_server.stopped(), pytest.raises(RecordsUnavailable, match=r"^records: the database .{,60}$"):
        bins(log, log.package)
    assert sum(bins(log, log.package)) == 1
