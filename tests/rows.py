"""Rows for `:score` in every form, and its answers read back."""

import io

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from toy import ROW

ARROW = {"content-type": "application/vnd.apache.arrow.stream"}
CSV = {"content-type": "text/csv"}
PARQUET = {"content-type": "application/vnd.apache.parquet"}

TYPES = {
    "amount": pa.float64(),
    "hour": pa.int64(),
    "cross_border": pa.bool_(),
    "entry_mode": pa.string(),
    "balance": pa.float64(),
}


def table(*changes, **types):
    """A table of `toy`'s rows, one per dictionary of changes to ROW."""
    rows = [ROW | {"cross_border": False} | change for change in changes or ({},)]
    types = TYPES | types
    if not pa.types.is_boolean(types["cross_border"]):
        rows = [row | {"cross_border": int(row["cross_border"])} for row in rows]
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})


def arrow(rows, *, batch_rows=None, **options):
    """`rows` as an Arrow IPC stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(rows, max_chunksize=batch_rows)
    return sink.getvalue()


def csv(rows):
    sink = io.BytesIO()
    pyarrow.csv.write_csv(rows, sink)
    return sink.getvalue()


def parquet(rows, **options):
    sink = io.BytesIO()
    pq.write_table(rows, sink, **options)
    return sink.getvalue()


class Answers:
    """A response of `:score` read to its end: `table`, and what the last batch tells."""

    def __init__(self, content):
        reader = pa.ipc.open_stream(content)
        batches, told = [], {}
        while True:
            try:
                batch, metadata = reader.read_next_batch_with_custom_metadata()
            except StopIteration:
                break
            batches.append(batch)
            told = {key.decode(): value.decode() for key, value in dict(metadata or {}).items()}
        self.batches = batches
        self.table = pa.Table.from_batches(batches, reader.schema)
        self.rows = int(told["plumbline.rows"])
        self.error = told.get("plumbline.error")


def score(client, body, headers=ARROW, model="toy", query=""):
    """Post `body` to `:score`; the response."""
    return client.request("POST", f"/v1/models/{model}:score{query}", content=body, headers=headers)


def answers(client, body, headers=ARROW, model="toy", query=""):
    """The answers to `body`, which must be accepted."""
    response = score(client, body, headers, model, query)
    assert response.status_code == 200, response.text
    return Answers(response.content)
