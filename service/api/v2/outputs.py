"""An answer -> the protocol's output tensors, and the bytes of a response."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from service.api.answering import Answer
from service.api.explanations import output_names as margins
from service.api.v2.tensors import Values, datatype_of, to_bytes, to_json
from service.manifest import Manifest

# Outputs that an explanation gives.
EXPLAINED = ("values", "base_values", "error_std", "explanation_status")
# Which outputs an answer holds where the caller names none; `id` stands in the parameters.
UNASKED = {"margin": True, "probability": True, "label": True, "id": False} | dict.fromkeys(EXPLAINED, True)

Output = Values | Sequence[str]


class Described(NamedTuple):
    """What metadata say of an output."""

    name: str
    datatype: str
    shape: list[int]
    about: dict[str, Any]


def output_names(manifest: Manifest) -> dict[str, bool]:
    """The outputs of a model -> whether an answer holds them unasked."""
    return {name: UNASKED[name] for name in (described.name for described in describe(manifest))}


def describe(manifest: Manifest) -> list[Described]:
    """The outputs of a model; C is 1 for a binary one, else the number of classes K."""
    classes, width, count = manifest.classes, len(manifest.features), len(margins(manifest))
    of_classes = {"classes": classes}
    about_margin = {"outputs": margins(manifest)}
    optional = {"optional": True}
    described = [
        Described("margin", "FP32", [-1, count], about_margin),
        Described("probability", "FP32", [-1, len(classes)], of_classes),
        Described("label", label_datatype(manifest), [-1], of_classes),
        Described("id", "BYTES", [-1], optional),
    ]
    if manifest.explainer is not None:
        explained = about_margin | optional
        described += [
            Described("values", "FP32", [-1, width, count], explained | {"features": manifest.feature_names}),
            Described("base_values", "FP32", [-1, count], explained),
            Described("error_std", "FP32", [-1, width, count], explained),
            Described("explanation_status", "BYTES", [-1], optional),
        ]
    return described


def label_datatype(manifest: Manifest) -> str:
    """BOOL or INT64 where all labels are such; else BYTES, the labels as text."""
    kinds = set(map(type, manifest.classes))
    return {frozenset({bool}): "BOOL", frozenset({int}): "INT64"}.get(frozenset(kinds), "BYTES")


def response(
    manifest: Manifest, request_id: str | None, answer: Answer, wanted: Iterable[tuple[str, bool]]
) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON if binary tensors follow it. `wanted`: names of outputs, whether binary."""
    outputs: list[dict[str, Any]] = []
    tensors: list[bytes] = []
    made = Outputs(manifest, answer)
    for name, binary in wanted:
        values = made.of(name)
        shape = list(values.shape) if isinstance(values, np.ndarray) else [len(values)]
        output: dict[str, Any] = {"name": name, "datatype": datatype_of(values), "shape": shape}
        if binary:
            tensors.append(to_bytes(values))
            output["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            output["data"] = to_json(values)
        outputs.append(output)
    content: dict[str, Any] = {"model_name": manifest.name, "model_version": manifest.version}
    if request_id is not None:
        content["id"] = request_id
    head = orjson.dumps(content | {"parameters": _parameters(manifest, answer), "outputs": outputs})
    return b"".join((head, *tensors)), len(head) if tensors else None


def _parameters(manifest: Manifest, answer: Answer) -> dict[str, Any]:
    """Scalars, as the protocol has parameters: lists are JSON in a string."""
    predictions = answer.content["predictions"]
    parameters: dict[str, Any] = {"ids": orjson.dumps([prediction["id"] for prediction in predictions]).decode()}
    if manifest.threshold is not None:
        parameters["threshold"] = manifest.threshold
    if "explanations" in answer.content:
        statuses = {entry["status"] for entry in answer.content["explanations"]}
        parameters["explain"] = statuses.pop() if len(statuses) == 1 else "mixed"
    if any("model_version" in prediction for prediction in predictions):
        versions = [prediction.get("model_version", manifest.version) for prediction in predictions]
        parameters["model_versions"] = orjson.dumps(versions).decode()
    return parameters


class Outputs:
    """The output tensors of one answer of n rows.

    Where a row's `id` was used before, what was recorded stands in its place; its margin, of which nothing is recorded,
    is NaN where another version answered it.
    """

    def __init__(self, manifest: Manifest, answer: Answer) -> None:
        self._manifest = manifest
        self._answer = answer
        self._predictions: list[dict[str, Any]] = answer.content["predictions"]
        self._makers: dict[str, Callable[[], Output]] = {
            "margin": self._margin,
            "probability": self._probability,
            "label": self._label,
            "id": lambda: [prediction["id"] for prediction in self._predictions],
            "explanation_status": lambda: [entry["status"] for entry in self._entries],
            "values": lambda: self._explained("values", len(manifest.features), self._margins),
            "base_values": lambda: self._explained("base_values", self._margins),
            "error_std": lambda: self._explained("error_std", len(manifest.features), self._margins),
        }

    def of(self, name: str) -> Output:
        """The tensor of this name: an array, or texts."""
        return self._makers[name]()

    @property
    def _entries(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self._answer.content["explanations"]
        return entries

    @property
    def _margins(self) -> int:
        return int(self._answer.margin.shape[1])

    def _margin(self) -> NDArray[np.float32]:
        elsewhere = [row for row, prediction in enumerate(self._predictions) if "model_version" in prediction]
        if not elsewhere:
            return self._answer.margin
        margin = self._answer.margin.copy()
        margin[elsewhere] = np.nan
        return margin

    def _probability(self) -> NDArray[np.float32]:
        manifest, probability = self._manifest, self._answer.probability
        if manifest.task == "multiclass":
            names = [str(label) for label in manifest.classes]
            rows = [
                [prediction.get("probabilities", {}).get(name, np.nan) for name in names]
                for prediction in self._predictions
            ]
            return np.array(rows, np.float32)
        index = manifest.positive_index
        positive = np.array([prediction.get("probability", np.nan) for prediction in self._predictions], np.float32)
        repeated = positive != probability[:, index]
        if not repeated.any():
            return probability
        probability = probability.copy()
        probability[repeated, index] = positive[repeated]
        probability[repeated, 1 - index] = 1 - positive[repeated]
        return probability

    def _label(self) -> Output:
        labels = [prediction["label"] for prediction in self._predictions]
        kinds = set(map(type, labels))  # those of another version, which answered before, may be others
        match label_datatype(self._manifest):
            case "BOOL" if kinds == {bool}:
                return np.array(labels, np.bool_)
            case "INT64" if kinds == {int}:
                return np.array(labels, np.int64)
            case _:
                return [str(label) for label in labels]

    def _explained(self, name: str, *shape: int) -> NDArray[np.float32]:
        """`name` of all entries, `(n, *shape)`; NaN where a row has no explanation."""
        absent = np.full(shape, np.nan, np.float32)
        return np.stack([np.asarray(entry.get(name, absent), np.float32) for entry in self._entries])
