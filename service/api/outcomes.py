"""`POST .../{name}:outcomes`: how earlier predictions turned out, joined exactly once to their records."""

import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NotRequired

import orjson
from pydantic import FailFast, Field, Strict, TypeAdapter, ValidationError
from starlette.types import Receive, Scope, Send

from service.api.body import read_json_body
from service.api.http_errors import JSONResponse
from service.api.recording import Recorder
from service.api.schema import IDENTIFIER_EXPECTED, Identifier, request_object
from service.errors import InvalidRequest, NotOffered, RequestError, TooManyInstances
from service.manifest import Label, Manifest
from service.monitor.counters import Counters, JoinedOutcome
from service.monitor.metrics import Metrics
from service.monitor.monitor import FairnessMonitor
from service.records.outcomes import RESULTS, Join, JoinResult, Outcome
from service.runtime.repository import Repository

OUTCOMES_PATH = "/v1/models/{name:model}:outcomes"
NO_RECORDS = "records: this service keeps none (PLUMBLINE_AUDIT=off)"
SECONDS_PER_DAY = 86_400


FIELDS: dict[str, Any] = {
    "id": Identifier,
    "label": Label,
    "correction": NotRequired[Annotated[bool, Strict()]],
}


class OutcomesSchema:
    """Validates `{"outcomes": [...]}`; its messages repeat nothing that was sent."""

    def __init__(self, *, max_outcomes: int) -> None:
        item = request_object("Outcome", FIELDS)
        items: Any = Annotated[list[item], Field(min_length=1, max_length=max_outcomes), FailFast()]  # type: ignore[valid-type]
        self._max_outcomes = max_outcomes
        self._adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(request_object("OutcomesRequest", {"outcomes": items}))

    def parse(self, body: bytes, classes: dict[str, list[Label]]) -> list[Outcome]:
        """The outcomes. `classes` are those that a label may name, by their text. Raises RequestError."""
        try:
            request = self._adapter.validate_json(body)
        except ValidationError as error:
            raise self._translate(error) from None  # the cause quotes the input
        if request.keys() != {"outcomes"}:
            raise InvalidRequest("body", "unknown field; known is outcomes")
        outcomes = []
        for number, item in enumerate(request["outcomes"]):
            if not item.keys() <= FIELDS.keys():
                raise InvalidRequest(f"outcomes[{number}]", "unknown field; known are id, label, correction")
            label = item["label"]
            if not any(type(label) is type(known) and label == known for known in classes.get(str(label), ())):
                names = ", ".join(orjson.dumps(known).decode() for same in classes.values() for known in same)
                raise InvalidRequest(f"outcomes[{number}].label", f"one of {names} is expected")
            outcomes.append(Outcome(item["id"], str(label), item.get("correction", False)))
        return outcomes

    def json_schema(self) -> dict[str, Any]:
        """The request's JSON Schema."""
        return self._adapter.json_schema()

    def _translate(self, error: ValidationError) -> RequestError:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        location, kind = first["loc"], first["type"]
        if kind == "too_long" and location == ("outcomes",):
            return TooManyInstances(f"outcomes: at most {self._max_outcomes} are accepted")
        if kind == "json_invalid":
            return InvalidRequest("body", "valid JSON is expected")
        match location:
            case ():
                return InvalidRequest("body", "a JSON object is expected")
            case ("outcomes",):
                return InvalidRequest("outcomes", f"a list of 1 to {self._max_outcomes} objects is expected")
            case ("outcomes", int(number), "id", *_):
                return InvalidRequest(f"outcomes[{number}].id", IDENTIFIER_EXPECTED)
            case ("outcomes", int(number), "correction", *_):
                return InvalidRequest(f"outcomes[{number}].correction", "true or false is expected")
            case ("outcomes", int(number), "label", *_):
                return InvalidRequest(f"outcomes[{number}].label", "a class of the model is expected")
            case _:
                return InvalidRequest(f"outcomes[{location[1]}]", "an object of id, label and correction is expected")


class Outcomes:
    """The endpoint, plain ASGI like its busier siblings."""

    def __init__(
        self,
        repository: Callable[[], Repository],
        schema: OutcomesSchema,
        recorder: Recorder,
        monitor: FairnessMonitor,
        metrics: Metrics,
        *,
        horizon_days: int,
        max_body_bytes: int,
        timeout_seconds: float,
    ) -> None:
        """Outcomes of predictions older than `horizon_days` are expired."""
        self._repository = repository
        self._schema = schema
        self._recorder = recorder
        self._monitor = monitor
        self._metrics = metrics
        self._horizon_seconds = horizon_days * SECONDS_PER_DAY
        self._max_body_bytes = max_body_bytes
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Join and count; every refusal is an exception for `http_errors`."""
        deadline = time.monotonic() + self._timeout_seconds
        name = scope["path_params"]["name"]
        self._repository().latest(name)
        versions = list(self._repository().models[name].values())
        if self._recorder.records is None:
            raise NotOffered(NO_RECORDS)
        body = await read_json_body(scope, receive, max_body_bytes=self._max_body_bytes)
        outcomes = self._schema.parse(body, _classes(model.manifest for model in versions))
        now = time.time()
        job = self._recorder.records.submit(Join(name, outcomes, now=now, not_before=now - self._horizon_seconds))
        # Whoever waits no longer: what was joined counts.
        job.then = lambda result: self._count(name, result, now)
        result: JoinResult = await job.answer(deadline)
        await JSONResponse(result.counts)(scope, receive, send)

    def _count(self, name: str, result: JoinResult, now: float) -> None:
        for fate in RESULTS:
            self._metrics.outcomes_received.labels(name, fate).inc(result.counts[fate])
        watched = {
            watched.package: watched.counters
            for watched in map(self._recorder.watched, self._repository().models.get(name, {}).values())
        }
        by_counters: dict[Counters, list[JoinedOutcome]] = {}
        for joined in result.joined:
            counters = watched.get(joined.package)
            if counters is None or joined.actual not in counters.class_index:
                continue  # decided by a version that is not served here: it counts in the reports
            classes = counters.class_index
            by_counters.setdefault(counters, []).append(
                JoinedOutcome(
                    counters.groups.of_text(joined.groups),
                    classes[joined.predicted],
                    classes[joined.actual],
                    joined.score,
                    now - joined.predicted_at,
                    None if joined.before is None else classes.get(joined.before),
                )
            )
        for counters, outcomes in by_counters.items():
            self._monitor.take_outcomes(counters, outcomes)


def _classes(manifests: Iterable[Manifest]) -> dict[str, list[Label]]:
    """Every class of these manifests, by its text; versions may give it another type."""
    found: dict[str, list[Label]] = {}
    for manifest in manifests:
        for label in manifest.classes:
            same = found.setdefault(str(label), [])
            if not any(type(label) is type(known) for known in same):
                same.append(label)
    return found
