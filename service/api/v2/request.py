"""The body of an inference request -> what `Answering` takes, and how the caller wants the answer."""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic_core import from_json

from service.api.explanations import ExplainOptions
from service.api.schema import PredictRequest, RequestSchema, did_you_mean
from service.api.v2.columns import Columns
from service.api.v2.encoding import Body
from service.api.v2.outputs import EXPLAINED, output_names
from service.api.v2.tensors import read_tensors
from service.errors import InvalidRequest
from service.manifest import Manifest

MAX_REQUEST_ID_LENGTH = 128
# What KServe's client adds stands in the path already.
FIELDS = ("id", "inputs", "outputs", "parameters", "model_name", "model_version")
# As beside `instances` in `/v1`: JSON, or a string of JSON, as the protocol has scalar parameters only.
COMPANIONS = ("explain", "ids", "sensitive_features")
# Those of Triton's that mean nothing here are accepted and change nothing.
WITHOUT_MEANING = ("priority", "sequence_id", "sequence_start", "sequence_end", "content_type")
PARAMETERS = (*COMPANIONS, "binary_data_output", "timeout", *WITHOUT_MEANING)


class Wanted(NamedTuple):
    """An output that the answer shall hold."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request that fits the model; `timeout_seconds` is the caller's own deadline, if it has one."""

    id: str | None
    predict: PredictRequest
    outputs: list[Wanted]
    timeout_seconds: float | None


class RequestReader:
    """Validates the inference requests of one model version."""

    def __init__(self, manifest: Manifest, schema: RequestSchema, *, max_rows: int) -> None:
        self._schema = schema
        self._columns = Columns(manifest)
        self._max_rows = max_rows
        self._offered = output_names(manifest)

    def read(self, body: Body) -> InferRequest:
        """Raises InvalidRequest saying where the first problem is, InvalidValue, or TooManyInstances."""
        request = _json_object(body.content[: body.json_length])
        parameters = _parameters(request.get("parameters"), "parameters", PARAMETERS)
        binary = memoryview(body.content)[body.json_length :]
        tensors = read_tensors(request.get("inputs"), binary, most=self._columns.most_tensors, max_rows=self._max_rows)
        rows = self._columns.read(tensors)
        companions = {name: _parsed(parameters[name]) for name in COMPANIONS if parameters.get(name) is not None}
        if rows.sensitive_features is not None:
            if "sensitive_features" in companions:
                raise InvalidRequest("parameters.sensitive_features", "these came as tensors; once is enough")
            companions["sensitive_features"] = rows.sensitive_features
        try:
            predict = self._schema.accompany(rows.X, companions)
        except InvalidRequest as error:
            raise InvalidRequest("parameters", str(error)) from None
        binary_output = _flag(parameters, "binary_data_output", "parameters")
        outputs = self._outputs(request.get("outputs"), binary_output, explained=predict.explain is not None)
        if predict.explain is None and any(output.name in EXPLAINED for output in outputs):
            if "explain" in companions:
                raise InvalidRequest("outputs", "values of an explanation need parameters.explain not to be false")
            predict = predict._replace(explain=ExplainOptions())
        return InferRequest(_request_id(request.get("id")), predict, outputs, _timeout(parameters.get("timeout")))

    def _outputs(self, outputs: Any, binary: bool, *, explained: bool) -> list[Wanted]:
        """Those that are asked for, in that order; else all, those of an explanation only with one."""
        if outputs is None or outputs == []:
            return [
                Wanted(name, binary)
                for name, unasked in self._offered.items()
                if unasked and (explained or name not in EXPLAINED)
            ]
        if not isinstance(outputs, list) or len(outputs) > len(self._offered):
            raise InvalidRequest("outputs", f"a list of at most {len(self._offered)} outputs is expected")
        wanted: list[Wanted] = []
        for index, output in enumerate(outputs):
            where = f"outputs[{index}]"
            name = output.get("name") if isinstance(output, dict) else None
            if not isinstance(name, str):
                raise InvalidRequest(f"{where}.name", "a string is expected")
            if name not in self._offered:
                raise InvalidRequest(where, "unknown output" + did_you_mean(name, list(self._offered)))
            if any(other.name == name for other in wanted):
                raise InvalidRequest(where, "each output may stand in a request once")
            parameters = output.get("parameters") or {}
            if not isinstance(parameters, dict):
                raise InvalidRequest(f"{where}.parameters", "an object is expected")
            for refused in ("classification", "shared_memory_region"):
                if refused in parameters:
                    raise InvalidRequest(f"{where}.parameters", f"{refused} is not offered")
            wanted.append(
                Wanted(name, _flag({"binary_data": binary} | parameters, "binary_data", f"{where}.parameters"))
            )
        return wanted


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        request = from_json(content)
    except ValueError as error:
        position = re.search(r"line \d+ column \d+$", str(error))
        where = position.group() if position else "not UTF-8"
        raise InvalidRequest("body", f"valid JSON is expected ({where})") from None
    if not isinstance(request, dict):
        raise InvalidRequest("body", "a JSON object is expected")
    if unknown := next((key for key in request if key not in FIELDS), None):
        raise InvalidRequest("body", "unknown field" + did_you_mean(unknown, FIELDS))
    return request


def _parameters(parameters: Any, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest(where, "an object is expected")
    unknown = next((key for key in parameters if key not in known), None)
    if unknown is not None:  # it might be misspelt, and nobody would notice that groups are not counted
        raise InvalidRequest(where, "unknown parameter" + did_you_mean(unknown, known))
    return parameters


def _parsed(value: Any) -> Any:
    """JSON in a string is what it says; any other string stays, to be refused where it does not fit."""
    if not isinstance(value, str):
        return value
    try:
        return from_json(value)
    except ValueError:
        return value


def _flag(parameters: dict[str, Any], name: str, where: str) -> bool:
    flag = parameters.get(name, False)
    if not isinstance(flag, bool):
        raise InvalidRequest(f"{where}.{name}", "true or false is expected")
    return flag


def _request_id(request_id: Any) -> str | None:
    if request_id is None or (isinstance(request_id, str) and len(request_id) <= MAX_REQUEST_ID_LENGTH):
        return request_id
    raise InvalidRequest("id", f"a string of at most {MAX_REQUEST_ID_LENGTH} characters is expected")


def _timeout(microseconds: Any) -> float | None:
    if microseconds is None:
        return None
    if type(microseconds) is not int or not 1 <= microseconds <= 2**53:
        raise InvalidRequest("parameters.timeout", "a whole number of microseconds is expected")
    return microseconds / 1e6
