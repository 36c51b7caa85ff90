"""The writer: what arrives together is committed together, nothing waits without a bound, nothing accepted is lost."""

import asyncio
import threading
import time
from dataclasses import dataclass

import pytest

from service.errors import DeadlineExceeded, QueueFull, RecordsUnavailable
from service.records.writer import MOST_ROWS_TOGETHER, Writer

PATIENCE_SECONDS = 20


@dataclass
class Rows:
    """Work of so many rows."""

    rows: int = 1
    name: str = ""


class Database:
    """Commits works in groups; `gate` holds it up, `failures` are raised first."""

    def __init__(self, *failures):
        self.groups = []
        self.failures = list(failures)
        self.gate = threading.Event()
        self.gate.set()

    def commit(self, works):
        assert self.gate.wait(PATIENCE_SECONDS)
        if self.failures:
            raise self.failures.pop(0)
        self.groups.append(works)
        return [work.name if work.rows else None for work in works]


def deadline(seconds=PATIENCE_SECONDS):
    return time.monotonic() + seconds


def run(main):
    return asyncio.run(asyncio.wait_for(main, PATIENCE_SECONDS))


async def turns(count):
    """Let the event loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_what_arrives_together_is_committed_together():
    """A group of everything of neighbouring turns of the event loop, then one of what arrived during its commit."""
    database = Database()
    database.gate.clear()

    async def main():
        writer = Writer(database.commit, keeps=False, max_rows=100)
        first = [writer.submit(Rows(name=f"{number}")) for number in range(3)]
        await asyncio.sleep(0)
        first += [writer.submit(Rows(name=f"{number}")) for number in range(3, 5)]
        await turns(3)
        later = [writer.submit(Rows(name=f"{number}")) for number in range(5, 15)]
        database.gate.set()
        answers = await asyncio.gather(*(job.answer(deadline()) for job in first + later))
        assert answers == [f"{number}" for number in range(15)]
        assert writer.waiting_rows == 0
        await writer.close(PATIENCE_SECONDS)

    run(main())
    assert [len(group) for group in database.groups] == [5, 10]


def test_what_would_rather_fail_than_wait_holds_nothing_up():
    """With `keeps`, rows are tried again; outcomes and deletions of their group hear of the failure."""
    database = Database(RecordsUnavailable("down"))
    hurried = Rows(2, "hurried")
    hurried.may_be_given_up = True

    async def main():
        writer = Writer(database.commit, keeps=True, max_rows=100)
        kept, given_up = writer.submit(Rows(3, "kept")), writer.submit(hurried)
        with pytest.raises(RecordsUnavailable, match="down"):
            await given_up.answer(deadline())
        assert await kept.answer(deadline()) == "kept"
        assert writer.waiting_rows == 0
        await writer.close(PATIENCE_SECONDS)

    run(main())
    assert [len(group) for group in database.groups] == [1]


def test_a_group_has_a_bound():
    """Rows beyond it form the next; work that is larger than the bound is a group of its own."""
    database = Database()

    async def main():
        writer = Writer(database.commit, keeps=False, max_rows=10 * MOST_ROWS_TOGETHER)
        sizes = (MOST_ROWS_TOGETHER - 1, 1, 1, 2 * MOST_ROWS_TOGETHER, 1)
        jobs = [writer.submit(Rows(size)) for size in sizes]
        await asyncio.gather(*(job.answer(deadline()) for job in jobs))
        await writer.close(PATIENCE_SECONDS)

    run(main())
    sizes = [[work.rows for work in group] for group in database.groups]
    assert sizes == [[MOST_ROWS_TOGETHER - 1, 1], [1], [2 * MOST_ROWS_TOGETHER], [1]]


def test_a_full_queue_refuses_at_once():
    """Rows count from being accepted to being committed; then there is room again."""
    database = Database()
    database.gate.clear()

    async def main():
        writer = Writer(database.commit, keeps=False, max_rows=10)
        accepted = [writer.submit(Rows(6)), writer.submit(Rows(4))]
        with pytest.raises(QueueFull) as refusal:
            writer.submit(Rows(1))
        assert refusal.value.retry_after_seconds > 0
        database.gate.set()
        await asyncio.gather(*(job.answer(deadline()) for job in accepted))
        await writer.submit(Rows(10)).answer(deadline())
        await writer.close(PATIENCE_SECONDS)

    run(main())
    assert sum(work.rows for group in database.groups for work in group) == 20


def test_whoever_stops_waiting_has_been_recorded_all_the_same():
    """The deadline ends the waiting, not the work: it is committed, and told of once."""
    database, told = Database(), []
    database.gate.clear()

    async def main():
        writer = Writer(database.commit, keeps=False, max_rows=10)
        job = writer.submit(Rows(name="slow"))
        job.then = told.append
        with pytest.raises(DeadlineExceeded):
            await job.answer(deadline(0.02))
        assert not job.settled
        database.gate.set()
        assert await job.answer(deadline()) == "slow"
        await writer.close(PATIENCE_SECONDS)

    run(main())
    assert told == ["slow"]


def test_a_caller_that_is_cancelled_takes_nobody_along():
    """Its work and that of the others in the group are committed."""
    database = Database()
    database.gate.clear()

    async def main():
        writer = Writer(database.commit, keeps=False, max_rows=10)
        gone, stays = writer.submit(Rows(name="gone")), writer.submit(Rows(name="stays"))
        waiting = asyncio.create_task(gone.answer(deadline()))
        await asyncio.sleep(0)
        waiting.cancel()
        database.gate.set()
        assert await stays.answer(deadline()) == "stays"
        assert gone.result == "gone"
        await writer.close(PATIENCE_SECONDS)

    run(main())


def test_work_that_is_awaited_fails_at_once_when_the_database_does_not_answer():
    """Callers hear of it; the writer asks by itself whether the database is back."""
    database = Database(RecordsUnavailable("records: gone"))

    async def main():
        writer = Writer(database.commit, keeps=False, max_rows=10)
        job = writer.submit(Rows())
        with pytest.raises(RecordsUnavailable, match="gone"):
            await job.answer(deadline())
        assert job.failed
        assert writer.trouble == "records: gone"
        while writer.trouble is not None:
            await asyncio.sleep(0.01)
        assert writer.waiting_rows == 0
        await writer.close(PATIENCE_SECONDS)

    run(main())
    assert [[work.rows for work in group] for group in database.groups] == [[0]]


def test_work_that_is_kept_is_tried_again_until_it_is_committed():
    """In its order, each once, with what arrived meanwhile behind it; rows wait within the bound."""
    database = Database(*[RecordsUnavailable("records: gone")] * 3)

    async def main():
        writer = Writer(database.commit, keeps=True, max_rows=4)
        jobs = [writer.submit(Rows(2, name="a"))]
        while writer.trouble is None:
            await asyncio.sleep(0)
        jobs.append(writer.submit(Rows(2, name="b")))
        with pytest.raises(QueueFull):
            writer.submit(Rows())
        assert await asyncio.gather(*(job.answer(deadline()) for job in jobs)) == ["a", "b"]
        assert writer.trouble is None
        await writer.close(PATIENCE_SECONDS)

    run(main())
    assert [[work.name for work in group] for group in database.groups] == [["a"], ["b"]]


def test_an_unexpected_error_fails_its_group_and_not_the_writer():
    """Nothing of the error's text, which may quote values, reaches a caller."""
    database = Database(ValueError("7734501"))

    async def main():
        writer = Writer(database.commit, keeps=True, max_rows=10)
        with pytest.raises(RecordsUnavailable) as refusal:
            await writer.submit(Rows()).answer(deadline())
        assert "7734501" not in str(refusal.value)
        assert await writer.submit(Rows(name="next")).answer(deadline()) == "next"
        await writer.close(PATIENCE_SECONDS)

    run(main())


def test_closing_commits_what_waits():
    """Also what nobody waits for any more, and what has to be tried again."""
    database = Database(RecordsUnavailable("records: gone"))

    async def main():
        writer = Writer(database.commit, keeps=True, max_rows=10)
        for number in range(10):
            writer.submit(Rows(name=f"{number}"))
        await writer.close(PATIENCE_SECONDS)

    run(main())
    assert [work.name for group in database.groups for work in group] == [f"{number}" for number in range(10)]


def test_closing_gives_up_in_the_end():
    """A database that does not come back does not keep the service from stopping."""
    database = Database(*[RecordsUnavailable("records: gone")] * 100)

    async def main():
        writer = Writer(database.commit, keeps=True, max_rows=10)
        writer.submit(Rows())
        await writer.close(0.1)

    run(main())
    assert database.groups == []


def test_what_needs_no_waiting_is_done_on_the_event_loop():
    """In a few turns, until it is the thread's for once; what cannot be done there goes to the thread."""
    database, here = Database(), []

    def at_once(works):
        if any(work.name == "slow" for work in works):
            return None
        here.append(works)
        return [work.name for work in works]

    async def main():
        writer = Writer(database.commit, keeps=False, max_rows=10, at_once=at_once)
        jobs = [writer.submit(Rows(name="fast"))]
        await turns(3)
        assert jobs[0].result == "fast"
        assert await writer.submit(Rows(name="slow")).answer(deadline()) == "slow"
        for _ in range(1000):
            assert await writer.submit(Rows(name="fast")).answer(deadline()) == "fast"
        await writer.close(PATIENCE_SECONDS)

    run(main())
    assert len(here) > 900
    assert 2 <= len(database.groups) <= 10
    assert len(here) + len(database.groups) == 1002


def test_every_transaction_is_observed():
    """Its rows, its duration, and its error if it failed."""
    seen = []
    database = Database(RecordsUnavailable("records: gone"))

    async def main():
        writer = Writer(database.commit, keeps=True, max_rows=10, observe=lambda *what: seen.append(what))
        await writer.submit(Rows(3)).answer(deadline())
        await writer.close(PATIENCE_SECONDS)

    run(main())
    assert [(rows, type(error)) for rows, _, error in seen] == [(3, RecordsUnavailable), (3, type(None))]
    assert all(0 <= seconds < PATIENCE_SECONDS for _, seconds, _ in seen)
