"""The rows that come with a model: a CSV or Parquet file as named columns, values as they are written.

Knows nothing of features, labels or models. CSV is read by the standard library; Parquet needs pyarrow.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from models.packaging.findings import listed
from models.progress import progress
from models.task import Booleans, Floats
from service.errors import PackageError

MOST_BYTES = 2 * 2**30
# Cells that stand for a missing number. In a column of words only the empty cell does: NA may be a country.
MISSING_NUMBERS = {"", "na", "n/a", "nan", "null", "none"}
TRUTH = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Column:
    """One column of `n` cells: `written` as they stand in the file, the empty string where there is none.

    `is_boolean` where the file itself says so; words like True in a CSV file are words.
    """

    name: str
    written: list[str]
    is_boolean: bool = False

    @cached_property
    def number(self) -> Floats | None:
        """The cells as numbers `(n,)`, NaN where one is missing; None if some cell is not a number."""
        try:
            return np.array([np.nan if _is_missing(cell) else float(cell) for cell in self.written], np.float64)
        except ValueError:
            return None

    @cached_property
    def truth(self) -> Floats | None:
        """The cells as 0.0 and 1.0 if all present ones read true or false (in any case) and there is one; else None."""
        if any(cell and cell.lower() not in TRUTH for cell in self.written) or not any(self.written):
            return None
        return np.array([TRUTH[cell.lower()] if cell else np.nan for cell in self.written])

    @property
    def missing(self) -> Booleans:
        """Where `(n,)` a cell is missing."""
        if self.number is not None:
            return np.isnan(self.number)
        return np.array([not cell for cell in self.written], bool)


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING_NUMBERS


@dataclass(frozen=True)
class Table:
    """Named columns of equal length, in file order."""

    columns: dict[str, Column]

    def __len__(self) -> int:
        """How many rows."""
        return len(next(iter(self.columns.values())).written)

    def column(self, name: str, wanted_by: str) -> Column:
        """The column `name`; PackageError says which option wanted it and what there is."""
        if name not in self.columns:
            raise PackageError(f"{wanted_by}: the data has no column {name!r}; it has {listed(list(self.columns), 40)}")
        return self.columns[name]


def read_table(path: Path) -> Table:
    """Read a `.csv` or `.parquet` file.

    Raises PackageError, saying what to change, for a file that is absent, empty, ragged, too large or not what its
    name says, and for column names that are missing or repeated.
    """
    if not path.is_file():
        raise PackageError(f"--data: there is no file {path.name!r}; give a CSV or Parquet file")
    if path.stat().st_size > MOST_BYTES:
        raise PackageError(f"--data: {path.name} is over 2 GB; a random sample of some 100,000 rows serves as well")
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".pq": _read_parquet}
    if path.suffix.lower() not in readers:
        raise PackageError(f"--data: {path.name} must end in .csv or .parquet")
    columns = readers[path.suffix.lower()](path)
    if not columns or not columns[0].written:
        raise PackageError(f"--data: {path.name} holds no rows; packaging needs rows to recognise and check the model")
    return Table({column.name: column for column in columns})


def _check_names(path: Path, names: list[str]) -> None:
    if nameless := [i + 1 for i, name in enumerate(names) if not name.strip()]:
        raise PackageError(
            f"--data: column {nameless[0]} of {path.name} has no name; name it, or leave out an index column "
            "(pandas: to_csv(..., index=False))"
        )
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise PackageError(f"--data: {path.name} repeats the column {listed(repeated)}; keep one or rename the others")


def _read_csv(path: Path) -> list[Column]:
    try:
        with progress(transient=True) as bar, bar.open(path, "rb", description=f"reading {path.name}") as raw:
            lines = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
            return _parse(path, csv.reader(lines, strict=True))
    except UnicodeDecodeError as error:
        raise PackageError(f"--data: {path.name} is not UTF-8 text; save it as UTF-8 CSV") from error
    except csv.Error as error:
        raise PackageError(f"--data: {path.name} is not well-formed CSV: {error}") from error


def _parse(path: Path, reader: Any) -> list[Column]:
    header: list[str] = next(reader, [])
    if len(header) == 1 and (other := next((mark for mark in ";\t|" if mark in header[0]), None)):
        raise PackageError(f"--data: {path.name} is separated by {other!r}; write it with commas")
    _check_names(path, header)
    columns: list[list[str]] = [[] for _ in header]
    appends = [column.append for column in columns]
    for cells in reader:
        if len(cells) != len(header):
            if not cells:
                continue
            raise PackageError(
                f"--data: line {reader.line_num} of {path.name} has {len(cells)} cells, the header {len(header)}; "
                "quote cells that hold a comma"
            )
        for append, cell in zip(appends, cells, strict=True):
            append(cell)
    return [Column(name, cells) for name, cells in zip(header, columns, strict=True)]


def _read_parquet(path: Path) -> list[Column]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError as error:
        raise PackageError("--data: reading Parquet needs pyarrow: pip install pyarrow, or give a CSV file") from error
    try:
        with progress(transient=True) as bar:
            content = parquet.ParquetFile(path)
            _check_names(path, content.schema_arrow.names)
            columns = [Column(field.name, [], str(field.type) == "bool") for field in content.schema_arrow]
            groups = range(content.num_row_groups)
            for group in bar.track(groups, description=f"reading {path.name}"):
                for column, values in zip(columns, content.read_row_group(group).columns, strict=True):
                    column.written.extend(_as_written(values.to_pylist()))
    except (ArrowException, OSError) as error:
        raise PackageError(f"--data: {path.name} cannot be read as Parquet: {error}") from error
    return columns


def _as_written(values: Iterable[object]) -> list[str]:
    # A missing float is a NaN or a null, by whoever wrote the file.
    return ["" if value is None or value != value else str(value) for value in values]
