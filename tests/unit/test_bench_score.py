"""What `bench score` makes of bytes, bodies in chunks and what an answer tells at its end, and of its rates."""

import pyarrow as pa
import pytest
from rows import arrow

from bench.score import _ratios, _told, _unchunked


def test_chunks_are_put_together_up_to_the_last():
    """Sizes are hexadecimal; what a chunk holds may look like the end of a line."""
    assert _unchunked(b"3\r\na\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n") == b"a\r\n0123456789"


def test_a_body_without_its_last_chunk_is_not_taken_for_whole():
    with pytest.raises(ValueError, match="not found"):
        _unchunked(b"3\r\nabc\r\n")


def test_rows_answered_are_counted_and_what_is_told_is_said():
    """An answer that tells nothing says so."""
    rows = pa.table({"prediction": [0, 1, 1]})
    assert _told(arrow(rows, batch_rows=2), 7) == "row 7 spoilt: 3 rows were answered, then was told: nothing"
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        batch = rows.to_batches()[0]
        writer.write_batch(batch)
        writer.write_batch(batch.slice(0, 0), custom_metadata={"plumbline.error": "row 3: spoilt"})
    assert _told(sink.getvalue().to_pybytes(), 3).endswith("3 rows were answered, then was told: row 3: spoilt")


def test_each_rate_is_compared_with_what_was_measured_beside_it():
    """A machine that becomes half as fast between two rounds changes no other ratio."""
    assert _ratios([50.0, 40.0, 25.0], [100.0, 100.0, 50.0, 50.0]) == pytest.approx([0.5, 8 / 15, 0.5])
