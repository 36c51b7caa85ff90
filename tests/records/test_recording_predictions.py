"""Recording predictions: all of a request or nothing, each id once, and an earlier answer for an id used before."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from auditlog import MALE, AuditLog

from service.errors import InvalidRequest
from service.records.append import Append


def test_new_predictions_are_stored_as_they_were_handed_over(log):
    """Every column, also those that a setting asks for; nothing is reported as recorded before."""
    assert log.append("a", "b", score=0.1, at=1_700_000_000.125, groups=MALE, features='{"amount":2}') == {}
    assert log.append("c") == {}
    stored = log.stored()
    assert stored.keys() == {"a", "b", "c"}
    row = ("toy", "b", log.package, 1_700_000_000.125, "fraud", 0.1, MALE, None, '{"amount":2}', None, None, None)
    assert tuple(stored["b"]) == row


def test_a_retry_gets_the_recorded_answer(log, manifests):
    """With the manifest of the package that decided; the row stays as it was, and new ids beside it are recorded."""
    log.append("a", "b", score=0.1, predicted="legitimate", at=5.0)
    before = log.append("new", "b", score=0.1004, predicted="legitimate")
    assert before.keys() == {1}
    assert before[1][:4] == (log.package, "legitimate", 0.1, None)
    assert before[1].manifest == manifests[-1].to_json()
    assert log.stored()["b"].predicted_at == 5.0
    assert log.stored().keys() == {"a", "b", "new"}


def test_a_retry_that_another_package_would_answer_otherwise_gets_the_first_answer(log, open_log, manifests):
    """After an upgrade, the decision that was acknowledged stands."""
    log.append("a", score=0.9)
    upgraded = log.appending("a", score=0.2, predicted="legitimate", package="another")
    assert log.do(upgraded)[0][:3] == (log.package, "fraud", 0.9)


def test_an_id_used_for_another_instance_is_refused_and_nothing_of_the_request_stays(log):
    """The message names the place and repeats nothing; the first record stays, the request's new ids do not."""
    log.append("known", score=0.75)
    with pytest.raises(InvalidRequest, match=r"^ids\[1\]: ") as refusal:
        log.append("new", "known", "newer", score=0.7)
    assert "known" not in str(refusal.value)
    assert log.stored().keys() == {"known"}
    assert log.stored()["known"].score == 0.75


def test_a_label_that_turns_at_the_threshold_is_no_other_instance(log):
    """The last digit of a score depends on the batch; the recorded answer holds."""
    log.append("known", score=0.5)
    assert log.append("known", score=0.4999999, predicted="legitimate")[0].predicted == "fraud"


def test_what_was_answered_already_is_not_refused(log):
    """After the response it is too late: the new rows stay, and the first record of the id."""
    log.append("known", score=0.75)
    rows = log.appending("new", "known", score=0.2).data
    assert list(log.do(Append(rows, callers_ids=True, answered=True))) == [1]
    assert log.stored().keys() == {"known", "new"}
    assert log.stored()["known"].score == 0.75


def test_a_refused_request_takes_nothing_with_it_that_shared_its_commit(log):
    """Requests of one group commit, among them a refused one: the others stay, each once."""
    log.append("known")
    results = log.together(
        log.appending("a"),
        log.appending("b", "known", score=0.1),
        log.appending("b", "c"),
        log.appending("d", callers_ids=False),
    )
    assert [type(result) for result in results] == [dict, InvalidRequest, dict, dict]
    assert results[2] == {}
    assert log.stored().keys() == {"known", "a", "b", "c", "d"}


def test_the_same_ids_in_one_group_commit_are_recorded_once(log):
    """Eight concurrent retries: one is new, seven get its answer."""
    results = log.together(*(log.appending("a", "b", at=float(number)) for number in range(8)))
    assert results[0] == {}
    for result in results[1:]:
        assert {row: before.score for row, before in result.items()} == {0: 0.75, 1: 0.75}
    assert log.stored()["a"].predicted_at == 0.0


def test_the_same_ids_from_two_replicas_are_recorded_once(log, open_log):
    """The second replica answers what the first recorded."""
    other = open_log()
    log.append("a", "b")
    assert other.append("b", "c").keys() == {0}
    assert other.stored().keys() == {"a", "b", "c"}


@pytest.mark.parametrize("rows", [1000, 7000])
def test_large_requests_are_recorded_and_retried(log, rows):
    """As many rows as a request may have by default, and more than a statement may have parameters for."""
    ids = [f"{number:05}" for number in range(rows)]
    assert log.append(*ids) == {}
    before = log.append(*ids[1:], "last")
    assert before.keys() == set(range(rows - 1))
    assert len(log.stored()) == rows + 1


def test_the_same_id_of_another_model_is_another_prediction(log):
    """Ids are unique per model."""
    log.append("a")
    row = log.row("a", score=0.1)
    assert log.do(Append([("other", *row[1:])], callers_ids=True)) == {}


def test_a_row_that_the_database_refuses_fails_alone(log):
    """Those that shared its commit are recorded."""
    poisoned = Append([log.row("poison", predicted=None)], callers_ids=True)
    first, failed, last = log.together(log.appending("a"), poisoned, log.appending("b"))
    assert (first, last) == ({}, {})
    assert "refuses" in str(failed)
    assert log.stored().keys() == {"a", "b"}


def test_a_connection_that_was_closed_while_it_idled_costs_nobody_an_answer(log_on_postgresql, postgresql_server):
    """The next request gets a new one, as does the next reader."""
    log = log_on_postgresql
    log.append("a")
    log.join(("a", "fraud"))
    assert log.stored().keys() == {"a"}
    postgresql_server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'records_%'")
    assert log.append("b") == {}
    assert log.stored().keys() == {"a", "b"}


def test_requests_that_reach_three_replicas_in_any_order_are_recorded_once(url, manifests):
    """Several in each commit, none of which waits in a circle for long: one replica records, two answer the same."""
    replicas, rounds, requests, size = 3, 6, 5, 40
    barrier = threading.Barrier(replicas, timeout=30)

    def replica(seed):
        chance = random.Random(seed)
        found = []
        with AuditLog.opened(url, manifests) as log:
            for number in range(rounds):
                ids = [f"{number}-{row:03}" for row in range(requests * size)]
                chance.shuffle(ids)
                works = [log.appending(*ids[start : start + size]) for start in range(0, len(ids), size)]
                barrier.wait()
                found += log.together(*works)
        return found

    with ThreadPoolExecutor(replicas) as executor:
        results = [result for found in executor.map(replica, range(replicas)) for result in found]
    assert [result for result in results if isinstance(result, Exception)] == []
    assert sum(len(result) for result in results) == (replicas - 1) * rounds * requests * size
