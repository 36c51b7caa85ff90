"""The one place where errors become HTTP: status codes and the body `{"error": "where: what is expected"}`."""

import math

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service import errors

STATUS: dict[type[errors.PlumblineError], int] = {
    errors.InvalidRequest: 400,
    errors.NotAllowed: 403,
    errors.UnknownModel: 404,
    errors.BodyTooLarge: 413,
    errors.TooManyInstances: 413,
    errors.UnsupportedMediaType: 415,
    errors.ModelFailed: 500,
    errors.NotOffered: 501,
    errors.NotReady: 503,
    errors.RecordsUnavailable: 503,
    errors.QueueFull: 503,
    errors.DeadlineExceeded: 504,
}
INTERNAL_ERROR = "internal error"


class JSONResponse(Response):
    """JSON by orjson."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Bytes of `content`; NaN never gets here, as orjson would turn it into null."""
        return orjson.dumps(content)


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """`{"error": message}` with `status`."""
    return JSONResponse({"error": message}, status, headers)


async def plumbline_error(request: Request, error: Exception) -> Response:
    """An error of ours, by the table above."""
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    message = str(error)
    if isinstance(error, errors.ModelFailed):
        where = "inputs: row {}" if request.url.path.startswith("/v2/") else "instances[{}]"
        message = f"{where.format(error.row)}: {message}"
    if isinstance(error, errors.QueueFull):
        seconds = max(1, math.ceil(error.retry_after_seconds))
        return error_response(status, message, {"retry-after": str(seconds)})
    if isinstance(error, errors.NotReady | errors.RecordsUnavailable):
        return error_response(status, message, {"retry-after": "1"})
    return error_response(status, message)


async def http_error(request: Request, error: Exception) -> Response:
    """Starlette's own errors: unknown path, wrong method."""
    assert isinstance(error, HTTPException)
    message = {404: "path: there is nothing here", 405: "method: not offered here; see the Allow header"}
    return error_response(
        error.status_code, message.get(error.status_code, "the request cannot be answered"), dict(error.headers or {})
    )


async def validation_error(request: Request, error: Exception) -> Response:
    """FastAPI's own validation of path and query; its default body would repeat the input."""
    assert isinstance(error, RequestValidationError)
    known = {"path", "query", "header", "body"}
    where = next((str(part) for e in error.errors() for part in e["loc"] if part in known), "request")
    return error_response(400, f"{where}: not as documented in /openapi.json")


async def internal_error(request: Request, error: Exception) -> Response:
    """Whatever is not ours; the framework raises it again afterwards, and `observe` logs it."""
    return error_response(500, INTERNAL_ERROR)


HANDLERS = {
    Exception: internal_error,
    errors.PlumblineError: plumbline_error,
    HTTPException: http_error,
    RequestValidationError: validation_error,
}
