"""An event loop without waiting: its clock leaps to the next timer as soon as nothing is left to do.

Whole numbers of seconds are exact in it, so that a test may ask at which second something happened.
"""

import asyncio
import selectors


class Deadlock(AssertionError):
    """Somebody waits, and nothing is left that could wake him."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its "threads" run at once and answer later: `duration()` is asked how many seconds later."""

    def __init__(self, *, duration=lambda: 1, idle=lambda: None):
        self._now = 0.0
        self._duration = duration
        self._idle = idle
        self.busy = 0  # functions that run in a "thread"
        super().__init__(_Leaping(self))

    def time(self):
        return self._now

    def leap(self, seconds):
        self._idle()
        self._now += seconds

    def run_in_executor(self, executor, function, *arguments):
        future = self.create_future()
        self.busy += 1
        try:
            set_outcome, outcome = future.set_result, function(*arguments)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the future tells
            set_outcome, outcome = future.set_exception, error
        self.call_later(self._duration(), self._finish, set_outcome, outcome)
        return future

    def _finish(self, set_outcome, outcome):
        self.busy -= 1
        set_outcome(outcome)


class _Leaping(selectors.DefaultSelector):
    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            raise Deadlock("nothing will ever happen")
        self._loop.leap(timeout)
        return []
