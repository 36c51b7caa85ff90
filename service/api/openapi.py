"""The OpenAPI document: one concrete path per loaded model, with its own schema and a real row as the example.

Built from the repository whenever it is asked for, so that it follows what is loaded.
"""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api import codec, drift, fairness
from service.api.explanations import output_names
from service.api.outcomes import OutcomesSchema
from service.api.reports import WINDOW
from service.api.v1 import PICTURES, Schemas
from service.api.v2 import document as v2
from service.manifest import Manifest
from service.monitor.groups import group_sets
from service.records.outcomes import RESULTS
from service.runtime.repository import Model, Repository

ERROR_STATUS = {
    "400": "The body does not fit; the message says where and what is expected.",
    "413": "The body is too large.",
    "415": "The body is of another type or encoding than is taken here.",
    "500": "The model failed on a row.",
    "501": "An explanation was asked for and the package has no explainer.",
    "503": "Too many rows are waiting, or the model or the records are not ready; see Retry-After.",
    "504": "The deadline passed.",
}
ERROR_SCHEMA = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def document(app: FastAPI, repository: Repository, schemas: Schemas, outcomes: OutcomesSchema) -> dict[str, Any]:
    """The whole document as a new object."""
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = made.setdefault("components", {}).setdefault("schemas", {})
    components["Error"] = ERROR_SCHEMA
    for promised in ("HTTPValidationError", "ValidationError"):  # the framework's 422, which is never sent
        components.pop(promised, None)
    for operations in made["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    for name in sorted(repository.models):
        if (newest := repository.default(name)) is None:
            continue
        made["paths"][f"/v1/models/{name}:predict"] = {"post": _operation(newest, schemas, components)}
        if newest.explainer is not None:
            made["paths"][f"/v1/models/{name}:explain"] = {
                "post": _operation(newest, schemas, components, verb="explain")
            }
        made["paths"][f"/v1/models/{name}:outcomes"] = {"post": _outcomes(newest.manifest, outcomes, components)}
        made["paths"][f"/v1/models/{name}/fairness"] = {"get": _fairness(newest.manifest)}
        if newest.reference is not None:
            made["paths"][f"/v1/models/{name}/drift"] = {"get": _drift(newest.manifest)}
        made["paths"][v2.infer_path(name)] = {"post": v2.operation(newest, _refusals(), versioned=False)}
    for model in repository:
        version = model.manifest.version
        path = f"/v1/models/{model.manifest.name}/versions/{version}:predict"
        made["paths"][path] = {"post": _operation(model, schemas, components, versioned=True)}
        path = v2.infer_path(model.manifest.name, version)
        made["paths"][path] = {"post": v2.operation(model, _refusals(), versioned=True)}
    return made


def _operation(
    model: Model, schemas: Schemas, components: dict[str, Any], *, verb: str = "predict", versioned: bool = False
) -> dict[str, Any]:
    manifest = model.manifest
    answers = {"application/json": {"schema": _response(model)}}
    if verb == "explain":
        answers |= {media_type.decode(): {"schema": {"type": "string"}} for media_type in PICTURES.values()}
    prefix = f"{manifest.name}-{manifest.version}-"
    return {
        "tags": [manifest.name],
        "operationId": f"{verb}-{manifest.name}" + (f"-{manifest.version}" if versioned else ""),
        "summary": ("Explained: " if verb == "explain" else "")
        + manifest.description
        + (f" (version {manifest.version})" if versioned else ""),
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _own(schemas.of(model).json_schema(), prefix, components),
                    "example": example(model),
                }
            },
        },
        "responses": _answers("One prediction per instance, in order.", answers),
    }


def _answers(
    description: str, content: dict[str, Any], refusals: Sequence[str] = tuple(ERROR_STATUS)
) -> dict[str, Any]:
    return {"200": {"description": description, "content": content}, **_refusals(refusals)}


def _refusals(refusals: Sequence[str] = tuple(ERROR_STATUS)) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": ERROR_STATUS[status], "content": error} for status in refusals}


def _outcomes(manifest: Manifest, outcomes: OutcomesSchema, components: dict[str, Any]) -> dict[str, Any]:
    """`:outcomes` of one model: labels are its classes."""
    schema = _own(outcomes.json_schema(), f"{manifest.name}-", components)
    components[f"{manifest.name}-Outcome"]["properties"]["label"] = {"enum": manifest.classes}
    counted = {result: {"type": "integer"} for result in RESULTS}
    counts = {"type": "object", "properties": counted, "required": list(RESULTS)}
    example = {"outcomes": [{"id": "01M838CBF928N6ZPR302YA9615", "label": manifest.classes[0]}]}
    return {
        "tags": [manifest.name],
        "operationId": f"outcomes-{manifest.name}",
        "summary": "How earlier predictions turned out. A label counts once, however often it is sent.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
        "responses": _answers(
            "How many met which fate.", {"application/json": {"schema": counts}}, ("400", "413", "415", "503", "504")
        ),
    }


def _fairness(manifest: Manifest) -> dict[str, Any]:
    """The fairness report of one model."""
    groups = {"type": "string", "enum": [made.name for made in group_sets(manifest)]}
    return _report(
        manifest,
        "fairness",
        "Rates and disparities of all groups, with intervals, from the records.",
        fairness.DEFAULT_WINDOW,
        _parameter("sensitive_feature", "One of them only.", groups),
    )


def _drift(manifest: Manifest) -> dict[str, Any]:
    """The drift report of one model."""
    return _report(
        manifest,
        "drift",
        "Inputs, scores, explanations and expected performance beside the package's reference, from the records.",
        drift.DEFAULT_WINDOW,
    )


def _report(manifest: Manifest, name: str, summary: str, window: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    windows = {"type": "string", "pattern": f"^{WINDOW.pattern}$", "default": window}
    report: dict[str, Any] = {
        "application/json": {"schema": {"type": "object"}},
        "text/html": {"schema": {"type": "string"}},
    }
    return {
        "tags": [manifest.name],
        "operationId": f"{name}-{manifest.name}",
        "summary": summary,
        "parameters": [
            _parameter("window", "Predictions of the last hours or days.", windows),
            *parameters,
            _parameter("version", "A version other than the default.", {"type": "string"}),
        ],
        "responses": _answers("The report.", report, ("400", "501", "503", "504")),
    }


def _parameter(name: str, about: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": about, "schema": schema}


def example(model: Model) -> dict[str, Any]:
    """A request that this model answers: its first golden row, and a group for each sensitive feature."""
    request: dict[str, Any] = {"instances": [codec.instance(model.manifest.features, model.golden.rows[0])]}
    if model.manifest.sensitive_features:
        request["sensitive_features"] = [
            {feature.name: feature.reference_group for feature in model.manifest.sensitive_features}
        ]
    return request


def _own(schema: dict[str, Any], prefix: str, components: dict[str, Any]) -> dict[str, Any]:
    """Move the schema's `$defs` into `components` under names of this model."""
    definitions = schema.pop("$defs", {})

    def renamed(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: f"#/components/schemas/{prefix}{value.removeprefix('#/$defs/')}"
                if key == "$ref"
                else renamed(value)
                for key, value in node.items()
            }
        return [renamed(item) for item in node] if isinstance(node, list) else node

    for name, definition in definitions.items():
        components[prefix + name] = renamed(definition)
    return renamed(schema)  # type: ignore[no-any-return]


def _response(model: Model) -> dict[str, Any]:
    manifest = model.manifest
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    prediction: dict[str, Any] = {"id": {"type": "string"}, "label": {"enum": manifest.classes}}
    if manifest.task == "binary":
        about = f"Probability of {manifest.positive_class!r}."
        prediction |= {"probability": probability | {"description": about}, "threshold": {"const": manifest.threshold}}
    else:
        classes = {str(label): probability for label in manifest.classes}
        prediction["probabilities"] = {"type": "object", "properties": classes}
    explained = {"explanations": {"type": "array", "items": _explanation(manifest)}} if model.explainer else {}
    return {
        "type": "object",
        "required": ["model_name", "model_version", "predictions"],
        "properties": {
            **explained,
            "model_name": {"const": manifest.name},
            "model_version": {"const": manifest.version},
            "predictions": {
                "type": "array",
                "items": {"type": "object", "required": sorted(prediction), "properties": prediction},
            },
        },
    }


def _explanation(manifest: Manifest) -> dict[str, Any]:
    """One entry of `explanations`; a row without values has `status` and `reason` only."""
    outputs, features = len(output_names(manifest)), len(manifest.features)
    number: dict[str, Any] = {"type": "number"}
    per_output = {"type": "array", "items": number, "minItems": outputs, "maxItems": outputs}
    per_feature = {"type": "array", "items": per_output, "minItems": features, "maxItems": features}
    reason = {
        "type": "object",
        "properties": {
            "feature": {"enum": manifest.feature_names},
            "value": number,
            "certified": {"type": "boolean"},
            "text": {"type": "string"},
        },
    }
    return {
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"enum": ["exact", "estimate", "tie", "skipped", "failed"]},
            "reason": {"enum": ["filter", "deadline", "busy", "additivity", "error"]},
            "values": per_feature | {"description": "SHAP values of the margin, a feature a row, an output a column."},
            "base_values": per_output | {"description": "The margin's mean over the background."},
            "error_std": per_feature | {"description": "Standard error of each value; 0 where exact."},
            "fx": per_output | {"description": "The explained margin: base value plus values."},
            "data": {"type": "array", "minItems": features, "maxItems": features},
            "feature_names": {"const": manifest.feature_names},
            "output_names": {"const": output_names(manifest)},
            "additivity_residual": number | {"minimum": 0},
            "algorithm": {"type": "string"},
            "output_space": {"const": "margin"},
            "n_evals": {"type": "integer"},
            "top_k": {
                "type": "object",
                "properties": {
                    "k": {"type": "integer"},
                    "features": {"type": "array", "items": {"enum": manifest.feature_names}},
                    "certified": {"type": "boolean"},
                },
            },
            "reasons": {"type": ["array", "null"], "items": reason, "maxItems": 4},
            "plan_id": {"type": "string"},
            "background": {
                "type": "object",
                "properties": {"rows": {"type": "integer"}, "id": {"type": "string"}},
            },
        },
    }
