"""The batcher under any interleaving: in virtual time, where an answer, a refusal and a deadline have their second.

The rules that every step is held against are in `Watch`; Hypothesis looks for the steps that break one.
"""

import asyncio
import itertools
from dataclasses import dataclass, field

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from virtual_time import VirtualLoop

from service.errors import DeadlineExceeded, ModelFailed, NotReady, QueueFull
from service.runtime.batcher import Batcher

# What the model does with a row. RAISES and LOST spoil the whole run they are in.
GOOD, RAISES, LOST, NAN = 0, 1, 2, 3
QUICK_SECONDS, SLOW_SECONDS = 0.0005, 0.5  # of a run, estimated: on the loop, in a thread
LONG = 100_000


@dataclass(eq=False)
class Caller:
    """One request: its rows by number and kind, what it was told, and when."""

    kinds: list[int]
    timeout_seconds: int
    task: asyncio.Task | None = None
    numbers: list[int] = field(default_factory=list)
    asked_at: float | None = None
    room: int = 0
    late: bool = False  # asked after closing
    cancelled_at: float | None = None
    ran: bool = False
    outcome: object = None
    finished_at: float | None = None

    @property
    def waits(self):
        return self.asked_at is not None and self.finished_at is None

    def culprit(self):
        """The row that a failure is to name: the first that fails a run, else the first that is not finite."""
        spoiling = [row for row, kind in enumerate(self.kinds) if kind in (RAISES, LOST)]
        return next(iter(spoiling or [row for row, kind in enumerate(self.kinds) if kind == NAN]), None)


class Watch:
    """A batcher in virtual time whose model, queue and answers are checked as they happen."""

    def __init__(self, *, max_batch_rows, max_queue_rows, quick_rows, durations):
        self.loop = VirtualLoop(duration=itertools.cycle(durations).__next__, idle=self.check_at_rest)
        self.max_batch_rows, self.max_queue_rows, self.quick_rows = max_batch_rows, max_queue_rows, quick_rows
        self.batcher = Batcher(
            self.model, max_batch_rows=max_batch_rows, max_queue_rows=max_queue_rows, seconds=self.seconds
        )
        self.callers: list[Caller] = []
        self.owners: dict[int, Caller] = {}
        self.highest_run = -1
        self.spoilt = False
        self.closing_at: float | None = None
        self.complaints: list[str] = []  # from where an exception would be taken for the model's

    def seconds(self, rows):
        return QUICK_SECONDS if rows <= self.quick_rows else SLOW_SECONDS

    def model(self, X):
        """Margin 10 x, probability (x, -x); a column of X tells the row's number, the other its kind."""
        numbers, kinds = X[:, 0].astype(int).tolist(), X[:, 1]
        self.check_run(numbers)
        if (kinds == RAISES).any():
            self.spoilt = True
            raise RuntimeError("a poisoned row")
        self.spoilt |= bool((kinds == LOST).any())
        X = X[kinds != LOST]
        x = np.where(X[:, 1:] == NAN, np.nan, X[:, :1])
        return x * 10, np.hstack([x, -x])

    def check_run(self, numbers):
        self.expect(len(numbers) <= self.max_batch_rows, "a run exceeds the batch")
        self.expect(numbers == sorted(set(numbers)), "rows are out of order, or twice in a run")
        self.expect(self.closing_at is None, "a run starts after closing")
        self.expect(self.loop.busy <= 1, "two runs at once")
        fresh = [number for number in numbers if number > self.highest_run]
        self.expect(len(fresh) == len(numbers) or self.spoilt, "rows are run again for no reason")
        self.expect(not fresh or fresh[0] == self.next_to_run(), "a request is overtaken")
        self.highest_run = max([self.highest_run, *numbers])
        for caller in {self.owners[number] for number in numbers}:
            caller.ran = True
            self.expect(caller.cancelled_at is None, "rows of a caller who is gone are run")
            self.expect(caller.asked_at + caller.timeout_seconds > self.loop.time(), "rows are run past their deadline")

    def next_to_run(self):
        """The lowest row not run yet of those who still wait and may."""
        now = self.loop.time()
        for number, caller in self.owners.items():
            gone = (
                not caller.waits or caller.cancelled_at is not None or caller.asked_at + caller.timeout_seconds <= now
            )
            if number > self.highest_run and not gone:
                return number
        return None

    def expect(self, holds, complaint):
        if not holds:
            self.complaints.append(complaint)
        self.check_bounds()

    def check_bounds(self):
        if not 0 <= self.batcher.waiting_rows <= self.max_queue_rows:
            self.complaints.append(f"{self.batcher.waiting_rows} rows wait")

    def check_at_rest(self):
        """Before time passes: everything that can be done now is done."""
        waiting = [caller for caller in self.callers if caller.waits]
        assert self.loop.busy or not waiting, "callers wait though nothing runs"
        assert self.batcher.waiting_rows == sum(len(caller.kinds) for caller in waiting if not caller.ran)
        for caller in waiting:
            assert caller.asked_at + caller.timeout_seconds > self.loop.time(), "a deadline has passed in silence"
        assert not self.complaints

    async def ask(self, caller):
        first = len(self.owners)
        caller.numbers = list(range(first, first + len(caller.kinds)))
        self.owners |= dict.fromkeys(caller.numbers, caller)
        caller.asked_at, caller.late = self.loop.time(), self.closing_at is not None
        caller.room = self.max_queue_rows - self.batcher.waiting_rows
        X = np.array([caller.numbers, caller.kinds], np.float32).T
        try:
            caller.outcome = await self.batcher.infer(X, timeout_seconds=caller.timeout_seconds)
        except BaseException as error:  # noqa: BLE001 - judged at the end
            caller.outcome = error
        finally:
            caller.finished_at = self.loop.time()
            self.check_bounds()

    async def close(self):
        if self.closing_at is None:
            self.closing_at = self.loop.time()
        await self.batcher.close()
        if self.loop.busy:
            self.complaints.append("closed while the model runs")

    def judge(self, caller):
        """Whether the outcome is this caller's own, at its time."""
        outcome, deadline = caller.outcome, caller.asked_at + caller.timeout_seconds
        full = len(caller.kinds) > caller.room
        assert caller.late <= isinstance(outcome, NotReady)
        assert caller.late or full == isinstance(outcome, QueueFull)
        match outcome:
            case asyncio.CancelledError():
                assert caller.finished_at == caller.cancelled_at
            case QueueFull():
                batches = outcome.retry_after_seconds / self.seconds(self.max_batch_rows)
                waiting = self.max_queue_rows - caller.room
                assert waiting / self.max_batch_rows < batches <= 1 + waiting / self.max_batch_rows
                assert caller.finished_at == caller.asked_at
            case NotReady():
                assert not caller.ran
                assert caller.finished_at == max(caller.asked_at, self.closing_at)
            case DeadlineExceeded():
                assert caller.finished_at == max(caller.asked_at, deadline)
            case ModelFailed():
                assert outcome.row == caller.culprit()
                assert caller.finished_at <= deadline
            case (margin, probability):
                assert caller.culprit() is None
                assert margin.tolist() == [[10.0 * number] for number in caller.numbers]
                assert probability.tolist() == [[number, -number] for number in caller.numbers]
                assert caller.finished_at <= deadline
            case _:
                raise AssertionError(f"{outcome!r} is nobody's outcome")


KINDS = st.sampled_from([GOOD] * 7 + [NAN, NAN, RAISES, LOST])
ROWS = st.one_of(st.lists(st.just(GOOD), min_size=1, max_size=4), st.lists(KINDS, min_size=1, max_size=14))
TIMEOUTS = st.sampled_from([LONG, LONG, LONG, 1, 2, 3, 5, 8, 0, -1])


class Interleavings(RuleBasedStateMachine):
    """Requests, cancellations, closings and the passing of time, in any order."""

    @initialize(
        max_batch_rows=st.integers(1, 10),
        max_queue_rows=st.integers(4, 40),
        quick_rows=st.sampled_from([0, 2, 5, LONG]),
        durations=st.lists(st.integers(1, 5), min_size=1, max_size=4),
        open_for=st.sampled_from([0, 10, 20, LONG]),
    )
    def start(self, open_for, **bounds):
        self.watch = Watch(**bounds)
        self.loop = self.watch.loop
        self.open_for = open_for  # requests, before there may be a closing
        self.closings: list[asyncio.Task] = []

    @rule(requests=st.lists(st.tuples(ROWS, TIMEOUTS), min_size=1, max_size=5))
    def ask(self, requests):
        for kinds, timeout_seconds in requests:
            caller = Caller(kinds, timeout_seconds)
            caller.task = self.loop.create_task(self.watch.ask(caller))
            self.watch.callers.append(caller)

    @rule(requests=st.lists(st.tuples(ROWS, TIMEOUTS), min_size=2, max_size=5))
    def ask_and_leave(self, requests):
        """The first of several goes away just before the run."""
        self.ask(requests)
        self.turn()
        leaving = self.watch.callers[-len(requests)]
        if leaving.waits:
            leaving.task.cancel()
            leaving.cancelled_at = self.loop.time()

    @precondition(lambda self: any(caller.waits for caller in self.watch.callers))
    @rule(data=st.data())
    def cancel(self, data):
        caller = data.draw(st.sampled_from([caller for caller in self.watch.callers if caller.waits]))
        caller.task.cancel()
        if caller.cancelled_at is None:
            caller.cancelled_at = self.loop.time()

    @rule()
    def turn(self):
        self.loop.run_until_complete(asyncio.sleep(0))

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @precondition(lambda self: len(self.watch.callers) > self.open_for)
    @rule(given_up=st.booleans())
    def close(self, given_up):
        closing = self.loop.create_task(self.watch.close())
        if given_up:
            self.turn()
            closing.cancel()
        self.closings.append(closing)

    def teardown(self):
        if not hasattr(self, "watch"):
            return
        try:
            self.loop.run_until_complete(self.end())
        finally:
            self.loop.close()

    async def end(self):
        """Everybody comes to an end (else Deadlock), and not by the longest deadline."""
        await asyncio.gather(*(caller.task for caller in self.watch.callers), *self.closings, return_exceptions=True)
        assert self.loop.time() < LONG / 2
        await asyncio.wait_for(self.watch.close(), 10)
        await asyncio.sleep(0)
        assert self.watch.batcher.waiting_rows == 0
        assert not self.watch.complaints
        for caller in self.watch.callers:
            self.watch.judge(caller)


Interleavings.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestInterleavings = Interleavings.TestCase
