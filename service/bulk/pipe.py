"""Bytes from the event loop to a thread, and answers back, each with a bound: who is ahead waits.

Knows bytes and who waits for whom; knows neither HTTP nor Arrow.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable

import numpy as np

# What may lie between the two sides, besides the piece that a reader is filling.
MOST_BYTES = 8 * 2**20
SLAB_BYTES = 2**20


class Abandoned(Exception):
    """The other side has gone; there is nobody to work for."""


class _Shared:
    """One event loop on one side, one thread on the other, and the news between them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._told = asyncio.Event()
        self._loop_waits = False
        self._gone = False

    def abandon(self) -> None:
        """Wake the thread with Abandoned, now and for ever."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    async def _until_told(self) -> None:
        """Wait for the thread; `_loop_waits` has been set under the lock."""
        await self._told.wait()
        self._told.clear()

    def _tell_loop(self) -> None:
        """Call with the lock held."""
        if self._loop_waits:
            self._loop_waits = False
            self._loop.call_soon_threadsafe(self._told.set)


class Inflow(_Shared):
    """A body on its way to a thread that reads it like a file.

    What feeds it either hands over parts (`feed`) or has bytes written where `room` says (`wrote`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._parts: deque[memoryview] = deque()
        self._bytes = 0
        self._ended = False
        self._trouble: Exception | None = None
        self._slab = memoryview(b"")
        self._spare: list[memoryview] = []
        self._resume: Callable[[], None] | None = None
        self.received_bytes = 0
        self.closed = False

    @property
    def full(self) -> bool:
        """Whether it is the reader that is waited for."""
        return self._bytes > MOST_BYTES

    async def feed(self, part: bytes) -> None:
        """Hand over `part`; returns when there is room for more."""
        with self._changed:
            if not part or self._gone:
                return
            self._append(memoryview(part))
            full = self._loop_waits = self.full
        if full:
            await self._until_told()

    def start(self, part: bytes) -> None:
        """Take what came before `room` was asked."""
        if part:
            with self._changed:
                self._append(memoryview(part))

    def room(self, most: int) -> memoryview:
        """Where up to `most` next bytes may be written."""
        if not self._slab:
            with self._changed:
                self._slab = self._spare.pop() if self._spare else memoryview(bytearray(SLAB_BYTES))
        return self._slab[:most]

    def wrote(self, size: int, resume: Callable[[], None]) -> bool:
        """`size` bytes were written there. Where there is no room for more, True, and `resume` is called later."""
        with self._changed:
            if self._gone:  # what comes is read and forgotten
                return False
            part, self._slab = self._slab[:size], self._slab[size:]
            self._append(part)
            if self.full:
                self._resume = resume
            return self.full

    def _append(self, part: memoryview) -> None:
        self._parts.append(part)
        self._bytes += len(part)
        self.received_bytes += len(part)
        self._changed.notify()

    def end(self, trouble: Exception | None = None) -> None:
        """Nothing follows; the reader gets `trouble` where it would meet the end."""
        with self._changed:
            self._ended = True
            self._trouble = trouble
            self._changed.notify_all()

    def read(self, size: int = -1) -> bytes | memoryview:
        """The next `size` bytes, fewer only at the end of the body; in the thread."""
        if size < 0:
            raise ValueError("a body is read in pieces")
        filled = np.empty(size, np.uint8)  # not zeroed, and copied into without the interpreter's lock
        position = 0
        while position < size and (part := self._next(size - position)):
            filled[position : position + len(part)] = np.frombuffer(part, np.uint8)
            position += len(part)
            self._give_back(part)
        return filled[:position].data

    def _next(self, most: int) -> memoryview:
        """Up to `most` bytes as they came; empty at the end."""
        with self._changed:
            while not self._parts and not self._ended and not self._gone:
                self._changed.wait()
            if self._gone:
                raise Abandoned
            if not self._parts:
                if self._trouble is not None:
                    raise self._trouble
                return memoryview(b"")
            part = self._parts.popleft()
            if len(part) > most:
                self._parts.appendleft(part[most:])
                part = part[:most]
            self._bytes -= len(part)
            if self._bytes <= MOST_BYTES // 2:
                self._go_on()
            return part

    def abandon(self) -> None:
        """Wake both sides: the thread with Abandoned, what feeds because nothing is kept any more."""
        super().abandon()
        with self._changed:
            self._parts.clear()
            self._go_on()

    def _go_on(self) -> None:
        self._tell_loop()
        resume, self._resume = self._resume, None
        if resume is not None:
            self._loop.call_soon_threadsafe(resume)

    def _give_back(self, part: memoryview) -> None:
        """A slab whose last byte was read is written to again."""
        slab = part.obj
        if isinstance(slab, bytearray) and part.nbytes and _ends(part, slab):
            with self._changed:
                self._spare.append(memoryview(slab))

    def readable(self) -> bool:
        """As a file says it."""
        return True

    def close(self) -> None:
        """As a file does; the body is not."""


def _ends(part: memoryview, slab: bytearray) -> bool:
    """Whether the last byte of `part` is that of `slab`."""
    end: int = np.frombuffer(part, np.uint8).ctypes.data + part.nbytes
    return end == np.frombuffer(slab, np.uint8).ctypes.data + len(slab)


class Outflow(_Shared):
    """Answers on their way from a thread to a connection."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: deque[bytes] = deque()
        self._bytes = 0
        self._ended = False
        self._trouble: Exception | None = None

    def put(self, part: bytes) -> None:
        """In the thread: hand over `part`, first waiting until there is room."""
        with self._changed:
            while self._bytes > MOST_BYTES and not self._gone:
                self._changed.wait()
            if self._gone:
                raise Abandoned
            self._parts.append(part)
            self._bytes += len(part)
            self._tell_loop()

    def end(self, trouble: Exception | None = None) -> None:
        """In the thread: nothing follows; `get` raises `trouble` after the last part."""
        with self._changed:
            self._ended = True
            self._trouble = trouble
            self._tell_loop()

    async def get(self) -> bytes | None:
        """The next part, None after the last."""
        while True:
            with self._changed:
                if self._parts:
                    part = self._parts.popleft()
                    self._bytes -= len(part)
                    self._changed.notify()
                    return part
                if self._trouble is not None:
                    trouble, self._trouble = self._trouble, None
                    try:
                        raise trouble
                    finally:
                        del trouble  # its frames would lead back to it
                if self._ended:
                    return None
                self._loop_waits = True
            await self._until_told()
