"""Input tensors -> the rows of `X`, by the manifest: the matrix itself, or one tensor for each feature.

What a value may be is what `:predict` accepts, with the same words in the message.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.api.schema import did_you_mean, expected_value
from service.api.v2.tensors import Tensor, as_float32
from service.api.values import accepted, bounds_of
from service.errors import InvalidRequest, InvalidValue
from service.manifest import Feature, Manifest

Floats = NDArray[np.float32]

MATRIX = "X"
SENSITIVE_PREFIX = "sensitive_features."


class Rows(NamedTuple):
    """`X` `(n, d)`, and the groups of each row if tensors of sensitive features came with it."""

    X: Floats
    sensitive_features: list[dict[str, str]] | None


class Columns:
    """Reads the tensors of one model version."""

    def __init__(self, manifest: Manifest) -> None:
        self.features = manifest.features
        self._index = {feature.name: index for index, feature in enumerate(manifest.features)}
        self._sensitive = [feature.name for feature in manifest.sensitive_features]
        bounds = [_bounds(feature) for feature in manifest.features]
        self._low, self._high = np.array(bounds, np.float64).T
        self._whole = np.array([feature.kind != "numeric" for feature in manifest.features])
        self._nullable = np.array([feature.nullable for feature in manifest.features])

    @property
    def most_tensors(self) -> int:
        """More inputs than this cannot be right."""
        return max(1, len(self.features)) + len(self._sensitive)

    def read(self, tensors: Sequence[Tensor]) -> Rows:
        """Raises InvalidRequest, or InvalidValue for the first value that does not fit."""
        sensitive = [tensor for tensor in tensors if tensor.name.startswith(SENSITIVE_PREFIX)]
        others = [tensor for tensor in tensors if not tensor.name.startswith(SENSITIVE_PREFIX)]
        if not others:
            raise InvalidRequest("inputs", f"{MATRIX}, or one tensor for each feature, is expected")
        for tensor in tensors:
            if tensor.rows != others[0].rows:
                raise InvalidRequest(f"{tensor.where}.shape", f"as many rows as in {others[0].where} are expected")
        X = self._matrix(others[0]) if self._is_matrix(others) else self._assembled(others)
        return Rows(X, self._groups(sensitive) if sensitive else None)

    def _is_matrix(self, tensors: Sequence[Tensor]) -> bool:
        if MATRIX in self._index:  # a feature of that name: only alone, and with numbers, is it the matrix
            return len(tensors) == 1 and tensors[0].name == MATRIX and tensors[0].datatype != "BYTES"
        if matrix := next((tensor for tensor in tensors if tensor.name == MATRIX), None):
            if len(tensors) > 1:
                raise InvalidRequest(matrix.where, f"{MATRIX} stands for all features; no tensor of one may be with it")
            return True
        return False

    def _matrix(self, tensor: Tensor) -> Floats:
        width = len(self.features)
        if tensor.datatype == "BYTES":
            raise InvalidRequest(f"{tensor.where}.datatype", "a numeric one is expected, best FP32")
        if tensor.columns != width or (len(tensor.shape) == 1 and width > 1):
            raise InvalidRequest(f"{tensor.where}.shape", f"[n, {width}] is expected")
        X = as_float32(tensor).reshape(tensor.rows, width)
        self._check(X, slice(None), tensor)
        return X

    def _assembled(self, tensors: Sequence[Tensor]) -> Floats:
        X = np.empty((tensors[0].rows, len(self.features)), np.float32)
        for tensor in tensors:
            column = self._index.get(tensor.name)
            if column is None:
                raise InvalidRequest(tensor.where, "unknown input" + did_you_mean(tensor.name, [MATRIX, *self._index]))
            if tensor.columns != 1:
                raise InvalidRequest(f"{tensor.where}.shape", "[n] or [n, 1] is expected")
            feature = self.features[column]
            if feature.categories is not None:
                X[:, column] = _indices(tensor, feature)
                continue
            if tensor.datatype == "BYTES":
                raise InvalidRequest(f"{tensor.where}.datatype", "a numeric one is expected, best FP32")
            X[:, column] = as_float32(tensor)
            self._check(X[:, column : column + 1], slice(column, column + 1), tensor)
        given = {tensor.name for tensor in tensors}
        for feature in self.features:
            if feature.name not in given:
                raise InvalidValue(
                    "inputs",
                    f"{feature.name} is missing; {expected_value(feature)}",
                    feature=feature.name,
                    reason="absent",
                )
        return X

    def _check(self, X: Floats, columns: slice, tensor: Tensor) -> None:
        """Raise InvalidValue for the first value of `X` `(n, m)` that the features in `columns` do not accept."""
        came = np.dtype(np.float32 if tensor.datatype == "FP32" else np.float64)
        low, high = bounds_of(came, self._low[columns], self._high[columns])
        fits = accepted(X, low, high, whole=self._whole[columns], nullable=self._nullable[columns])
        if fits.all():
            return
        row, column = np.unravel_index(int(np.argmin(fits)), fits.shape)
        feature = self.features[columns][int(column)]
        reason = "type"
        if not np.isnan(X[row, column]) and not low[column] <= X[row, column] <= high[column]:
            reason = "category" if feature.categories is not None else "range"
        raise InvalidValue(
            f"{tensor.where}: row {row}, {feature.name}", _expected_number(feature), feature=feature.name, reason=reason
        )

    def _groups(self, tensors: Sequence[Tensor]) -> list[dict[str, str]]:
        rows: list[dict[str, str]] = [{} for _ in range(tensors[0].rows)]
        for tensor in tensors:
            name = tensor.name.removeprefix(SENSITIVE_PREFIX)
            if name not in self._sensitive:
                declared = ", ".join(self._sensitive) or "none"
                raise InvalidRequest(tensor.where, f"unknown sensitive feature; declared are: {declared}")
            if tensor.columns != 1:
                raise InvalidRequest(f"{tensor.where}.shape", "[n] or [n, 1] is expected")
            if isinstance(tensor.values, np.ndarray):
                raise InvalidRequest(f"{tensor.where}.datatype", "BYTES is expected")
            for row, group in zip(rows, tensor.values, strict=True):
                if group:
                    row[name] = group
        return rows


def _bounds(feature: Feature) -> tuple[float, float]:
    return (0, len(feature.categories) - 1) if feature.categories is not None else feature.bounds


def _expected_number(feature: Feature) -> str:
    """What a number of `X` must be."""
    if feature.categories is None:
        return expected_value(feature, missing="NaN")
    missing = " or NaN" if feature.nullable else ""
    return f"an index into its categories, 0 to {len(feature.categories) - 1},{missing} is expected"


def _indices(tensor: Tensor, feature: Feature) -> list[float]:
    """The names of categories -> their indices; a missing one -> NaN."""
    assert feature.categories is not None
    if isinstance(tensor.values, np.ndarray):
        raise InvalidRequest(f"{tensor.where}.datatype", "BYTES is expected, the names of categories")
    index: dict[str | None, float] = {name: place for place, name in enumerate(feature.categories)}
    absent = index.get("", float("nan") if feature.nullable else None)
    found = [absent if not name else index.get(name) for name in tensor.values]
    if None in found:
        row = found.index(None)
        reason = "category" if tensor.values[row] else "type"
        raise InvalidValue(
            f"{tensor.where}: row {row}, {feature.name}", expected_value(feature), feature=feature.name, reason=reason
        )
    return found  # type: ignore[return-value]
