"""Answers on their way to a file: written in parts beside it, so that a killed run goes on where it was.

A part is complete or not there, as it gets its name when it is written; its name says which rows it holds. The output
appears at once, when all parts are there.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from service.errors import ConfigurationError

OUTPUTS = (".parquet", ".csv", ".arrow", ".arrows")
JOURNAL = "journal.json"


class Parts:
    """The folder `OUTPUT.parts` of one run, which `about` describes."""

    def __init__(self, output: Path, about: dict[str, Any], *, resume: bool) -> None:
        """Begin anew, or with `resume` go on. Raises ConfigurationError if what is there is of another run."""
        self._output = output
        self._folder = output.with_name(output.name + ".parts")
        self.rows = 0
        if not resume:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        journal = self._folder / JOURNAL
        if not journal.exists():
            _write_whole(journal, json.dumps(about).encode())
        elif json.loads(journal.read_text()) != about:
            raise ConfigurationError(f"{self._folder} is of another input, model or choice of columns; remove it")
        for path in self._paths():
            first, count = map(int, path.stem.split("-"))
            if first != self.rows:
                raise ConfigurationError(f"{self._folder} lacks the rows from {self.rows}; remove it")
            self.rows += count

    def add(self, batches: list[pa.RecordBatch]) -> None:
        """Write one part; it counts when it has its name."""
        rows = sum(batch.num_rows for batch in batches)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, batches[0].schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        _write_whole(self._folder / f"{self.rows:015d}-{rows}.arrow", sink.getvalue())
        self.rows += rows

    def finish(self, schema: pa.Schema) -> None:
        """Make the output of the parts and remove them."""
        unfinished = self._output.with_name(self._output.name + ".unfinished")
        {".parquet": _write_parquet, ".csv": _write_csv, ".arrow": _write_file, ".arrows": _write_stream}[
            self._output.suffix
        ](unfinished, schema, self._batches())
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        unfinished.replace(self._output)
        self.remove()

    def remove(self) -> None:
        """Remove the parts."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("*.arrow"))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for path in self._paths():
            with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
                for number in range(reader.num_record_batches):
                    yield reader.get_batch(number)


def _write_whole(path: Path, content: Any) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _write_parquet(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_file(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    # The file format takes one dictionary per column, and the parts' are the same but for those of kept columns.
    schema = pa.schema([field.with_type(_plain(field.type)) for field in schema], metadata=schema.metadata)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema))


def _write_stream(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_csv(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    flat = _flat(_none(schema))
    with pyarrow.csv.CSVWriter(str(path), flat.schema) as writer:
        for batch in batches:
            writer.write_batch(_flat(batch))


def _none(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Without dictionaries and lists: element i of the list `values` becomes the column `values.i`."""
    names, columns = [], []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_fixed_size_list(field.type):
            for place in range(field.type.list_size):
                names.append(f"{field.name}.{place}")
                columns.append(pc.list_element(column, place))
        else:
            names.append(field.name)
            columns.append(column.cast(_plain(field.type)))
    return pa.RecordBatch.from_arrays(columns, names=names)
