"""Arrow IPC messages, measured before they are decoded: nothing that a header claims is allocated unseen.

The format: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc. Each
message is the marker ff ff ff ff, the length of its metadata, the metadata (a FlatBuffers table) and its body.
"""

import struct
from typing import Protocol

import numpy as np

from service.errors import InvalidRequest

MARKER = b"\xff\xff\xff\xff"
FILE_MAGIC = b"ARRO"
END_OF_STREAM = MARKER + bytes(4)
MOST_METADATA_BYTES = 2 * 2**20
SCHEMA, DICTIONARY, RECORD_BATCH = 1, 2, 3
NOT_ARROW = "a valid Arrow IPC stream is expected"
TRUNCATED = "the Arrow stream ends in the middle of a message"


class Source(Protocol):
    """What is read from: fewer bytes than asked for come only at the end."""

    def read(self, size: int = -1, /) -> bytes | memoryview:
        """The next `size` bytes."""


class Messages:
    """A file to read from, as pyarrow's stream reader wants it, that passes on messages within `max_bytes` each.

    The limit holds for a record batch as sent, as it decompresses, and for all dictionaries together. Raises
    InvalidRequest.
    """

    def __init__(self, source: Source, *, max_bytes: int) -> None:
        """Reads the first message, the schema."""
        self._source = source
        self._max_bytes = max_bytes
        self._ready: list[memoryview] = []
        self._dictionaries: dict[int, int] = {}
        self.closed = False
        if self._next() != SCHEMA:
            raise InvalidRequest("body", NOT_ARROW)
        self.schema = b"".join(self._ready)

    def read(self, size: int = -1) -> bytes | memoryview:
        """The next `size` bytes of checked messages."""
        if not self._ready:
            self._next()
        if not self._ready or size == 0:
            return b""
        first = self._ready[0]
        if len(first) == size:  # the decoder asks for metadata and body as a whole
            return self._ready.pop(0)
        taken = first[:size]
        if size < len(first):
            self._ready[0] = first[size:]
            return taken
        self._ready.pop(0)
        return b"".join([taken, self.read(size - len(taken))])

    def readable(self) -> bool:
        """As a file says it."""
        return True

    def close(self) -> None:
        """As a file does; the source is not."""

    def _next(self) -> int:
        """Make the next message ready; its kind, 0 at the end."""
        head = bytes(self._source.read(8))
        if head in (b"", END_OF_STREAM):
            self._ready = [memoryview(head)] if head else []
            return 0
        if head[:4] == FILE_MAGIC:
            raise InvalidRequest("body", "an Arrow stream is expected, not the Arrow file format")
        if len(head) < 8 or head[:4] != MARKER:
            raise InvalidRequest("body", NOT_ARROW)
        size = int.from_bytes(head[4:], "little", signed=True)
        if not 0 < size <= MOST_METADATA_BYTES:
            raise InvalidRequest("body", NOT_ARROW)
        metadata = self._exactly(size)
        try:
            kind, body_bytes, batch = _open(metadata)
            if not 0 <= body_bytes <= self._max_bytes:
                raise self._too_large()
            body = self._exactly(body_bytes)
            self._measure(metadata, body, kind, batch)
        except (struct.error, ValueError, IndexError, OverflowError) as error:
            raise InvalidRequest("body", NOT_ARROW) from error
        self._ready = [memoryview(head[:4]), memoryview(head[4:]), memoryview(metadata)]
        if len(body):
            self._ready.append(memoryview(body))
        return kind

    def _exactly(self, size: int) -> bytes | memoryview:
        found = self._source.read(size) if size else b""
        if len(found) < size:
            raise InvalidRequest("body", TRUNCATED)
        return found

    def _measure(self, metadata: bytes | memoryview, body: bytes | memoryview, kind: int, batch: int) -> None:
        if kind not in (DICTIONARY, RECORD_BATCH):
            return
        identity = None
        if kind == DICTIONARY:
            at = _field(metadata, batch, 0)
            identity = struct.unpack_from("<q", metadata, at)[0] if at else 0
            at = _field(metadata, batch, 2)
            if at and metadata[at]:
                raise InvalidRequest("body", "whole dictionaries are expected, not additions to one")
            batch = _follow(metadata, _field(metadata, batch, 1))
        size = _decoded_bytes(metadata, body, batch)
        if size > self._max_bytes:
            raise self._too_large()
        if identity is not None:
            self._dictionaries[identity] = size
            if sum(self._dictionaries.values()) > self._max_bytes:
                raise InvalidRequest("body", f"dictionaries of at most {self._max_bytes} bytes are accepted")

    def _too_large(self) -> InvalidRequest:
        return InvalidRequest(
            "body", f"record batches of at most {self._max_bytes} bytes are accepted; send smaller ones"
        )


def _open(metadata: bytes | memoryview) -> tuple[int, int, int]:
    """A Message table's kind, the length of its body, and where its header's table is."""
    table = _follow(metadata, 0)
    kind, body = _field(metadata, table, 1), _field(metadata, table, 3)
    body_bytes = struct.unpack_from("<q", metadata, body)[0] if body else 0
    return metadata[kind] if kind else 0, body_bytes, _follow(metadata, _field(metadata, table, 2))


def _decoded_bytes(metadata: bytes | memoryview, body: bytes | memoryview, batch: int) -> int:
    """What the buffers of a RecordBatch table take in memory; a compressed one begins with the length it will have."""
    buffers = _field(metadata, batch, 2)
    if not buffers or not _field(metadata, batch, 3):
        return len(body)
    vector = _follow(metadata, buffers)
    count = struct.unpack_from("<I", metadata, vector)[0]
    pairs = np.frombuffer(metadata, "<i8", 2 * count, vector + 4).reshape(-1, 2)
    total = 0
    for offset, length in pairs.tolist():
        if length == 0:
            continue
        if offset < 0:
            raise ValueError("a buffer lies within the body")
        claimed = struct.unpack_from("<q", body, offset)[0]
        if claimed < -1:
            raise ValueError("a buffer has a length")
        total += length if claimed == -1 else claimed
    return total


def _follow(data: bytes | memoryview, at: int) -> int:
    """The place that the offset at `at` points to."""
    if at < 0:
        raise ValueError("an offset lies within the metadata")
    return at + int(struct.unpack_from("<I", data, at)[0])


def _field(data: bytes | memoryview, table: int, number: int) -> int:
    """Where a table's field is, 0 if it is not there."""
    slots = table - int(struct.unpack_from("<i", data, table)[0])
    if slots < 0:
        raise ValueError("an offset lies within the metadata")
    if 4 + 2 * number >= struct.unpack_from("<H", data, slots)[0]:
        return 0
    place = int(struct.unpack_from("<H", data, slots + 4 + 2 * number)[0])
    return table + place if place else 0
