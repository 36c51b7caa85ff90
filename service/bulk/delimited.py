"""CSV bodies and files -> record batches of typed columns.

Every field is read as bytes and converted here, column by column, so that a value that does not fit has a row and a
name, and the rows before it are answered. Arrow's own conversion would drop them and quote the value.
"""

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from service.bulk.columns import Columns, find_columns, place_of
from service.bulk.messages import Source
from service.errors import InvalidRequest
from service.manifest import Feature

BLOCK_BYTES = 2**20
MOST_HEADER_BYTES = 2**18
# What stands for a binary feature, as V1 takes it, and as spreadsheets write it.
TRUTHS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "False": 0, "True": 1, "FALSE": 0, "TRUE": 1}
NOT_CSV = "valid CSV in UTF-8 is expected, with a header and lines of less than 1 MiB"
# What Arrow reads as a number.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|nan|inf|infinity)", re.IGNORECASE)


def csv_batches(
    source: Source, columns: Columns, *, passed_over: Collection[str], kept: Collection[str] = ()
) -> Iterator[pa.RecordBatch]:
    """The rows of a CSV file with a header, some at a time; an empty field is a missing value.

    Raises InvalidRequest, for a value as InvalidRow does: after the rows before it.
    """
    ahead = _Ahead(source)
    names = _header(ahead.line())
    find_columns(columns.features, names, passed_over=passed_over)
    ragged: list[int] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(row.number - 1)
        return "skip"

    known = [feature.name for feature in columns.features]
    others = [name for name in kept if name not in known]
    labels = [str(number) for number in range(len(names))]  # the names themselves may repeat where passed over
    included = [labels[place_of(name, names)] for name in known + others]
    try:
        reader = pyarrow.csv.open_csv(
            ahead,
            pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=labels),
            pyarrow.csv.ParseOptions(invalid_row_handler=note, ignore_empty_lines=True),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(labels, pa.binary()),
                include_columns=included,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        first = 0
        for raw in reader:
            end = next((row for row in ragged if row <= first + raw.num_rows), None)
            problem = None if end is None else InvalidRequest(f"row {end}", f"{len(names)} fields are expected")
            if problem is not None and first == 0:  # nothing was answered yet: the request as a whole is refused
                raise problem
            yield from _typed(raw if end is None else raw.slice(0, end - first), columns.features, others)
            if problem is not None:
                raise problem
            first += raw.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:  # their messages may quote values
        if ahead.empty:
            return
        raise InvalidRequest("body", NOT_CSV) from error
    if ragged:
        raise InvalidRequest(f"row {min(ragged)}", f"{len(names)} fields are expected")


def _typed(rows: pa.RecordBatch, features: Sequence[Feature], kept: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """`rows` of bytes with their types; a field that cannot have its type becomes one that no feature accepts."""
    if not rows.num_rows:
        return
    made = [_convert(feature, column) for feature, column in zip(features, rows.columns, strict=False)]
    names = [feature.name for feature in features]
    for name, column in zip(kept, rows.columns[len(features) :], strict=True):
        names.append(name)
        made.append(_text(column))
    yield pa.RecordBatch.from_arrays(made, names=names)


def _text(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([None if raw is None else raw.decode(errors="replace") for raw in column.to_pylist()])


def _convert(feature: Feature, column: pa.Array) -> pa.Array:
    text = _text(column)
    if feature.categories is not None:
        return text
    if feature.kind == "binary":
        places = pc.index_in(text, value_set=pa.array(list(TRUTHS)))
        numbers = pc.take(pa.array(list(TRUTHS.values()), pa.float64()), places)
        return pc.if_else(pc.and_(pc.is_valid(text), pc.is_null(places)), float("inf"), numbers)
    try:
        return text.cast(pa.float64())
    except pa.ArrowInvalid:
        return pa.array(_numbers(text.to_pylist()), pa.float64(), from_pandas=False)


def _numbers(texts: Sequence[str | None]) -> list[float | None]:
    """Slowly, where a column holds something else: infinity, which no feature accepts, in its place."""
    return [
        None if text is None else float(text) if text.isascii() and NUMBER.fullmatch(text) else float("inf")
        for text in texts
    ]


def _header(line: bytes) -> list[str]:
    try:
        rows = list(csv.reader(io.StringIO(line.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest("header", NOT_CSV) from error
    if len(rows) != 1:
        raise InvalidRequest("header", "one line with the names of the columns is expected")
    return rows[0]


class _Ahead:
    """A source whose first line is taken off. As a file, for Arrow's reader."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rest = b""
        self.closed = False
        self.empty = True

    def line(self) -> bytes:
        """The first line, without its end. Raises InvalidRequest if it is too long."""
        found = b""
        while b"\n" not in found:
            part = bytes(self._source.read(4096))
            found += part
            if not part:
                break
            if len(found) > MOST_HEADER_BYTES:
                raise InvalidRequest("header", f"a line of at most {MOST_HEADER_BYTES} bytes is expected")
        line, _, self._rest = found.partition(b"\n")
        return line.rstrip(b"\r")

    def read(self, size: int = -1) -> bytes | memoryview:
        """The next `size` bytes after the first line."""
        part: bytes | memoryview
        if self._rest:
            part, self._rest = self._rest[:size], self._rest[size:]
            if len(part) < size:
                part = b"".join([part, self._source.read(size - len(part))])
        else:
            part = self._source.read(size)
        self.empty = self.empty and not bytes(part[:4096]).strip(b"\r\n")
        return part

    def readable(self) -> bool:
        """As a file says it."""
        return True

    def close(self) -> None:
        """As a file does; the source is not."""
