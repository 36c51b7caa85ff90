"""Joining outcomes to their predictions: each exactly once, in any order, from any replica."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from auditlog import DAY, FEMALE, AuditLog
from sqlalchemy import event

from service.records.outcomes import RESULTS


def counts(**found):
    return dict.fromkeys(RESULTS, 0) | found


def test_an_outcome_is_joined_with_what_was_recorded(log):
    """Package, decision, score, groups and time of the prediction, and the label in its row."""
    log.append("a", at=1_700_000_000.5, score=0.1, predicted="legitimate")
    result = log.join(("a", "fraud"), now=1_700_000_100.0)
    assert result.counts == counts(joined=1)
    assert result.joined == [(log.package, "legitimate", 0.1, FEMALE, 1_700_000_000.5, "fraud", None)]
    assert log.stored()["a"].actual == "fraud"
    assert log.stored()["a"].outcome_at == 1_700_000_100.0


def test_the_same_label_again_is_a_duplicate(log):
    """It changes nothing, also not the time."""
    log.append("a")
    log.join(("a", "fraud"))
    before = log.stored()
    assert log.join(("a", "fraud")) == (counts(duplicate=1), [])
    assert log.join(("a", "fraud", True)) == (counts(duplicate=1), [])
    assert log.stored() == before


def test_another_label_is_a_conflict(log):
    """The first stands."""
    log.append("a")
    log.join(("a", "fraud"))
    assert log.join(("a", "legitimate")) == (counts(conflict=1), [])
    assert log.stored()["a"].actual == "fraud"


def test_a_correction_replaces_the_label_and_says_which(log):
    """Once: sent again, it is a duplicate."""
    log.append("a")
    log.join(("a", "fraud"))
    result = log.join(("a", "legitimate", True))
    assert result.counts == counts(corrected=1)
    assert (result.joined[0].actual, result.joined[0].before) == ("legitimate", "fraud")
    assert log.join(("a", "legitimate", True)) == (counts(duplicate=1), [])
    assert log.stored()["a"].actual == "legitimate"


def test_a_correction_of_nothing_is_joined(log):
    """Whoever corrects what never arrived says how it turned out."""
    log.append("a")
    result = log.join(("a", "legitimate", True))
    assert result.counts == counts(joined=1)
    assert result.joined[0].before is None


def test_ids_without_a_prediction_are_unknown(log):
    """Also those of another model."""
    log.append("a")
    assert log.join(("b", "fraud"), ("c", "fraud", True)) == (counts(unknown=2), [])
    assert log.stored()["a"].actual is None


def test_outcomes_after_the_horizon_are_expired(log):
    """New labels and corrections alike; a label that is known already is a duplicate."""
    now = 1_700_000_000.0
    log.append("old", "labelled", at=now - 2 * DAY - 1)
    log.append("young", at=now - 2 * DAY + 1)
    log.join(("labelled", "fraud"), now=now - DAY)
    result = log.join(
        ("old", "fraud"),
        ("young", "fraud"),
        ("labelled", "fraud"),
        now=now,
        horizon_days=2,
    )
    assert result.counts == counts(joined=1, expired=1, duplicate=1)
    assert log.join(("labelled", "legitimate", True), now=now, horizon_days=2).counts == counts(expired=1)
    assert log.stored()["old"].actual is None
    assert log.stored()["labelled"].actual == "fraud"


def test_an_id_that_stands_in_a_request_several_times_is_met_in_that_order(log):
    """Joined, then a duplicate, a conflict, a correction and a duplicate of that."""
    log.append("a", "b")
    result = log.join(
        ("a", "fraud"),
        ("b", "fraud"),
        ("a", "fraud"),
        ("a", "legitimate"),
        ("a", "legitimate", True),
        ("a", "legitimate"),
    )
    assert result.counts == counts(joined=2, duplicate=2, conflict=1, corrected=1)
    assert [(joined.actual, joined.before) for joined in result.joined] == [
        ("fraud", None),
        ("fraud", None),
        ("legitimate", "fraud"),
    ]
    assert {id_: row.actual for id_, row in log.stored().items()} == {"a": "legitimate", "b": "fraud"}


def test_a_request_may_hold_every_fate_at_once(log):
    """Labels of both classes, with and without corrections."""
    log.append("new", "same", "other", "wrong")
    log.append("old", at=time.time() - 100 * DAY)
    log.join(("same", "fraud"), ("other", "fraud"), ("wrong", "fraud"))
    result = log.join(
        ("new", "legitimate"),
        ("same", "fraud"),
        ("other", "legitimate"),
        ("wrong", "legitimate", True),
        ("old", "fraud"),
        ("nobody", "fraud"),
    )
    assert result.counts == dict.fromkeys(RESULTS, 1)
    assert [joined.actual for joined in result.joined] == ["legitimate", "legitimate"]


@pytest.mark.parametrize("rows", [1000, 40_000])
def test_large_requests_are_joined(open_log, rows):
    """As many outcomes as a request may have by default, and more than a statement may have parameters for."""
    log = open_log(max_rows=rows)
    ids = [f"{number:05}" for number in range(rows)]
    log.append(*ids[: rows // 2])
    assert log.join(*((id_, "fraud") for id_ in ids)).counts == counts(joined=rows // 2, unknown=rows - rows // 2)


def test_an_outcome_in_the_commit_of_its_prediction_is_joined(log):
    """Predictions of a group commit are recorded before outcomes are joined."""
    first, second = log.together(log.joining(("a", "fraud")), log.appending("a"))
    assert (first.counts, second) == (counts(joined=1), {})


def test_outcomes_from_two_replicas_count_exactly_once(url, manifests):
    """Both are told everything at once, in opposite order, several requests in each commit: nothing waits in a circle,
    and the replicas' joined outcomes add up to one for each prediction."""
    rounds, requests, size = 5, 6, 40
    ids = [[f"{number}-{n:03}" for n in range(requests * size)] for number in range(rounds)]
    barrier = threading.Barrier(2, timeout=30)

    def replica(backwards):
        with AuditLog.opened(url, manifests) as log:
            found = []
            for of_round in ids:
                order = of_round[::-1] if backwards else of_round
                works = [
                    log.joining(*((id_, "fraud") for id_ in order[start : start + size]))
                    for start in range(0, len(order), size)
                ]
                barrier.wait()
                found += log.together(*works)
            return found

    with AuditLog.opened(url, manifests) as log:
        for of_round in ids:
            log.append(*of_round)
    with ThreadPoolExecutor(2) as executor:
        results = [result for found in executor.map(replica, [False, True]) for result in found]
    assert [result for result in results if isinstance(result, Exception)] == []
    total = rounds * requests * size
    assert sum(result.counts["joined"] for result in results) == total
    assert sum(result.counts["duplicate"] for result in results) == total
    assert sum(len(result.joined) for result in results) == total


def test_a_prediction_that_appears_during_a_join_is_not_labelled_unseen(postgresql, manifests):
    """Another replica commits it between the look and the label: it stays unknown, so that the next try counts."""
    with AuditLog.opened(postgresql, manifests) as log, AuditLog.opened(postgresql, manifests) as other:
        waiting = [other.appending("late")]

        @event.listens_for(log.engine, "after_cursor_execute")
        def commit_meanwhile(connection, cursor, statement, *rest):
            if waiting and "FOR UPDATE" in statement:
                with ThreadPoolExecutor(1) as executor:
                    executor.submit(other.do, waiting.pop()).result()

        assert log.join(("late", "fraud")).counts == counts(unknown=1)
        assert log.stored()["late"].actual is None
        assert log.join(("late", "fraud")).counts == counts(joined=1)
