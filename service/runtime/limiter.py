"""A bounded place for work that matters less than predictions: one thread, low priority, deadlines.

Knows functions of single rows; knows neither models nor explanations.
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.errors import QueueFull

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# Rows between two looks at the queue: a request of many rows lets others in.
CHUNK_ROWS = 8


def _step_back() -> None:
    """Let this thread run only where nobody else wants the core: on Linux each thread has a policy of its own.

    A nice value is not enough. Measured with one core for the whole service: at nice 10 the p99 of predictions was ten
    times as high while explanations were made.
    """
    if sys.platform == "linux":
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))


class Limiter:
    """Runs the work of single rows in one thread of low priority, with at most `max_rows` rows waiting."""

    def __init__(self, *, max_rows: int) -> None:
        self.max_rows = max_rows
        self.waiting_rows = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="plumbline-explain", initializer=_step_back)

    async def map(
        self, function: Callable[[Item], Answer], items: Sequence[Item], *, timeout_seconds: float
    ) -> list[Answer | Exception | None]:
        """`function` of each item (one row's work), in order: its answer, what it raised, or None if time ran out.

        Raises QueueFull at once if the rows do not fit. A row under way when time runs out is not waited for.
        """
        if self.waiting_rows + len(items) > self.max_rows:
            raise QueueFull(f"{self.max_rows} rows wait for an explanation already", retry_after_seconds=1.0)
        deadline = time.monotonic() + timeout_seconds
        answers: list[Answer | Exception | None] = []
        self.waiting_rows += len(items)
        try:
            for start in range(0, len(items), CHUNK_ROWS):
                chunk = items[start : start + CHUNK_ROWS]
                answers += await self._run(function, chunk, deadline)
        finally:
            self.waiting_rows -= len(items)
        return answers

    async def _run(
        self, function: Callable[[Item], Answer], chunk: Sequence[Item], deadline: float
    ) -> list[Answer | Exception | None]:
        answers: list[Answer | Exception | None] = []  # filled by the thread
        remaining = deadline - time.monotonic()
        if remaining > 0:
            running = self._executor.submit(_each, function, chunk, deadline, answers)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(running), remaining)
        done = answers[:]
        return done + [None] * (len(chunk) - len(done))

    def close(self) -> None:
        """Drop what waits; what runs ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _each(
    function: Callable[[Item], Answer], chunk: Sequence[Item], deadline: float, answers: list[Answer | Exception | None]
) -> None:
    for item in chunk:
        if time.monotonic() >= deadline:
            return
        try:
            answers.append(function(item))
        except Exception as error:  # noqa: BLE001 - a failed explanation must not fail its neighbours, nor the prediction
            answers.append(error)
