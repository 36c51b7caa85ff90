"""The OpenAPI entries of `:score`. Knows what is accepted and answered, and needs no pyarrow."""

from typing import Any

from service.api.openapi import ERROR_STATUS
from service.bulk.endpoint import ARROW, FORMS
from service.manifest import Manifest
from service.runtime.repository import Repository

ABOUT = """Rows in, answers out, at the same time. One column per feature, by name, in any order, as Arrow, CSV
or Parquet.
The answer is an Arrow stream; its last record batch has no rows and says in its metadata how many were answered
(`plumbline.rows`) and what stopped them, if something did (`plumbline.error`). Nothing is recorded or monitored."""


def extend(document: dict[str, Any], repository: Repository) -> dict[str, Any]:
    """`document` with one path for each model and for each version."""
    for name in sorted(repository.models):
        newest = repository.default(name)
        if newest is not None:
            document["paths"][f"/v1/models/{name}:score"] = {"post": _operation(newest.manifest)}
    for model in repository:
        path = f"/v1/models/{model.manifest.name}/versions/{model.manifest.version}:score"
        document["paths"][path] = {"post": _operation(model.manifest, versioned=True)}
    return document


def _operation(manifest: Manifest, *, versioned: bool = False) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    explain: dict[str, Any] = {"type": "boolean", "default": False}
    ignore: dict[str, Any] = {"type": "string"}
    return {
        "tags": [manifest.name],
        "operationId": f"score-{manifest.name}" + (f"-{manifest.version}" if versioned else ""),
        "summary": "Score a file or a stream of rows." + (f" (version {manifest.version})" if versioned else ""),
        "description": ABOUT,
        "parameters": [
            {"name": "explain", "in": "query", "schema": explain, "description": "Add SHAP values to every row."},
            {"name": "ignore", "in": "query", "schema": ignore, "description": "Columns to pass over, with commas."},
        ],
        "requestBody": {"required": True, "content": dict.fromkeys(FORMS, binary)},
        "responses": {
            "200": {"description": "One row of answers per row, in order.", "content": {ARROW: binary}},
            **{
                status: {"description": "The body is none of these." if status == "415" else about, "content": error}
                for status, about in ERROR_STATUS.items()
            },
        },
    }
