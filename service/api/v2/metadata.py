"""The descriptions of `/v2`: the server, its models, whether they are ready, their configuration and statistics."""

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from service.api.http_errors import JSONResponse
from service.api.v2.columns import MATRIX, SENSITIVE_PREFIX
from service.api.v2.outputs import describe
from service.manifest import Feature, Manifest
from service.runtime.repository import Model, Repository
from service.runtime.statistics import Compute, Duration

# As in pyproject.toml: a checkout that runs has no metadata of an installed package.
VERSION = "0.1.0"
PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics")
MODEL_PATH = "/v2/models/{name:model}"
MODEL_VERSION_PATH = MODEL_PATH + "/versions/{version:model}"


def routes(repository: Callable[[], Repository], *, server_name: str, max_rows: int) -> APIRouter:
    """All GET endpoints under `/v2` but health."""
    router = APIRouter(tags=["Open Inference Protocol"])

    def find(name: str, version: str | None = None) -> Model:
        return repository().latest(name) if version is None else repository().version(name, version)

    def described(model: Model) -> Response:
        return JSONResponse(_metadata(model, repository().versions(model.manifest.name)))

    @router.get("/v2", summary="Name, version and extensions of the server")
    async def server() -> Response:
        return JSONResponse({"name": server_name, "version": VERSION, "extensions": list(EXTENSIONS)})

    @router.get("/v2/models/stats", summary="Statistics of every model that is loaded")
    async def all_statistics() -> Response:
        models = sorted(repository(), key=lambda model: (model.manifest.name, _number(model)))
        return JSONResponse(_statistics(models))

    @router.get(MODEL_PATH, summary="Inputs and outputs of a model")
    async def model(name: str) -> Response:
        return described(find(name))

    @router.get(MODEL_VERSION_PATH, summary="The same, of one version")
    async def model_version(name: str, version: str) -> Response:
        return described(find(name, version))

    @router.get(MODEL_PATH + "/ready", summary="The model is loaded and checked; else 503")
    async def ready(name: str) -> Response:
        return JSONResponse({"name": find(name).manifest.name, "ready": True})

    @router.get(MODEL_VERSION_PATH + "/ready", summary="The same, of one version")
    async def version_ready(name: str, version: str) -> Response:
        return JSONResponse({"name": find(name, version).manifest.name, "ready": True})

    @router.get(MODEL_PATH + "/config", summary="A model as Triton's configuration describes it")
    async def config(name: str) -> Response:
        return JSONResponse(_config(find(name), max_rows))

    @router.get(MODEL_VERSION_PATH + "/config", summary="The same, of one version")
    async def version_config(name: str, version: str) -> Response:
        return JSONResponse(_config(find(name, version), max_rows))

    @router.get(MODEL_PATH + "/stats", summary="Requests, runs and their durations since a model was loaded")
    async def statistics(name: str) -> Response:
        versions = repository().versions(name) or [_number(find(name))]  # refuses a name that is none
        return JSONResponse(_statistics(find(name, str(number)) for number in versions))

    @router.get(MODEL_VERSION_PATH + "/stats", summary="The same, of one version")
    async def version_statistics(name: str, version: str) -> Response:
        return JSONResponse(_statistics([find(name, version)]))

    return router


def _number(model: Model) -> int:
    return int(model.manifest.version)


def _metadata(model: Model, versions: Iterable[int]) -> dict[str, Any]:
    """`inputs` are the graph's own; `parameters` name those that may come instead, and beside."""
    manifest = model.manifest
    return {
        "name": manifest.name,
        "versions": [str(version) for version in versions],
        "platform": PLATFORM,
        "inputs": [
            _tensor(MATRIX, "FP32", [-1, len(manifest.features)], {"features": manifest.feature_names}),
        ],
        "outputs": [_tensor(*described) for described in describe(manifest)],
        "parameters": {
            "instead_of_X": [_feature_input(feature) for feature in manifest.features],
            "sensitive_features": [
                _tensor(SENSITIVE_PREFIX + feature.name, "BYTES", [-1], {"groups": feature.groups, "optional": True})
                for feature in manifest.sensitive_features
            ],
        },
    }


def _feature_input(feature: Feature) -> dict[str, Any]:
    about = feature.model_dump(mode="json", exclude_none=True, exclude={"name", "reason"})
    return _tensor(feature.name, "FP32" if feature.categories is None else "BYTES", [-1], about)


def _tensor(name: str, datatype: str, shape: list[int], about: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": about}


def _config(model: Model, max_rows: int) -> dict[str, Any]:
    """The part of Triton's `ModelConfig` that means something here; dims are without the rows."""
    manifest: Manifest = model.manifest
    return {
        "name": manifest.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [_number(model)]}},
        "max_batch_size": max_rows,
        "input": [{"name": MATRIX, "data_type": "TYPE_FP32", "dims": [len(manifest.features)]}],
        "output": [
            {
                "name": output.name,
                "data_type": "TYPE_" + output.datatype.replace("BYTES", "STRING"),
                "dims": output.shape[1:] or [1],
            }
            for output in describe(manifest)
            if not output.about.get("optional")
        ],
        "dynamic_batching": {},
    }


def _statistics(models: Iterable[Model]) -> dict[str, Any]:
    return {"model_stats": [_of_model(model) for model in models]}


def _of_model(model: Model) -> dict[str, Any]:
    statistics = model.batcher.statistics
    return {
        "name": model.manifest.name,
        "version": model.manifest.version,
        "last_inference": statistics.last_inference_ms,
        "inference_count": statistics.inference_count,
        "execution_count": statistics.execution_count,
        "inference_stats": {
            "success": _duration(statistics.success),
            "fail": _duration(statistics.fail),
            "queue": _duration(statistics.queue),
            **_compute(statistics.compute),
        },
        "batch_stats": [
            {"batch_size": rows, **_compute(compute)} for rows, compute in sorted(statistics.by_rows.items())
        ],
    }


def _compute(compute: Compute) -> dict[str, Any]:
    return {
        "compute_input": _duration(compute.input),
        "compute_infer": _duration(compute.infer),
        "compute_output": _duration(compute.output),
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}
