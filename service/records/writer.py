"""Group commit: what arrives together is committed together, as a commit costs as much for a hundred rows as for one.

A commit that needs no waiting, that of an embedded database, happens on the event loop itself, where a thread would
cost more than it saves; all others in one thread, and what arrives meanwhile forms the next group. Knows jobs and
functions that run them in one transaction; knows neither tables nor requests.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import structlog

from service.errors import DeadlineExceeded, PlumblineError, QueueFull, RecordsUnavailable

log = structlog.get_logger(__name__)

MOST_ROWS_TOGETHER = 4096
# So many are company enough.
MOST_ROWS_GATHERED = 64
# Then one in the thread, where SQLite also moves what was written from its log to the database, which takes long.
MOST_COMMITS_AT_ONCE = 200
# How late a caller may be told that it is too late.
CLOCK_SECONDS = 0.1
FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 1.0


class Work(Protocol):
    """What a job does in a transaction. With `may_be_given_up` its caller rather hears of a failure than waits."""

    @property
    def rows(self) -> int:
        """How much of the bound it takes up."""


class Nothing:
    """Work that only finds out whether work can be done."""

    rows = 0
    may_be_given_up = True

    def run(self, connection: object) -> None:
        """Nothing."""


class Job:
    """Work that was submitted, and what became of it. `answer` waits; the other attributes tell without waiting."""

    __slots__ = ("_waiter", "deadline", "error", "result", "settled", "then", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.settled = False
        self.deadline = math.inf
        self.error: Exception | None = None
        self.result: Any = None
        # Told of the result, once, whether or not anybody waits for it.
        self.then: Callable[[Any], None] | None = None
        self._waiter: asyncio.Future[Any] | None = None

    @property
    def failed(self) -> bool:
        """Whether it was given up."""
        return self.error is not None

    @property
    def repeated(self) -> Collection[int]:
        """Rows that were recorded before (of work that records)."""
        return self.result or ()

    async def answer(self, deadline: float) -> Any:
        """The result. Raises what the work raised, or DeadlineExceeded soon after `deadline` (monotonic seconds).

        The work goes on whoever stops waiting for it.
        """
        if not self.settled:
            self.deadline = deadline
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self.settled:
            raise DeadlineExceeded("the deadline passed before the record was committed")
        if self.error is not None:
            raise self.error
        return self.result

    def give_up_waiting(self, now: float) -> None:
        """Wake who waits if the deadline has passed at `now`."""
        if now >= self.deadline:
            self._wake()

    def settle(self, result: Any) -> None:
        """Note the result, or the error, and wake who waits."""
        self.settled = True
        if isinstance(result, Exception):
            self.error = result
        else:
            self.result = result
            if self.then is not None:
                self.then(result)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Writer:
    """Queue, thread and retries. Use it from one event loop; `close` it at the end.

    `keeps` work when the database does not answer (`after_response`: nothing that was accepted is lost), else fails it
    at once, so that callers hear of it.
    """

    def __init__(
        self,
        run: Callable[[list[Work]], list[Any]],
        *,
        keeps: bool,
        max_rows: int,
        at_once: Callable[[list[Work]], list[Any] | None] = lambda works: None,
        observe: Callable[[int, float, Exception | None], None] = lambda rows, seconds, error: None,
    ) -> None:
        """`run` gives a result or an exception for each work, or raises RecordsUnavailable for all of them.

        `at_once` is tried first, on the event loop: it never waits, and gives None where `run` is to do it.
        """
        self._run = run
        self._at_once = at_once
        self._commits_at_once = 0
        self._keeps = keeps
        self._observe = observe
        self.max_rows = max_rows
        self.waiting_rows = 0
        self.trouble: str | None = None
        self._queue: deque[Job] = deque()
        self._busy = False
        self._scheduled = False
        self._gathered_rows = 0
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._idle = asyncio.Event()
        self._idle.set()
        self._under_way: list[Job] = []
        self._clock: asyncio.TimerHandle | None = None
        self._closing = self._closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="plumbline-records")

    def submit(self, work: Work) -> Job:
        """Have `work` done soon. Raises QueueFull at once when too many rows wait."""
        if self.waiting_rows + work.rows > self.max_rows:
            raise QueueFull("too many rows wait to be recorded", retry_after_seconds=LAST_RETRY_SECONDS)
        job = Job(work)
        self._queue.append(job)
        self.waiting_rows += work.rows
        if not self._busy and not self._scheduled:
            self._scheduled = True
            self._idle.clear()
            self._gathered_rows = 0
            asyncio.get_running_loop().call_soon(self._gather)
        return job

    @property
    def busy(self) -> bool:
        """Whether the thread is at work."""
        return self._busy

    def note_trouble(self, trouble: str) -> None:
        """Say from the start that the database does not answer, and look whether it does."""
        self._report(trouble)

    async def drain(self, timeout_seconds: float) -> None:
        """Wait until everything is done, for so long at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_seconds)

    async def close(self, timeout_seconds: float) -> None:
        """Do what waits, for so long at most; then stop."""
        self._closing = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_seconds)
        except TimeoutError:
            log.error("records lost at shutdown", rows=self.waiting_rows)
        if self._clock is not None:
            self._clock.cancel()
        self._closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _gather(self) -> None:
        """Wait for company as long as company comes: a turn of the event loop without any starts the commit."""
        if self._gathered_rows < self.waiting_rows < MOST_ROWS_GATHERED:
            self._gathered_rows = self.waiting_rows
            asyncio.get_running_loop().call_soon(self._gather)
            return
        self._start()

    def _start(self) -> None:
        self._scheduled = False
        if self._busy or not self._queue:
            return  # a group that was started meanwhile took all
        batch: list[Job] = []
        rows = 0
        while self._queue and (not batch or rows + self._queue[0].work.rows <= MOST_ROWS_TOGETHER):
            batch.append(self._queue.popleft())
            rows += batch[-1].work.rows
        start = time.perf_counter()
        results = self._at_once([job.work for job in batch]) if self._commits_at_once < MOST_COMMITS_AT_ONCE else None
        if results is None:
            self._commits_at_once = 0
            self._attempt(batch)
            return
        self._commits_at_once += 1
        self._observe(rows, time.perf_counter() - start, None)
        self._settle(batch, results)
        self._go_on()

    def _attempt(self, batch: list[Job]) -> None:
        self._busy = True
        self._under_way = batch
        if self._clock is None:
            self._clock = asyncio.get_running_loop().call_later(CLOCK_SECONDS, self._watch_deadlines)
        start = time.perf_counter()
        running = asyncio.get_running_loop().run_in_executor(self._executor, self._run, [job.work for job in batch])
        running.add_done_callback(lambda done: self._finish(batch, done, time.perf_counter() - start))

    def _finish(self, batch: list[Job], done: "asyncio.Future[list[Any]]", seconds: float) -> None:
        if done.cancelled():
            return
        error = done.exception()
        rows = sum(job.work.rows for job in batch)
        self._observe(rows, seconds, error if isinstance(error, Exception) else None)
        if isinstance(error, RecordsUnavailable):
            self._report(str(error))
            kept = [job for job in batch if not getattr(job.work, "may_be_given_up", False)]
            if self._keeps and not self._closed and kept:
                given_up = [job for job in batch if job not in kept]
                self._settle(given_up, [error] * len(given_up))
                batch = kept
                delay, self._retry_seconds = self._retry_seconds, min(2 * self._retry_seconds, LAST_RETRY_SECONDS)
                asyncio.get_running_loop().call_later(delay, self._attempt, batch)
                return
        elif error is None:
            self._report(None)
        else:
            log.error("records not written", error=type(error).__name__, rows=rows)
        self._settle(batch, done.result() if error is None else [_mine(error)] * len(batch))
        self._go_on()

    def _watch_deadlines(self) -> None:
        """One clock for all who wait, and only while the thread works: most jobs are done at once."""
        self._clock = None
        if self._busy:
            now = time.monotonic()
            for job in (*self._under_way, *self._queue):
                job.give_up_waiting(now)
            self._clock = asyncio.get_running_loop().call_later(CLOCK_SECONDS, self._watch_deadlines)

    def _settle(self, jobs: list[Job], results: list[Any]) -> None:
        for job, result in zip(jobs, results, strict=True):
            self.waiting_rows -= job.work.rows
            job.settle(result)

    def _go_on(self) -> None:
        """The next group, if there is one."""
        self._busy = False
        if self._queue:
            self._start()
        else:
            self._idle.set()

    def _report(self, trouble: str | None) -> None:
        if trouble is not None and self.trouble is None:
            log.error("records unavailable", reason=trouble)
            if not self._keeps:
                asyncio.get_running_loop().call_later(LAST_RETRY_SECONDS, self._probe)
        elif trouble is None and self.trouble is not None:
            log.info("records available again")
            self._retry_seconds = FIRST_RETRY_SECONDS
        self.trouble = trouble

    def _probe(self) -> None:
        """Find out whether the database is back: a service that is not ready is not asked by anybody."""
        if self.trouble is None or self._closing:
            return
        if not self._busy and not self._scheduled:
            self.submit(Nothing())
        asyncio.get_running_loop().call_later(LAST_RETRY_SECONDS, self._probe)


def _mine(error: BaseException) -> Exception:
    if isinstance(error, PlumblineError):
        return error
    return RecordsUnavailable(f"records: nothing was written ({type(error).__name__})")
