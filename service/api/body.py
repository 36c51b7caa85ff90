"""Reading a request body within its limits. Knows headers and byte counts, nothing of what is inside."""

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from service.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType

JSON_TYPES = (b"application/json", b"text/json")


async def read_json_body(scope: Scope, receive: Receive, *, max_body_bytes: int) -> bytes:
    """The whole body, not parsed.

    Raises UnsupportedMediaType before reading, BodyTooLarge from Content-Length before reading or as soon as the
    chunks exceed `max_body_bytes`, ClientDisconnect if the caller goes away.
    """
    for name, value in scope["headers"]:
        if name == b"content-type":
            if value.partition(b";")[0].strip().lower() not in JSON_TYPES:
                raise UnsupportedMediaType("content-type: application/json is expected")
        elif name == b"content-length":
            check_length(value, max_body_bytes)
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedMediaType("content-encoding: an unencoded body is expected")
    return await collect(receive, max_body_bytes)


def too_large(max_body_bytes: int) -> BodyTooLarge:
    """The refusal of a larger body."""
    return BodyTooLarge(f"body: at most {max_body_bytes} bytes are accepted")


def check_length(value: bytes, max_body_bytes: int) -> None:
    """Refuse the `value` of Content-Length if it is none or too large."""
    if not value.isdigit():
        raise InvalidRequest("content-length", "a number of bytes is expected")
    if len(value) > 18 or int(value) > max_body_bytes:
        raise too_large(max_body_bytes)


async def collect(receive: Receive, max_body_bytes: int) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as it is, ClientDisconnect if the caller goes away."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > max_body_bytes:
            raise too_large(max_body_bytes)
        return body
    chunks, size = [], 0
    while message["type"] == "http.request":
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > max_body_bytes:
            raise too_large(max_body_bytes)
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()
    raise ClientDisconnect
