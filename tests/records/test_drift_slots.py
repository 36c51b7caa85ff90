"""Counts for drift in the records: written over by the replica that counted, added up over replicas and slots."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from auditlog import DAY, AuditLog
from sqlalchemy import func, select

from service.errors import RecordsUnavailable
from service.monitor.slots import SLOT_SECONDS
from service.records.drift import SaveDriftCounts, SlotCounts, drift_sums
from service.records.forget import Prune
from service.records.tables import drift_counts

SLOT = 1_700_000_000 // SLOT_SECONDS * SLOT_SECONDS
SIZE = 5


def save(log, *slots, replica="one", package=None):
    """Write (slot, counts) pairs."""
    return log.do(SaveDriftCounts(replica, [SlotCounts(package or log.package, *slot) for slot in slots]))


def sums(log, since=SLOT, *, package=None, size=SIZE):
    return drift_sums(log.engine, package or log.package, size=size, since=since).tolist()


def rows(log):
    with log.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(drift_counts)).scalar()


def test_counts_that_are_saved_again_are_written_over(log):
    """A slot grows until it ends; saving it twice changes nothing."""
    for counts in ([1.0] * 5, [1.0] * 5, [3.0, 1.0, 2.0, 1.0, 9.5]):
        assert save(log, (SLOT, counts)) is None
    assert sums(log) == [3.0, 1.0, 2.0, 1.0, 9.5]
    assert rows(log) == 1


def test_slots_and_replicas_add_up(log, open_log):
    """Packages stay apart, and slots that begin before are left out."""
    other = open_log()
    for replica, scale in ((log, 1.0), (other, 10.0)):
        slots = [(SLOT + number * SLOT_SECONDS, [scale * 2**number] * SIZE) for number in (-1, 0, 1, 2)]
        save(replica, *slots, replica=replica.records.replica)
        save(replica, (SLOT, [scale * 1000] * SIZE), replica=replica.records.replica, package="another")
    assert sums(log) == sums(other) == [77.0] * SIZE
    assert sums(log, SLOT + 1) == [66.0] * SIZE
    assert sums(log, SLOT - SLOT_SECONDS) == [82.5] * SIZE
    assert sums(log, package="another") == [11_000.0] * SIZE
    assert sums(log, package="nobody's") == [0.0] * SIZE
    assert rows(log) == 10


def test_numbers_come_back_as_they_were(log):
    """Large counts and sums of probabilities, to the last bit."""
    counts = [0.0, 2.0**53, 0.1 + 0.2, 1e-300, 123_456_789.123_456_79]
    save(log, (SLOT, np.array(counts).tolist()))
    assert sums(log) == counts


def test_many_slots_are_saved_at_once(log):
    """What a replica held while the database was down."""
    save(log, *((SLOT + number * SLOT_SECONDS, [float(number)] * SIZE) for number in range(1000)))
    assert sums(log) == [499_500.0] * SIZE
    assert sums(log, SLOT + 999 * SLOT_SECONDS) == [999.0] * SIZE


def test_replicas_that_save_at_the_same_time_lose_nothing(url, manifests):
    """Each in its own row: eight that write the same slots over and over."""
    replicas = 8
    barrier = threading.Barrier(replicas, timeout=30)

    def work(number):
        with AuditLog.opened(url, manifests) as log:
            barrier.wait()
            for turn in range(1, 6):
                slots = [(SLOT + place * SLOT_SECONDS, [float(turn)] * SIZE) for place in range(3)]
                save(log, *slots, replica=f"replica {number}")

    with ThreadPoolExecutor(replicas) as executor:
        list(executor.map(work, range(replicas)))
    with AuditLog.opened(url, manifests) as log:
        assert sums(log) == [replicas * 3 * 5.0] * SIZE


def test_slots_past_their_retention_are_deleted(log):
    """Those that began before; predictions are not touched by it."""
    now = time.time()
    log.append("young")
    slots = [int((now - age) // SLOT_SECONDS * SLOT_SECONDS) for age in (3 * DAY, 2 * DAY + 1200, 2 * DAY - 1200, 0)]
    save(log, *((slot, [1.0] * SIZE) for slot in slots))
    assert log.do(Prune(now - 2 * DAY)) == 0
    assert rows(log) == 2
    assert sums(log, 0) == [2.0] * SIZE
    assert log.stored().keys() == {"young"}


@pytest.mark.parametrize("days", [1, 180, 9999, 40_000])
def test_any_retention_can_be_pruned_and_reported(log, days):
    """Also one that began before there were computers."""
    now = time.time()
    save(log, (int(now // SLOT_SECONDS * SLOT_SECONDS), [1.0] * SIZE))
    assert log.do(Prune(now - days * DAY)) == 0
    assert sums(log, now - days * DAY) == [1.0] * SIZE


def test_a_database_that_does_not_answer_gives_no_sums(postgresql_server, log_on_postgresql):
    """Neither zeros nor a statement in the message."""
    log = log_on_postgresql
    save(log, (SLOT, [1.0] * SIZE))
    with postgresql_server.stopped(), pytest.raises(RecordsUnavailable, match=r"^records: the database .{,60}$"):
        sums(log)
    assert sums(log) == [1.0] * SIZE


def test_a_slot_may_be_later_than_32_bits_can_say(log):
    """Of the year 2040, in PostgreSQL too."""
    later = 2_208_988_800
    save(log, (later, [1.0] * SIZE))
    assert sums(log, later) == [1.0] * SIZE
