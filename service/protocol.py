"""HTTP/1.1 on the wire: uvicorn's protocol, mended where clients of this service would notice.

Knows bytes and parser callbacks, nothing of what is served.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from typing import Protocol as TypingProtocol

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

# Request line and headers together, and what comes between and after the parts of a body: trailers are kept for nobody,
# and a parser that waits for the end of an endless line takes quadratic time.
MAX_HEAD_BYTES = 64 * 2**10
TOO_LATE = "body: it did not arrive in time"
NOT_HTTP = "request: valid HTTP is expected"
HEAD_TOO_LARGE = f"headers: at most {MAX_HEAD_BYTES} bytes are accepted"


class Outbox:
    """What all connections write, sent with few system calls.

    A response's head waits for its body: uvicorn writes them apart, and uvloop makes a system call of each write.
    While several connections write in one turn of the event loop, as the callers of a batch do, all of it waits for
    the turn's end, which wakes a client once instead of many times. A lone connection is never made to wait.
    """

    def __init__(self) -> None:
        self._waiting: list[JoinedWrites] = []
        self._writers = 0
        self._crowded = False

    def write(self, connection: "JoinedWrites", data: bytes, loop: asyncio.AbstractEventLoop) -> None:
        """Send `data` now or at the end of this turn."""
        if self._writers == 0:
            loop.call_soon(self._end_turn)
        self._writers += 1
        if not connection.parts:
            self._waiting.append(connection)
        connection.parts.append(data)
        if not self._crowded and not data.startswith(b"HTTP/1.1 "):
            connection.flush()

    def _end_turn(self) -> None:
        waiting, self._waiting = self._waiting, []
        # Head and body of one response are two writes.
        self._crowded, self._writers = self._writers > 2, 0
        for connection in waiting:
            connection.flush()


class JoinedWrites:
    """A transport that writes through an `Outbox`. All but `write` and `close` is the underlying transport's."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, outbox: Outbox) -> None:
        self._transport = transport
        self._loop = loop
        self._outbox = outbox
        self.parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send `data`, at the latest at the end of this turn of the event loop."""
        self._outbox.write(self, data, self._loop)

    def close(self) -> None:
        """Send what waits, then close."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send what waits, unless the other side has gone: writing then would raise, and fail the neighbours."""
        parts, self.parts = self.parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))


class Body(TypingProtocol):
    """Where a long body is read into."""

    def start(self, part: bytes) -> None:
        """Take what came with the head."""

    def room(self, most: int) -> memoryview:
        """Where up to `most` next bytes may be written."""

    def wrote(self, size: int, resume: Callable[[], None]) -> bool:
        """`size` bytes were written there. Where there is no room for more, True, and `resume` is called later."""


class BodyReader(asyncio.BufferedProtocol):
    """Stands in for a `Protocol` while `left` bytes of a body come; without a `body` they are read and forgotten."""

    def __init__(self, protocol: "Protocol", body: Body | None, left: int) -> None:
        self.body = body
        self._protocol = protocol
        self._left = left
        self._waste = memoryview(b"")

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go; never more than the body has, as another request may follow."""
        if self.body is not None:
            return self.body.room(self._left)
        self._waste = self._waste or memoryview(bytearray(2**18))
        return self._waste[: self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """`nbytes` came."""
        self._left -= nbytes
        full = self.body is not None and self.body.wrote(nbytes, self._resume)
        if self._left == 0:
            self._protocol.end_body()
        elif full:
            self._protocol.transport.pause_reading()

    def _resume(self) -> None:
        if self._left and not self._protocol.transport.is_closing():
            self._protocol.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side has gone."""
        self._protocol.connection_lost(exc)

    def eof_received(self) -> None:
        """The other side sends no more; as the protocol has it, the connection is closed."""

    def pause_writing(self) -> None:
        """The other side reads too slowly."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._protocol.resume_writing()


class Protocol(HttpToolsProtocol):
    """Uvicorn's protocol with joined writes, limits of size and time, JSON errors, and offers to upgrade passed over.

    Java's client offers HTTP/2 with its first request, body included. httptools ends such a message after its headers
    and leaves the body to the next protocol, so that uvicorn sees an empty body and then takes the real one for a
    second request. RFC 9110 section 7.8 lets a server ignore the offer: the head is parsed again without it.
    """

    _outbox = Outbox()  # of the process, which has one event loop

    def __init__(self, *args: Any, receive_seconds: float, **kwargs: Any) -> None:
        """`receive_seconds` is the time from a request's first byte to its last."""
        super().__init__(*args, **kwargs)
        self._receive_seconds = receive_seconds
        self._receiving = False
        self._takes_time = False
        self._reader: BodyReader | None = None
        self._idle_since: float | None = None
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wrap the transport."""
        super().connection_made(JoinedWrites(transport, self.loop, self._outbox))  # type: ignore[arg-type]
        self._head_bytes = 0
        self._passing_over = False

    def data_received(self, data: bytes) -> None:
        """Parse what came, of a request or of several."""
        self._idle_since = None
        self._got_on = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._pass_over_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self._refuse(400, NOT_HTTP)
            return
        self._head_bytes = 0 if self._got_on else self._head_bytes + len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, HEAD_TOO_LARGE)
        if (
            self._receiving and self._late is None and not self._takes_time
        ):  # most requests come in one piece and need no timer
            self._late = self.loop.call_later(self._receive_seconds, self._refuse, 504, TOO_LATE)

    def on_message_begin(self) -> None:
        """A request line begins."""
        super().on_message_begin()
        self._receiving = True
        self._takes_time = False
        self._head_bytes = 0
        self.scope["plumbline.connection"] = self  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        """Start the request, unless its head is to be parsed again."""
        self._got_on = True
        self._passing_over = bool(self.parser.should_upgrade())
        if not self._passing_over:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._got_on = True
        if not self._passing_over:
            super().on_body(body)

    def take_time(self, body: "Body") -> None:
        """For the application: this body may take as long as it takes, until `release`.

        Where its length is known, it is read straight into `body`, without the copies on the way through the parser;
        `receive` then brings its end, or that of the connection.
        """
        self._takes_time = True
        self._forgive()
        lengths = [value for name, value in self.headers if name == b"content-length"]
        if not (self._receiving and len(lengths) == 1 and lengths[0].isdigit()):
            return
        started = bytes(self.cycle.body)
        self.cycle.body = bytearray()
        self._reader = BodyReader(self, body, int(lengths[0]) - len(started))
        body.start(started)
        self.flow.resume_reading()
        self._switch(self._reader)

    def release(self) -> None:
        """For the application: what is still to come of the body is not wanted."""
        if self._reader is not None:
            self._reader.body = None

    def end_body(self) -> None:
        """The last byte of a body was read past the parser, which therefore begins anew."""
        self._reader = None
        self.parser = httptools.HttpRequestParser(self)
        self._switch(self)
        self.on_message_complete()

    def _switch(self, reader: asyncio.BaseProtocol) -> None:
        self.transport.pause_reading()  # uvloop looks at the protocol's kind when it starts to read
        self.transport.set_protocol(reader)
        self.transport.resume_reading()

    def drop(self) -> None:
        """For the application: close at once, whatever waits to be sent."""
        self.transport.abort()

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._receiving = False
        self._forgive()
        if not self._passing_over:
            super().on_message_complete()

    def _pass_over_upgrade(self, rest: bytes) -> None:
        closes = any(name == b"connection" and b"close" in value.lower() for name, value in self.headers)
        kept = [(n, v) for n, v in self.headers if n not in (b"upgrade", b"connection", b"http2-settings")]
        if closes:
            kept.append((b"connection", b"close"))
        lines = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url), *(b"%s: %s" % header for header in kept)]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def on_response_complete(self) -> None:
        """Wait for the next request. One timer a connection looks after idleness, not one for each response."""
        if self._takes_time and self._receiving:  # what is left of the body is read, and soon has to be over
            self._takes_time = False
            self._late = self.loop.call_later(self._receive_seconds, self.drop)
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self._look_after_idleness)

    def _look_after_idleness(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return  # busy; the end of the response looks again
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self._look_after_idleness)
        else:
            self.timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side has gone."""
        self._forgive()
        super().connection_lost(exc)

    def _forgive(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, status: int, message: str) -> None:
        self._forgive()
        body = orjson.dumps({"error": message})
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()
