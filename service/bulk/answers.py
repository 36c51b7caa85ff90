"""What n rows were answered, as Arrow columns: the V1 answer without ids, a field a column."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.manifest import Manifest
from service.runtime.explainer import Attribution

Floats = NDArray[np.float32]


class Answers:
    """The columns that one model answers with.

    `prediction` is the label. A binary model has `probability`, of the positive class; another one
    `probability_CLASS` for each class. Explained, `values` and `error_std` (a number per feature) and `base_value`
    follow, for each class in a model of several; they are null where an explanation was withheld.
    """

    def __init__(self, manifest: Manifest, *, explained: bool) -> None:
        self._manifest = manifest
        self._labels = pa.array(_alike(manifest))
        binary = manifest.task == "binary"
        outputs = [""] if binary else [f"_{label}" for label in manifest.classes]
        per_feature = pa.list_(pa.float32(), len(manifest.features))
        fields = [pa.field("prediction", self._labelled(np.zeros(0, np.intp)).type, nullable=False)]
        fields += [pa.field(f"probability{output}", pa.float32(), nullable=False) for output in outputs]
        if explained:
            for name, kind in (("values", per_feature), ("error_std", per_feature), ("base_value", pa.float32())):
                fields += [pa.field(name + output, kind) for output in outputs]
        about = {"plumbline.model_name": manifest.name, "plumbline.model_version": manifest.version}
        if manifest.threshold is not None:
            self._threshold = _first_at_least(manifest.threshold)
            about["plumbline.threshold"] = repr(manifest.threshold)
        self.schema = pa.schema(fields, metadata=about)
        self.none = pa.RecordBatch.from_arrays(
            [self._labelled(np.zeros(0, np.intp)), *(pa.array([], field.type) for field in fields[1:])],
            schema=self.schema,
        )

    def batch(self, probability: Floats, attributions: list[Attribution | None] | None = None) -> pa.RecordBatch:
        """The answers of `probability` `(n, K)`; an attribution is None where it was withheld."""
        columns = [self._labelled(self.decide(probability))]
        binary = self._manifest.task == "binary"
        wanted = [self._manifest.positive_index] if binary else range(len(self._manifest.classes))
        columns += [pa.array(np.ascontiguousarray(probability[:, index])) for index in wanted]
        if attributions is not None:
            columns += _explained(attributions, features=len(self._manifest.features), outputs=len(wanted))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def decide(self, probability: Floats) -> NDArray[np.intp] | NDArray[np.int8]:
        """`probability` `(n, K)` -> the index of the predicted class, `(n,)`, as `codec.decide` has it."""
        if self._manifest.task == "multiclass":
            winners: NDArray[np.intp] = probability.argmax(axis=1)
            return winners
        index = self._manifest.positive_index
        positive = probability[:, index] >= self._threshold
        return (positive if index else ~positive).view(np.int8)

    def _labelled(self, classes: NDArray[np.intp] | NDArray[np.int8]) -> pa.Array:
        """Text as a dictionary, which costs one byte a row; numbers and booleans as they are."""
        if not pa.types.is_string(self._labels.type):
            return self._labels.take(pa.array(classes))
        small = np.int8 if len(self._labels) <= 127 else np.int32
        return pa.DictionaryArray.from_arrays(pa.array(classes.astype(small, copy=False)), self._labels)


def _first_at_least(threshold: float) -> np.float32:
    """The first float32 that reaches `threshold`: every float32 reaches both or neither."""
    nearest = np.float32(threshold)
    return nearest if float(nearest) >= threshold else np.nextafter(nearest, np.float32(np.inf))


def _alike(manifest: Manifest) -> list[object]:
    """The classes as they are where they are of one type, else as text."""
    kinds = {type(label) for label in manifest.classes}
    return list(manifest.classes) if len(kinds) == 1 else [str(label) for label in manifest.classes]


def _explained(attributions: list[Attribution | None], *, features: int, outputs: int) -> list[pa.Array]:
    """`values`, `error_std`, `base_value`, of each output in turn."""
    rows = len(attributions)
    withheld = np.array([attribution is None for attribution in attributions], np.bool_)
    values = np.zeros((outputs, rows, features), np.float32)
    errors = np.zeros((outputs, rows, features), np.float32)
    bases = np.zeros((outputs, rows), np.float32)
    for row, attribution in enumerate(attributions):
        if attribution is not None:
            values[:, row], errors[:, row] = attribution.values.T, attribution.error_std.T
            bases[:, row] = attribution.base_values
    mask = pa.array(withheld)

    def lists(numbers: Floats) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), features, mask=mask)

    columns = [lists(numbers) for numbers in values] + [lists(numbers) for numbers in errors]
    return columns + [pa.array(numbers, mask=withheld) for numbers in bases]
