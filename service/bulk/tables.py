"""Bodies and files of Arrow and Parquet -> record batches with the model's columns, in bounded memory.

Each reader checks names and types before the first row, and raises InvalidRequest for what it cannot read.
"""

from collections.abc import Collection, Iterator
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from service.bulk.columns import Columns, is_text, place_of
from service.bulk.messages import NOT_ARROW, Messages, Source
from service.bulk.pages import NOT_PARQUET, check_footer, check_pages
from service.errors import InvalidRequest

PARQUET_ROWS = 65_536


def arrow_batches(
    source: Source, columns: Columns, *, passed_over: Collection[str], max_batch_bytes: int, kept: Collection[str] = ()
) -> Iterator[pa.RecordBatch]:
    """The record batches of an Arrow IPC stream, each at most `max_batch_bytes` large; only what is used is decoded."""
    messages = Messages(source, max_bytes=max_batch_bytes)
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(messages.schema))
        places = columns.locate(schema, passed_over=passed_over)
        places += [place_of(name, schema.names) for name in kept]
        options = pa.ipc.IpcReadOptions(
            included_fields=sorted(set(places)),
            ensure_alignment=pa.ipc.Alignment.DataTypeSpecific,
            use_threads=False,
        )
        for batch in pa.ipc.open_stream(messages, options=options):
            if batch.num_rows * len(places) > max_batch_bytes:  # a column of nulls has rows without bytes
                raise InvalidRequest(
                    "body", f"record batches of at most {max_batch_bytes // len(places)} rows are accepted"
                )
            batch.validate(full=True)
            yield batch
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:  # their messages may quote values
        raise InvalidRequest("body", NOT_ARROW) from error


def arrow_file_batches(
    file: IO[bytes], columns: Columns, *, passed_over: Collection[str], kept: Collection[str] = ()
) -> Iterator[pa.RecordBatch]:
    """The record batches of a local file in Arrow's file format."""
    try:
        with pa.ipc.open_file(file) as reader:
            columns.locate(reader.schema, passed_over=passed_over)
            for name in kept:
                place_of(name, reader.schema.names)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                batch.validate(full=True)
                yield batch
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise InvalidRequest("body", "a valid Arrow file is expected") from error


def parquet_batches(
    file: IO[bytes], columns: Columns, *, passed_over: Collection[str], max_batch_bytes: int, kept: Collection[str] = ()
) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, some at a time, no page of which unpacks to more than `max_batch_bytes`."""
    check_footer(file)
    try:
        text = [feature.name for feature in columns.features if feature.categories is not None]
        # As a dictionary, a text that stands in a million rows is in memory once.
        parquet = pq.ParquetFile(file, read_dictionary=text, pre_buffer=False, buffer_size=2**20)
        schema = parquet.schema_arrow
        places = columns.locate(schema, passed_over=passed_over)
        places += [place_of(name, schema.names) for name in kept]
        used = {schema.names[place] for place in places}
        fixed = {name for name in used if _has_fixed_width(schema.field(name).type)}
        for number in range(parquet.metadata.num_row_groups):
            if not parquet.metadata.row_group(number).num_rows:
                continue
            check_pages(file, parquet.metadata.row_group(number), fixed, used - fixed, max_bytes=max_batch_bytes)
            yield from parquet.iter_batches(PARQUET_ROWS, row_groups=[number], columns=sorted(used), use_threads=False)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise InvalidRequest("body", NOT_PARQUET) from error


def _has_fixed_width(kind: pa.DataType) -> bool:
    return not (is_text(kind) or pa.types.is_dictionary(kind) or pa.types.is_nested(kind) or pa.types.is_binary(kind))
