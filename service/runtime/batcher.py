"""Joins the rows of concurrent requests into one run of the model.

Knows rows, deadlines and a function that runs a matrix; knows neither ONNX Runtime nor requests.

Requests that arrive in the same turn of the event loop share a run: nobody waits for a timer. A run that is expected
to be short happens on the loop itself, where a thread would cost more than it saves; a longer one in a worker thread,
and what arrives meanwhile forms the next batch. The unit of every bound is the row.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import DeadlineExceeded, ModelFailed, NotReady, QueueFull
from service.runtime.statistics import Statistics

Floats = NDArray[np.float32]
Outputs = tuple[Floats, Floats]

# A run expected to take longer than this leaves the event loop.
INLINE_SECONDS = 0.001


@dataclass(slots=True, eq=False)
class _Ticket:
    X: Floats
    arrived: float
    deadline: float
    answer: asyncio.Future[Outputs]


def _ignore(rows: int, seconds: float) -> None:
    """The observer of nobody."""


class Batcher:
    """One queue before one model. Use it from one event loop; `close` it when the model goes.

    Every row that enters leaves: with its own answer, or with DeadlineExceeded, ModelFailed or NotReady.
    """

    def __init__(
        self,
        run: Callable[[Floats], Outputs],
        *,
        max_batch_rows: int,
        max_queue_rows: int,
        seconds: Callable[[int], float] = lambda rows: 0.0,
        inline: bool = True,
        observe: Callable[[int, float], None] = _ignore,
    ) -> None:
        """`run` maps `(n, d)` to two arrays of n rows, `seconds(n)` estimates it, `observe(n, seconds)` is told.

        Not `inline` where a run waits for something else than this thread's core: then none happens on the event loop.
        """
        self._run = run
        self._seconds = seconds
        self._inline_seconds = INLINE_SECONDS if inline else -1.0
        self._observe = observe
        self.max_batch_rows = max_batch_rows
        self.max_queue_rows = max_queue_rows
        self.waiting_rows = 0
        self.statistics = Statistics()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: deque[_Ticket] = deque()
        self._scheduled = False
        self._running: asyncio.Future[list[Outputs | ModelFailed]] | None = None
        self._in_flight: list[_Ticket] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_deadline = 0.0
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="plumbline-run")
        self._closed = False

    async def infer(self, X: Floats, *, timeout_seconds: float) -> Outputs:
        """The model's outputs for `X` `(n, d)`, row by row what `run(X)` alone would give.

        Raises QueueFull at once when the queue holds too many rows, DeadlineExceeded when the answer is not there in
        time, ModelFailed (with `row`) when the model raises on a row or gives a value that is not finite.
        """
        if self._closed:
            raise NotReady("the model is being unloaded")
        if self.waiting_rows + len(X) > self.max_queue_rows:
            self.statistics.fail.add(0.0)
            raise QueueFull(f"{self.max_queue_rows} rows are waiting already", retry_after_seconds=self._backlog())
        # Kept, because asking for the running loop is a system call before Python 3.12.
        loop = self._loop = self._loop or asyncio.get_running_loop()
        arrived = loop.time()
        ticket = _Ticket(X, arrived, arrived + timeout_seconds, loop.create_future())
        self._queue.append(ticket)
        self.waiting_rows += len(X)
        if not self._scheduled and self._running is None:
            self._scheduled = True
            loop.call_soon(self._flush)
        elif self._running is not None:
            self._arm(ticket.deadline)
        try:
            outputs = await ticket.answer
        except asyncio.CancelledError:
            self._discard(ticket)
            raise
        except Exception:
            self.statistics.fail.add(loop.time() - arrived)
            raise
        self.statistics.answered(len(X), loop.time() - arrived)
        return outputs

    async def close(self) -> None:
        """Answer what is in flight, refuse what waits, free the thread."""
        self._closed = True
        for ticket in self._queue:
            _fail(ticket, NotReady("the model is being unloaded"))
        self._queue.clear()
        self.waiting_rows = 0
        self._executor.shutdown(wait=False)  # the thread ends with its run, even if nobody waits for it here
        if self._running is not None:
            await asyncio.wait([self._running])
        if self._timer is not None:
            self._timer.cancel()

    def _backlog(self) -> float:
        batches = 1 + self.waiting_rows // self.max_batch_rows
        return batches * self._seconds(self.max_batch_rows)

    def _discard(self, ticket: _Ticket) -> None:
        try:
            self._queue.remove(ticket)
        except ValueError:
            return  # it is in a run already; its batch-mates need that run
        self.waiting_rows -= len(ticket.X)

    def _take(self) -> list[_Ticket]:
        batch: list[_Ticket] = []
        rows, now = 0, asyncio.get_running_loop().time()
        while self._queue and (not batch or rows + len(self._queue[0].X) <= self.max_batch_rows):
            ticket = self._queue.popleft()
            self.waiting_rows -= len(ticket.X)
            if ticket.deadline <= now:
                _fail(ticket, DeadlineExceeded("the deadline passed before the model ran"))
            elif not ticket.answer.done():
                batch.append(ticket)
                self.statistics.queue.add(now - ticket.arrived)
                rows += len(ticket.X)
        return batch

    def _flush(self) -> None:
        self._scheduled = False
        if self._running is not None or not (batch := self._take()):
            return
        try:
            self._start(batch)
        except BaseException:
            self._abandon(batch)
            raise

    def _start(self, batch: list[_Ticket]) -> None:
        matrices = [ticket.X for ticket in batch]
        if self._seconds(sum(map(len, matrices))) <= self._inline_seconds:
            self._deliver(batch, self._execute(matrices))
            self._reschedule()
            return
        self._running = asyncio.get_running_loop().run_in_executor(self._executor, self._execute, matrices)
        self._in_flight = batch
        self._running.add_done_callback(self._run_is_over)
        self._arm(min(ticket.deadline for ticket in (*batch, *self._queue)))

    def _run_is_over(self, running: asyncio.Future[list[Outputs | ModelFailed]]) -> None:
        batch, self._in_flight, self._running = self._in_flight, [], None
        try:
            self._deliver(batch, running.result())
        except BaseException:
            self._abandon(batch)
            raise
        self._reschedule()

    def _abandon(self, batch: list[_Ticket]) -> None:
        """For a run that could not be started, or that raised what is no model's failure."""
        for ticket in batch:
            _fail(ticket, NotReady("the run of the model was broken off"))
        self._reschedule()

    def _reschedule(self) -> None:
        if self._queue and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _execute(self, matrices: list[Floats]) -> list[Outputs | ModelFailed]:
        """One answer per matrix, from one run where possible."""
        try:
            return self._answers(matrices)
        except Exception:  # noqa: BLE001 - ONNX Runtime's exceptions share no base class; the next lines find the culprit
            if len(matrices) == 1:
                return [ModelFailed("the model failed on this row", row=self._failing_row(matrices[0]))]
            middle = len(matrices) // 2
            return self._execute(matrices[:middle]) + self._execute(matrices[middle:])

    def _answers(self, matrices: list[Floats]) -> list[Outputs | ModelFailed]:
        """One answer per matrix, from one run; raises what the run does."""
        start = time.perf_counter()
        X = matrices[0] if len(matrices) == 1 else np.concatenate(matrices)
        joined = time.perf_counter()
        margin, probability = self._run_chunks(X)
        ran = time.perf_counter()
        answers = _part(matrices, margin, probability)
        self.statistics.computed(
            len(matrices),
            len(X) if len(X) <= self.max_batch_rows else None,
            joined=joined - start,
            infer=ran - joined,
            parted=time.perf_counter() - ran,
        )
        return answers

    def _run_chunks(self, X: Floats) -> Outputs:
        if len(X) <= self.max_batch_rows:
            start = time.perf_counter()
            try:
                margin, probability = self._run(X)
                if not len(margin) == len(probability) == len(X):
                    raise ValueError("a run must answer every row")
                return margin, probability
            finally:
                seconds = time.perf_counter() - start
                self._observe(len(X), seconds)
                self.statistics.ran(len(X), seconds)
        chunks = [X[start : start + self.max_batch_rows] for start in range(0, len(X), self.max_batch_rows)]
        margins, probabilities = zip(*map(self._run_chunks, chunks), strict=True)
        return np.concatenate(margins), np.concatenate(probabilities)

    def _failing_row(self, X: Floats) -> int:
        """Index of the first row that fails alone; the last one if each succeeds alone (a failure by the company)."""
        start, end = 0, len(X)
        while end - start > 1:
            middle = (start + end) // 2
            try:
                self._run_chunks(X[start:middle])
            except Exception:  # noqa: BLE001 - as in _execute
                end = middle
            else:
                start = middle
        return start

    def _deliver(self, batch: list[_Ticket], answers: list[Outputs | ModelFailed]) -> None:
        for ticket, answer in zip(batch, answers, strict=True):
            if ticket.answer.done():
                continue  # cancelled, or past its deadline
            if isinstance(answer, ModelFailed):
                ticket.answer.set_exception(answer)
            else:
                ticket.answer.set_result(answer)

    def _arm(self, deadline: float) -> None:
        """Have `_expire` called at `deadline`, unless it will be called before."""
        if self._timer is not None:
            if self._timer_deadline <= deadline:  # not its when(): uvloop's handle has none where the time is near
                return
            self._timer.cancel()
        self._timer_deadline = deadline
        self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for ticket in [ticket for ticket in self._queue if ticket.deadline <= now]:
            self._discard(ticket)
            _fail(ticket, DeadlineExceeded("the deadline passed while the model was busy"))
        for ticket in self._in_flight:
            if ticket.deadline <= now:
                _fail(ticket, DeadlineExceeded("the deadline passed while the model ran"))
        waiting = [t.deadline for t in (*self._queue, *self._in_flight) if not t.answer.done()]
        if waiting:
            self._arm(min(waiting))


def _fail(ticket: _Ticket, error: BaseException) -> None:
    if not ticket.answer.done():
        ticket.answer.set_exception(error)


def _part(matrices: list[Floats], margin: Floats, probability: Floats) -> list[Outputs | ModelFailed]:
    """The outputs of a run of all `matrices` -> those of each."""
    if len(matrices) == 1:
        return [_finite(margin, probability)]
    all_finite = bool(np.isfinite(margin).all() and np.isfinite(probability).all())
    answers: list[Outputs | ModelFailed] = []
    start = 0
    for matrix in matrices:
        end = start + len(matrix)
        part = margin[start:end], probability[start:end]
        answers.append(part if all_finite else _finite(*part))
        start = end
    return answers


def _finite(margin: Floats, probability: Floats) -> Outputs | ModelFailed:
    finite = np.isfinite(margin).all(axis=1) & np.isfinite(probability).all(axis=1)
    if finite.all():
        return margin, probability
    return ModelFailed("the model's answer for this row is not finite", row=int(np.argmin(finite)))
