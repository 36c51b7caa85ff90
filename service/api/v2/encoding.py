"""Bodies on the wire: their encodings, and where the JSON of a body ends. Knows bytes, nothing of tensors.

A body that is inflated may hold as many bytes as one that is not; it is inflated piece by piece and refused at the
first byte too many.
"""

import zlib
from typing import NamedTuple

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from service.api.body import check_length, collect, too_large
from service.errors import InvalidRequest, UnsupportedMediaType

# tritonclient names none for JSON and the second for binary tensors.
MEDIA_TYPES = (b"application/json", b"application/octet-stream", b"application/vnd.triton.binary+json")
JSON_LENGTH = b"inference-header-content-length"
GZIP, ZLIB, RAW_DEFLATE = 31, 15, -15  # window bits, as zlib has them
# Random floats hardly shrink; the time is better spent otherwise.
COMPRESSION_LEVEL = 1


class Body(NamedTuple):
    """A body as it was before it was encoded; the first `json_length` bytes are JSON, the rest binary tensors."""

    content: bytes
    json_length: int


async def read_body(scope: Scope, receive: Receive, *, max_body_bytes: int) -> Body:
    """The whole body, inflated.

    Raises UnsupportedMediaType, InvalidRequest or BodyTooLarge, as early as each can be known, ClientDisconnect if the
    caller goes away.
    """
    encodings, json_length = [], None
    for name, value in scope["headers"]:
        if name == b"content-type":
            if value.partition(b";")[0].strip().lower() not in MEDIA_TYPES:
                raise UnsupportedMediaType("content-type: application/json or application/octet-stream is expected")
        elif name == b"content-length":
            check_length(value, max_body_bytes)
        elif name == b"content-encoding":
            encodings.append(value.strip().lower())
        elif name == JSON_LENGTH:
            json_length = _json_length(value)
    encoding = b",".join(encodings)  # several lines are one list
    if encoding in (b"", b"identity"):
        content = await collect(receive, max_body_bytes)
    elif encoding in (b"gzip", b"deflate"):
        content = await _inflated(receive, Inflater(encoding, max_body_bytes))
    else:
        raise UnsupportedMediaType("content-encoding: gzip, deflate or an unencoded body is expected")
    if json_length is not None and json_length > len(content):
        raise InvalidRequest(JSON_LENGTH.decode(), "at most the length of the body is expected")
    return Body(content, len(content) if json_length is None else json_length)


def _json_length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18 or int(value) == 0:
        raise InvalidRequest(JSON_LENGTH.decode(), "the number of bytes of the JSON at the body's start is expected")
    return int(value)


async def _inflated(receive: Receive, inflater: "Inflater") -> bytes:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        inflater.feed(message.get("body", b""))
        more = message.get("more_body", False)
    return inflater.finish()


class Inflater:
    """Undoes gzip (one member) or deflate (with zlib's frame, as HTTP has it, or without, as some clients do)."""

    def __init__(self, encoding: bytes, max_bytes: int) -> None:
        self._name = encoding.decode()
        self._max_bytes = max_bytes
        self._decoder = zlib.decompressobj(GZIP) if encoding == b"gzip" else None
        self._head = b""
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes. Raises InvalidRequest or BodyTooLarge as soon as they say so."""
        if self._decoder is None:
            chunk = self._head = self._head + chunk
            if len(chunk) < 2:
                return
            framed = chunk[0] & 15 == 8 and int.from_bytes(chunk[:2], "big") % 31 == 0  # RFC 1950 section 2.2
            self._decoder, self._head = zlib.decompressobj(ZLIB if framed else RAW_DEFLATE), b""
        if not chunk:
            return
        if self._decoder.eof:
            raise self._refusal()
        try:
            part = self._decoder.decompress(chunk, self._max_bytes - self._size + 1)
        except zlib.error:
            raise self._refusal() from None
        self._size += len(part)
        if self._size > self._max_bytes:
            raise too_large(self._max_bytes)
        self._parts.append(part)
        if self._decoder.unused_data:
            raise self._refusal()

    def finish(self) -> bytes:
        """All of it. Raises InvalidRequest if the end is missing."""
        if self._decoder is None or not self._decoder.eof:
            raise self._refusal()
        return b"".join(self._parts)

    def _refusal(self) -> InvalidRequest:
        return InvalidRequest("content-encoding", f"a body of {self._name}, whole and nothing after it, is expected")


def accepted_encoding(scope: Scope) -> bytes | None:
    """Which of gzip and deflate the caller likes best; None if it named neither."""
    best, liking = None, 0.0
    for name, value in scope["headers"]:
        if name == b"accept-encoding":
            for item in value.lower().split(b","):
                coding, _, parameters = item.partition(b";")
                quality = _quality(parameters)
                if coding.strip() in (b"gzip", b"deflate") and quality > liking:
                    best, liking = coding.strip(), quality
    return best


def _quality(parameters: bytes) -> float:
    name, _, value = parameters.strip().partition(b"=")
    if name.strip() != b"q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def deflated(content: bytes, encoding: bytes) -> bytes:
    """`content` as gzip, or as deflate in zlib's frame."""
    encoder = zlib.compressobj(COMPRESSION_LEVEL, wbits=GZIP if encoding == b"gzip" else ZLIB)
    return encoder.compress(content) + encoder.flush()
