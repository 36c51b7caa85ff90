"""`infer` of one model as an OpenAPI operation, with a real row as the example."""

from typing import Any

from service.api.v2.columns import MATRIX, SENSITIVE_PREFIX
from service.api.v2.outputs import describe, output_names
from service.api.v2.request import MAX_REQUEST_ID_LENGTH
from service.api.v2.tensors import DATATYPES
from service.manifest import Manifest
from service.runtime.repository import Model

SCALAR = {"type": ["string", "number", "boolean"]}
BINARY = {"type": "string", "format": "binary", "description": "JSON, then the binary tensors in its order."}


def infer_path(name: str, version: str | None = None) -> str:
    """Where a model, or one version of it, takes tensors."""
    return f"/v2/models/{name}{'' if version is None else f'/versions/{version}'}/infer"


def operation(model: Model, responses: dict[str, Any], *, versioned: bool) -> dict[str, Any]:
    """The operation; `responses` are those of other statuses."""
    manifest = model.manifest
    answer = {"application/json": {"schema": _response(manifest)}, "application/octet-stream": {"schema": BINARY}}
    return {
        "tags": [manifest.name],
        "operationId": f"infer-{manifest.name}" + (f"-{manifest.version}" if versioned else ""),
        "summary": "Open Inference Protocol: " + manifest.description,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _request(manifest), "example": _example(model)},
                "application/octet-stream": {"schema": BINARY},
            },
        },
        "responses": {"200": {"description": "One tensor per output.", "content": answer}, **responses},
    }


def _example(model: Model) -> dict[str, Any]:
    row = model.golden.rows[0]
    return {"inputs": [{"name": MATRIX, "datatype": "FP32", "shape": [1, len(row)], "data": row}]}


def _tensor(names: list[str], **more: Any) -> dict[str, Any]:
    properties = {
        "name": {"enum": names},
        "datatype": {"enum": list(DATATYPES)},
        "shape": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
        "parameters": {"type": "object", "properties": {"binary_data_size": {"type": "integer"}}},
        "data": {"type": "array", "description": "Flat, or nested like the shape; null is a missing value."},
    }
    return {"type": "object", "required": ["name", "datatype", "shape"], "properties": properties | more}


def _request(manifest: Manifest) -> dict[str, Any]:
    sensitive = [SENSITIVE_PREFIX + feature.name for feature in manifest.sensitive_features]
    inputs = [*dict.fromkeys([MATRIX, *manifest.feature_names, *sensitive])]
    wanted = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"enum": list(output_names(manifest))},
            "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
        },
    }
    parameters = {
        "explain": {"description": "As for :predict, or the same as a string of JSON."},
        "ids": {"description": "As for :predict, or the same as a string of JSON."},
        "sensitive_features": {"description": "As for :predict, or the same as a string of JSON."},
        "binary_data_output": {"type": "boolean"},
        "timeout": {"type": "integer", "minimum": 1, "description": "Microseconds."},
    }
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "maxLength": MAX_REQUEST_ID_LENGTH},
            "inputs": {
                "type": "array",
                "minItems": 1,
                "items": _tensor(inputs),
                "description": f"{MATRIX} with all features in order, or one tensor for each.",
            },
            "outputs": {"type": "array", "items": wanted},
            "parameters": {"type": "object", "properties": parameters},
        },
    }


def _response(manifest: Manifest) -> dict[str, Any]:
    about = {described.name: described.datatype for described in describe(manifest)}
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"const": manifest.name},
            "model_version": {"const": manifest.version},
            "id": {"type": "string"},
            "parameters": {"type": "object", "additionalProperties": SCALAR},
            "outputs": {
                "type": "array",
                "items": _tensor(list(about), datatype={"enum": sorted(set(about.values()))}),
            },
        },
    }
