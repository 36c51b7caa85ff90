"""From columns of the data to features of the manifest and the matrix `X` that the service will build.

Kinds are inferred: 0/1 is binary, words are categorical, whole numbers with few values are integer, all else numeric.
What a user declares wins. `X` holds what a caller's values become: categories as indices, missing ones as NaN.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto
from pydantic import ValidationError

from models.packaging.declared import Declared
from models.packaging.findings import Findings, listed
from models.packaging.given import Input
from models.packaging.table import Column, Table
from models.task import FloatMatrix, Floats
from service.errors import PackageError
from service.manifest import LARGEST_EXACT_INTEGER, LARGEST_FLOAT32, Feature

FEW_VALUES = 20
MOST_CATEGORIES = 1000
# Texts of which most stand in one row only are keys or prose, however short the file.
MOST_IF_HARDLY_REPEATED = 50
WHOLE_TYPES = (TensorProto.INT64, TensorProto.INT32)


def input_types(inputs: Sequence[Input], names: Sequence[str]) -> dict[str, int]:
    """The ONNX type in which the graph takes each of the features `names`, which stand in the order of the inputs."""
    widths = [1 if len(inputs) > 1 and one.width is None else one.width or len(names) for one in inputs]
    elements = [one.element for one, width in zip(inputs, widths, strict=True) for _ in range(width)]
    return dict(zip(names, elements, strict=True))


def infer_features(table: Table, types: Mapping[str, int], declared: Declared, findings: Findings) -> list[Feature]:
    """One feature per name in `types`, in that order.

    Raises PackageError for a declaration of something that is no feature, for values that contradict their
    declaration, and for missing or infinite values that nobody declared.
    """
    if unknown := sorted(declared.keys() - types.keys()):
        raise PackageError(
            f"--schema, --range or --nullable names {listed(unknown)}, which is no feature; features are "
            f"{listed(list(types), 40)}"
        )
    features = [_feature(table.columns[name], element, declared.get(name, {})) for name, element in types.items()]
    _check_missing(table, features)
    for feature, element in zip(features, types.values(), strict=True):
        if feature.nullable and element != TensorProto.FLOAT and element != TensorProto.DOUBLE:
            raise PackageError(
                f"`{feature.name}` cannot be nullable: the graph takes it as {TensorProto.DataType.Name(element)}, "
                "which has no missing value; make missing a category or a number of its own"
            )
    coded = [
        name
        for feature, (name, element) in zip(features, types.items(), strict=True)
        if feature.categories and element != TensorProto.STRING and "categories" not in declared.get(name, {})
    ]
    if coded:
        findings.assume(
            f"The graph takes {listed(coded)} as the index of the value among the sorted values; if the model was "
            "trained on another coding, state `categories` in that order with --schema."
        )
    return features


def _feature(column: Column, element: int, declared: Mapping[str, Any]) -> Feature:
    fields = {"kind": _kind(column, element)} | dict(declared)
    if fields["kind"] == "categorical" and "categories" not in fields:
        values = sorted({cell for cell in column.written if cell})
        if len(values) > (MOST_CATEGORIES if 2 * len(values) < len(column.written) else MOST_IF_HARDLY_REPEATED):
            raise PackageError(
                f"`{column.name}` has {len(values)} different texts, which looks like a key or free text; leave it out "
                "with --features, or list its categories with --schema"
            )
        fields["categories"] = values
    try:
        feature = Feature.model_validate({"name": column.name, **fields})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join([f"`{column.name}`", *(str(part) for part in first["loc"])])
        raise PackageError(f"--schema or --range: {where}: {first['msg'].removeprefix('Value error, ')}") from error
    if element == TensorProto.STRING and feature.categories is None:
        raise PackageError(
            f"`{column.name}`: the graph takes text, so its kind must be categorical, not {feature.kind}"
        )
    if element in WHOLE_TYPES and feature.kind == "numeric":
        raise PackageError(
            f"`{column.name}`: the graph takes whole numbers, so its kind must be integer and its values must be whole"
        )
    return feature


def _kind(column: Column, element: int) -> str:
    if element == TensorProto.STRING:
        return "categorical"
    number = column.number if column.number is not None else column.truth
    if number is None:
        return "categorical"
    present = number[~np.isnan(number)]
    if len(present) and np.isin(present, (0, 1)).all():
        return "binary"
    whole = bool((present == np.round(present)).all() and (np.abs(present) <= LARGEST_EXACT_INTEGER).all())
    return "integer" if whole and (element in WHOLE_TYPES or len(np.unique(present)) <= FEW_VALUES) else "numeric"


def _check_missing(table: Table, features: Sequence[Feature]) -> None:
    gaps = {
        feature.name: int(table.columns[feature.name].missing.sum()) for feature in features if not feature.nullable
    }
    if gaps := {name: count for name, count in gaps.items() if count}:
        counted = [f"{name} ({count})" for name, count in gaps.items()]
        raise PackageError(
            f"NaN in the data: values are missing in {listed(counted)} of {len(table)} rows; leave those rows out, or "
            "say --nullable NAME where the model itself takes NaN"
        )


def feature_matrix(table: Table, features: Sequence[Feature]) -> FloatMatrix:
    """`X` `(n, d)` float32: what the service makes of these values.

    Raises PackageError for a value that the service would refuse, so that the package answers at least its own data.
    """
    return np.stack([_values(table.columns[feature.name], feature) for feature in features], axis=1)


def _values(column: Column, feature: Feature) -> np.ndarray[Any, np.dtype[np.float32]]:
    if feature.categories is not None:
        return _codes(column, feature.categories)
    number = column.truth if column.number is None else column.number
    if number is None:
        raise PackageError(
            f"`{column.name}` is declared {feature.kind}, but the data holds words; declare it categorical"
        )
    present = number[~np.isnan(number)]
    if np.isinf(present).any() or (np.abs(present) > LARGEST_FLOAT32).any():
        raise PackageError(f"`{column.name}` holds infinite values or ones beyond float32; leave those rows out")
    low, high = feature.bounds
    if outside := int(((present < low) | (present > high)).sum()):
        raise PackageError(
            f"`{column.name}`: {outside} rows lie outside {low:g} to {high:g}, and the service would refuse them; "
            "widen the range, or leave those rows out"
        )
    if feature.kind in ("integer", "binary") and (present != np.round(present)).any():
        raise PackageError(f"`{column.name}` is declared {feature.kind}, but holds fractions; declare it numeric")
    return number.astype(np.float32)


def _codes(column: Column, categories: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    index = {category: float(i) for i, category in enumerate(categories)} | {"": np.nan}
    try:
        return np.array([index[cell] for cell in column.written], np.float32)
    except KeyError:
        unlisted = len({cell for cell in column.written if cell not in index})
        raise PackageError(
            f"`{column.name}` holds {unlisted} values that --schema does not list among its categories; list all that "
            "callers may send"
        ) from None


def original_values(column: Column, element: int) -> np.ndarray[Any, Any]:
    """The column `(n,)` as the given graph takes it by itself: text as written, numbers in double precision."""
    if element == TensorProto.STRING:
        return np.array(column.written, object)
    number: Floats | None = column.number if column.number is not None else column.truth
    if number is None:
        raise PackageError(f"`{column.name}` holds words, and the graph takes numbers there")
    return number
