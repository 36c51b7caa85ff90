"""`POST .../infer`: tensors in, tensors out, answered as `:predict` answers."""

import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

from starlette.types import Receive, Scope, Send

from service.api.answering import Answering, describe
from service.api.v1 import Schemas, requested
from service.api.v2.encoding import JSON_LENGTH, accepted_encoding, deflated, read_body
from service.api.v2.outputs import response
from service.api.v2.request import RequestReader
from service.errors import InvalidValue
from service.manifest import Manifest
from service.runtime.repository import Model, Repository

INFER_PATH = "/v2/models/{name:model}/infer"
INFER_VERSION_PATH = "/v2/models/{name:model}/versions/{version:model}/infer"


class Infer:
    """A plain ASGI endpoint, as `Predict` is."""

    def __init__(
        self,
        repository: Callable[[], Repository],
        schemas: Schemas,
        answering: Answering,
        *,
        refused: Callable[[Manifest, InvalidValue], None],
        max_rows: int,
        max_body_bytes: int,
        timeout_seconds: float,
    ) -> None:
        """`refused` is told of values that do not fit."""
        self._repository = repository
        self._schemas = schemas
        self._answering = answering
        self._refused = refused
        self._max_rows = max_rows
        self._max_body_bytes = max_body_bytes
        self._timeout_seconds = timeout_seconds
        self._readers: WeakKeyDictionary[Model, RequestReader] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every refusal is an exception for `http_errors`."""
        model = requested(self._repository(), scope["path_params"])
        deadline = time.monotonic() + self._timeout_seconds
        body = await read_body(scope, receive, max_body_bytes=self._max_body_bytes)
        try:
            request = self._reader(model).read(body)
        except InvalidValue as error:
            self._refused(model.manifest, error)
            raise
        if request.timeout_seconds is not None:
            deadline = min(deadline, time.monotonic() + request.timeout_seconds)
        predict = request.predict
        answer = await self._answering.answer(scope, model, predict, predict.explain, deadline)
        content, json_length = response(model.manifest, request.id, answer, request.outputs)
        headers = [(b"content-type", b"application/json" if json_length is None else b"application/octet-stream")]
        if json_length is not None:
            headers.append((JSON_LENGTH, b"%d" % json_length))
        if (encoding := accepted_encoding(scope)) is not None:
            content = deflated(content, encoding)
            headers += [(b"content-encoding", encoding), (b"vary", b"accept-encoding")]
        headers.append((b"content-length", b"%d" % len(content)))
        describe(scope, model, predict, answer, body_bytes=len(body.content))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _reader(self, model: Model) -> RequestReader:
        reader = self._readers.get(model)
        if reader is None:
            schema = self._schemas.of(model)
            reader = self._readers[model] = RequestReader(model.manifest, schema, max_rows=self._max_rows)
        return reader
