"""Columns by name -> `X`: what `api.schema` says of one value, said of a column at once.

The smallest and the largest value decide for a whole column; single values are looked at only where one of them may
be wrong. Knows Arrow's types and the manifest; knows neither files nor models.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.api.schema import expected_value
from service.api.values import accepted, bounds_of
from service.errors import InvalidRequest, InvalidRow
from service.manifest import Feature, Manifest

Floats = NDArray[np.float32]

COPIED_ROWS = 4096


class Filled(NamedTuple):
    """`X` `(n, d)`, the rows before the first bad one, and what is wrong with that one."""

    X: Floats
    problem: InvalidRow | None


class Columns:
    """The features of one model, and how their columns become rows of numbers."""

    def __init__(self, manifest: Manifest) -> None:
        self.features = manifest.features
        self._categories = {
            feature.name: pa.array(feature.categories, pa.string())
            for feature in manifest.features
            if feature.categories is not None
        }
        self._all_numeric = all(feature.kind == "numeric" for feature in manifest.features)
        self._low, self._high = bounds_of(
            np.dtype(np.float32), *np.array([feature.bounds for feature in manifest.features]).T
        )
        self._lines: Floats = np.empty((len(self.features), 0), np.float32)
        # Two, as the rows of the call before are in use while the next are filled.
        self._X: list[Floats] = [np.empty((0, len(self.features)), np.float32)] * 2

    def locate(self, schema: pa.Schema, *, passed_over: Collection[str] = ()) -> list[int]:
        """Where each feature's column stands in `schema`. Raises InvalidRequest if it does not fit the model."""
        places = find_columns(self.features, schema.names, passed_over=passed_over)
        for feature, place in zip(self.features, places, strict=True):
            if not _is_fit(feature, schema.types[place]):
                raise InvalidRequest(f"column {feature.name}", _expected_type(feature))
        return places

    def fill(
        self, batch: pa.RecordBatch, places: Sequence[int], *, first_row: int, together: int
    ) -> Iterator[tuple[pa.RecordBatch, Filled]]:
        """The rows of `batch`, whose first has the number `first_row`, `together` at a time, and what they are.

        Each `X` is valid until the one after the next. Ends after a bad row.
        """
        lines = self._as_they_lie(batch, places)
        for start in range(0, batch.num_rows, together):
            rows = batch.slice(start, together)
            X = self._room(rows.num_rows)
            filled = Filled(X, None)
            if lines is None or not self._copy_accepted(lines[:, start : start + together], X):
                filled = self._fill(rows, places, X, first_row=first_row + start)
            yield rows, filled
            if filled.problem is not None:
                return

    def _room(self, rows: int) -> Floats:
        self._X.reverse()
        if len(self._X[0]) < rows:
            self._X[0] = np.empty((rows, len(self.features)), np.float32)
        return self._X[0][:rows]

    def _fill(self, batch: pa.RecordBatch, places: Sequence[int], X: Floats, *, first_row: int) -> Filled:
        """Write the columns of `batch`, of whatever types, into `X`."""
        rows = good = batch.num_rows
        if self._lines.shape[1] < rows:
            self._lines = np.empty((len(self.features), rows), np.float32)
        lines = self._lines[:, :rows]
        culprit: Feature | None = None
        for line, feature, place in zip(lines, self.features, places, strict=True):
            bad = self._fill_line(line, feature, batch.column(place))
            if bad is not None and bad < good:
                good, culprit = bad, feature
        np.copyto(X, lines.T)
        if culprit is None:
            return Filled(X, None)
        return Filled(X[:good], InvalidRow(first_row + good, culprit.name, expected_value(culprit)))

    def _copy_accepted(self, lines: Floats, X: Floats) -> bool:
        """Write `lines` `(d, n)` into `X` `(n, d)`, unless a number is out of bounds; in pieces for the cache."""
        with np.errstate(invalid="ignore"):
            for start in range(0, len(X), COPIED_ROWS):
                piece = lines[:, start : start + COPIED_ROWS]
                if not ((piece.min(axis=1) >= self._low) & (piece.max(axis=1) <= self._high)).all():
                    return False
                np.copyto(X[start : start + COPIED_ROWS], piece.T)
        return True

    def _as_they_lie(self, batch: pa.RecordBatch, places: Sequence[int]) -> Floats | None:
        """The columns of `batch`, without a copy and valid while it is held.

        None unless all are float32, without nulls, and as far from each other as a writer puts them.
        """
        columns = [batch.column(place) for place in places]
        if not self._all_numeric or any(column.type != pa.float32() or column.null_count for column in columns):
            return None
        numbers = [column.to_numpy() for column in columns]
        starts = np.array([line.__array_interface__["data"][0] for line in numbers], np.int64)
        steps = np.unique(np.diff(starts))
        if not batch.num_rows or len(steps) > 1 or (steps <= 0).any():
            return None
        shape, step = (len(columns), batch.num_rows), int(steps[0]) if len(steps) else 4
        lines: Floats = np.lib.stride_tricks.as_strided(numbers[0], shape, (step, 4), writeable=False)
        return lines

    def _fill_line(self, line: Floats, feature: Feature, column: pa.Array) -> int | None:
        """Write `column` `(n,)` into `line` `(n,)`; the first row whose value is not one of `feature`."""
        if not len(column):
            return None
        if feature.categories is not None:
            return self._fill_categories(line, feature, column)
        if pa.types.is_null(column.type):
            line[:] = np.nan
            return None if feature.nullable else 0
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.uint8())
        numbers = column.to_numpy(zero_copy_only=False)  # a null is NaN; integers with nulls become float64
        bad = first_bad(feature, numbers)
        if numbers.dtype.itemsize == 8 and numbers.dtype.kind in "iu":
            numbers = numbers.astype(np.float64)  # as JSON's numbers are read, so that both round alike
        with np.errstate(over="ignore", invalid="ignore"):  # of a row that is refused
            np.copyto(line, numbers, casting="unsafe")
        return bad

    def _fill_categories(self, line: Floats, feature: Feature, column: pa.Array) -> int | None:
        known = self._categories[feature.name]
        if pa.types.is_dictionary(column.type):
            missing = column.is_null().to_numpy(zero_copy_only=False)
            codes = _codes(column.dictionary, known)
            nulls = column.dictionary.is_null().to_numpy(zero_copy_only=False)
            if not len(codes):
                codes, nulls = np.array([np.nan]), np.array([True])
            indices = column.indices.fill_null(0).to_numpy(zero_copy_only=False)
            line[:] = codes[indices]
            missing = missing | nulls[indices]
        elif pa.types.is_null(column.type):
            line[:] = np.nan
            missing = np.ones(len(column), np.bool_)
        else:
            line[:] = _codes(column, known)
            missing = column.is_null().to_numpy(zero_copy_only=False)
        line[missing] = np.nan
        return _first(np.isnan(line) & ~missing if feature.nullable else np.isnan(line))


def find_columns(features: Sequence[Feature], names: Sequence[str], *, passed_over: Collection[str] = ()) -> list[int]:
    """Where each feature's column stands among `names`.

    Raises InvalidRequest where one is missing, stands there twice, or is no feature and not `passed_over`; a name that
    is not the manifest's is not repeated.
    """
    places = {name: place for place, name in enumerate(names)}
    known = {feature.name for feature in features}
    for feature in features:
        if feature.name not in places:
            raise InvalidRequest(f"column {feature.name}", "missing; one column per feature is expected")
    seen: set[str] = set()
    for place, name in enumerate(names):
        if name in known and name in seen:
            raise InvalidRequest(f"column {name}", "it may stand there once")
        if name not in known and name not in passed_over:
            raise InvalidRequest(f"column number {place}", "no feature of this model; name it in ignore to skip it")
        seen.add(name)
    return [places[feature.name] for feature in features]


def place_of(name: str, names: Sequence[str]) -> int:
    """Where a column to keep stands. Raises InvalidRequest if it is not there exactly once."""
    if list(names).count(name) != 1:
        raise InvalidRequest("keep", "every column to keep has to be there, once")
    return list(names).index(name)


def first_bad(feature: Feature, numbers: NDArray[Any]) -> int | None:
    """The first of `numbers` `(n,)`, n > 0, NaN where missing, that `feature` does not accept."""
    low, high = bounds_of(numbers.dtype, *feature.bounds)
    with np.errstate(invalid="ignore"):
        # NaN is neither, so that a column with a missing value is looked at closely.
        within = bool(low <= numbers.min() and numbers.max() <= high)
    whole = feature.kind == "numeric" or numbers.dtype.kind in "iu"
    if within and (whole or bool((numbers == np.trunc(numbers)).all())):
        return None
    return _first(~accepted(numbers, low, high, whole=not whole, nullable=feature.nullable))


def _first(marks: NDArray[np.bool_]) -> int | None:
    place = int(marks.argmax())
    return place if marks[place] else None


def _codes(values: pa.Array, known: pa.Array) -> NDArray[np.float64]:
    """The index of each of `values` in `known`, NaN where it is none of them."""
    found = pc.index_in(values.cast(pa.string()) if values.type != pa.string() else values, value_set=known)
    return found.cast(pa.float64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def is_text(kind: pa.DataType) -> bool:
    """Whether `kind` is one of Arrow's types of text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_fit(feature: Feature, kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_null(kind):
        return feature.nullable
    if feature.categories is not None:
        return is_text(kind) or (types.is_dictionary(kind) and is_text(kind.value_type))
    if types.is_boolean(kind):
        return feature.kind == "binary"
    return bool(types.is_integer(kind) or types.is_floating(kind))


def _expected_type(feature: Feature) -> str:
    if feature.categories is not None:
        return "strings, as they are or dictionary-encoded, are expected"
    return "numbers" + (" or booleans" if feature.kind == "binary" else "") + " are expected"
