"""`/v2/repository`: what the repository holds, and loading and unloading it where the operator allows that.

Shapes are Triton's. Knows nothing of files; packages come from the folder that the service was started with, never
from a request.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.http_errors import JSONResponse
from service.errors import BodyTooLarge, InvalidRequest, NotAllowed

INDEX_FIELDS = {"ready"}
# That of Triton which makes sense here; models do not depend on each other.
UNLOAD_PARAMETERS = {"unload_dependents"}
MAX_BODY_BYTES = 65_536
NOT_ALLOWED = "repository: loading and unloading is for operators; PLUMBLINE_REPOSITORY_CONTROL=true allows it"


class Entry(NamedTuple):
    """A line of the index: `state` is READY, LOADING or UNAVAILABLE, `reason` why it is not as it should be."""

    name: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Control:
    """What can be done with a repository."""

    index: Callable[[], Iterable[Entry]]
    load: Callable[[str], Awaitable[None]]
    unload: Callable[[str], Awaitable[None]]


def routes(control: Control, *, allowed: bool) -> APIRouter:
    """Index, load and unload; the latter two are a 403 unless `allowed`."""
    router = APIRouter(tags=["repository"], prefix="/v2/repository")

    @router.post("/index", summary="Every package, whether it is served, and why not")
    async def index(request: Request) -> Response:
        body = await _object(request, INDEX_FIELDS)
        ready = body.get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidRequest("ready", "true or false is expected")
        lines = (line for line in control.index() if line.state == "READY" or not ready)
        return JSONResponse(
            [{"name": line.name, "version": line.version, "state": line.state, "reason": line.reason} for line in lines]
        )

    @router.post("/models/{name:model}/load", summary="Load what is new or has changed of a model")
    async def load(name: str, request: Request) -> Response:
        _check(allowed, await _parameters(request), set())
        await control.load(name)
        return JSONResponse({})

    @router.post("/models/{name:model}/unload", summary="Serve no version of a model")
    async def unload(name: str, request: Request) -> Response:
        _check(allowed, await _parameters(request), UNLOAD_PARAMETERS)
        await control.unload(name)
        return JSONResponse({})

    return router


def _check(allowed: bool, parameters: dict[str, Any], known: set[str]) -> None:
    if not allowed:
        raise NotAllowed(NOT_ALLOWED)
    if not parameters.keys() <= known or not all(isinstance(value, bool) for value in parameters.values()):
        names = ", ".join(sorted(known))
        expected = f"known is {names}, true or false" if known else "none is known; packages come from the folder"
        raise InvalidRequest("parameters", expected)


async def _parameters(request: Request) -> dict[str, Any]:
    parameters = (await _object(request, {"parameters"})).get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidRequest("parameters", "an object is expected")
    return parameters


async def _object(request: Request, known: set[str]) -> dict[str, Any]:
    """The body, whatever its media type is said to be: clients send none at all, or one that they do not name."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"body: at most {MAX_BODY_BYTES} bytes are accepted")
    try:
        found = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError:
        raise InvalidRequest("body", "a JSON object is expected") from None  # the cause quotes the input
    if not isinstance(found, dict):
        raise InvalidRequest("body", "a JSON object is expected")
    if not found.keys() <= known:
        raise InvalidRequest("body", f"unknown field; known is {', '.join(known)}")
    return found
