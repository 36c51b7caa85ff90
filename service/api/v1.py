"""The typed JSON endpoints: `:predict` and the description of models (the KServe V1 shape).

`Predict` is a plain ASGI endpoint: at this rate of requests, building request and response objects would cost as much
as the work itself.
"""

import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from fastapi import APIRouter
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from service.api.answering import Answering, describe
from service.api.body import read_json_body
from service.api.explanations import ExplainOptions, explained_output
from service.api.http_errors import JSONResponse
from service.api.schema import RequestSchema
from service.errors import DeadlineExceeded, InvalidRequest, InvalidValue, ModelFailed, NotOffered, QueueFull
from service.manifest import Manifest
from service.runtime.repository import Model, Repository
from service.waterfall import Format, Waterfalls

PREDICT_PATH = "/v1/models/{name:model}:predict"
PREDICT_VERSION_PATH = "/v1/models/{name:model}/versions/{version:model}:predict"
EXPLAIN_PATH = "/v1/models/{name:model}:explain"
EXPLAIN_VERSION_PATH = "/v1/models/{name:model}/versions/{version:model}:explain"


class ModelNameConvertor(Convertor[str]):
    """A path segment without a colon: what follows a colon is the verb."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        """The segment as it stands."""
        return value

    def to_string(self, value: str) -> str:
        """The segment as it stands."""
        return value


register_url_convertor("model", ModelNameConvertor())


PICTURES: dict[Format, bytes] = {"svg": b"image/svg+xml", "png": b"image/png"}


def picture_format(scope: Scope) -> Format | None:
    """The first picture type in the Accept header, None if there is none."""
    for name, value in scope["headers"]:
        if name == b"accept":
            for accepted in value.lower().split(b","):
                for form, media_type in PICTURES.items():
                    if accepted.partition(b";")[0].strip() == media_type:
                        return form
    return None


def drawable(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry if it has values; else the error that says why it has none."""
    match entry["status"], entry.get("reason"):
        case "skipped", "deadline":
            raise DeadlineExceeded("the deadline passed before the explanation was made")
        case "skipped", "busy":
            raise QueueFull("too many rows wait for an explanation", retry_after_seconds=1.0)
        case "skipped", _:
            raise InvalidRequest("explain.if", "this instance is not among those to be explained")
        case "failed", _:
            raise ModelFailed("the explanation was refused", row=0)
    return entry


class Schemas:
    """The request schema of each loaded model, made when first asked for and gone with the model."""

    def __init__(self, *, max_instances: int) -> None:
        self._max_instances = max_instances
        self._made: WeakKeyDictionary[Model, RequestSchema] = WeakKeyDictionary()

    def of(self, model: Model) -> RequestSchema:
        """The schema that validates requests to `model`."""
        schema = self._made.get(model)
        if schema is None:
            schema = self._made[model] = RequestSchema(model.manifest, max_instances=self._max_instances)
        return schema


class Predict:
    """`POST .../{name}:predict`: validate, run in a batch with others, decide by the stored threshold."""

    def __init__(
        self,
        repository: Callable[[], Repository],
        schemas: Schemas,
        answering: Answering,
        *,
        refused: Callable[[Manifest, InvalidValue], None],
        max_body_bytes: int,
        timeout_seconds: float,
        waterfalls: Waterfalls | None = None,
    ) -> None:
        """`refused` is told of values that do not fit.

        With `waterfalls` this is `:explain`: explanations always, as a picture where the caller accepts one.
        """
        self._repository = repository
        self._schemas = schemas
        self._answering = answering
        self._refused = refused
        self._waterfalls = waterfalls
        self._max_body_bytes = max_body_bytes
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every refusal is an exception for `http_errors`."""
        model = requested(self._repository(), scope["path_params"])
        deadline = time.monotonic() + self._timeout_seconds
        body = await read_json_body(scope, receive, max_body_bytes=self._max_body_bytes)
        try:
            request = self._schemas.of(model).parse(body)
        except InvalidValue as error:
            self._refused(model.manifest, error)
            raise
        options = request.explain or (ExplainOptions() if self._waterfalls else None)
        form = picture_format(scope) if self._waterfalls else None
        if form is not None and len(request.X) != 1:
            raise InvalidRequest("instances", "exactly one is expected for a picture")
        answered = await self._answering.answer(
            scope,
            model,
            request,
            options,
            deadline,
            check=None if form is None else drawable,  # a picture that is refused decides nothing
        )
        content = answered.content
        if self._waterfalls is not None and form is not None:
            output = explained_output(model.manifest, content["predictions"][0]["label"])
            answer = await self._waterfalls.draw(drawable(content["explanations"][0]), output=output, form=form)
            media_type = PICTURES[form]
        else:
            answer, media_type = orjson.dumps(content), b"application/json"
        describe(scope, model, request, answered, body_bytes=len(body))
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", media_type), (b"content-length", b"%d" % len(answer))],
            }
        )
        await send({"type": "http.response.body", "body": answer})


def requested(repository: Repository, path_params: dict[str, str]) -> Model:
    """The model that the path names, with or without a version."""
    version = path_params.get("version")
    if version is None:
        return repository.latest(path_params["name"])
    return repository.version(path_params["name"], version)


def routes(repository: Callable[[], Repository]) -> APIRouter:
    """The descriptions of models: list, one model, its card."""
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", summary="Names of the models that answer")
    def list_models() -> Response:
        return JSONResponse({"models": sorted(repository().models)})

    @router.get("/v1/models/{name:model}", summary="What a model takes and answers")
    def describe_model(name: str) -> Response:
        return JSONResponse(_describe(repository().latest(name), versions=repository().versions(name)))

    @router.get("/v1/models/{name:model}/versions/{version:model}", summary="The same, of one version")
    def describe_version(name: str, version: str) -> Response:
        model = repository().version(name, version)
        return JSONResponse(_describe(model, versions=repository().versions(name)))

    @router.get("/v1/models/{name:model}/card", summary="The model card, Markdown", response_class=PlainTextResponse)
    def card(name: str) -> Response:
        text = repository().latest(name).card
        if text is None:
            raise NotOffered("card: this model package has none")
        return PlainTextResponse(text, media_type="text/markdown")

    return router


def _describe(model: Model, *, versions: list[int]) -> dict[str, object]:
    manifest = model.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "versions": [str(version) for version in versions],
        "ready": True,
        "device": model.session.device,
        "provider": model.session.provider,
        **manifest.model_dump(
            mode="json",
            exclude_none=True,
            include={
                "task",
                "description",
                "classes",
                "positive_class",
                "favourable_outcome",
                "threshold",
                "features",
                "sensitive_features",
                "intersections",
                "created_at",
                "digests",
            },
        ),
    }
