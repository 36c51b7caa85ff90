"""`:score` and bodies that lie: refused with a 400 or 413, with nothing of them repeated and little memory used."""

import io
import struct

import pyarrow as pa
import pytest
from rows import ARROW, CSV, PARQUET, answers, arrow, csv, parquet, score, table

LIMIT = 2**20


@pytest.fixture
def small(serve):
    """A service whose batches and pages have at most 1 MiB, its spool 2 MiB."""
    return serve(max_score_batch_bytes=LIMIT, max_spool_bytes=2 * LIMIT)


def refused(response, status=400):
    assert response.status_code == status, response.text
    assert response.json().keys() == {"error"}
    assert "quetzal" not in response.text
    return response.json()["error"]


@pytest.mark.parametrize("headers", [ARROW, CSV, PARQUET], ids=lambda headers: headers["content-type"])
@pytest.mark.parametrize(
    "body", [b"", b"quetzal", b"\xff" * 4096, b"PAR1quetzal" * 50 + b"PAR1", b"ARROW1\0\0" + b"q" * 99]
)
def test_what_is_no_table_is_refused(client, headers, body):
    """Empty bodies, other bytes, the magic numbers of other formats."""
    refused(score(client, body, headers))


def test_every_truncation_of_a_stream_is_answered_or_refused(client):
    """At a boundary between messages nothing is missing that Arrow could tell; elsewhere it says so."""
    body = arrow(table(*[{}] * 4, entry_mode=pa.dictionary(pa.int8(), pa.string())), batch_rows=2)
    seen = set()
    for end in range(len(body)):
        response = score(client, body[:end])
        seen.add(response.status_code)
        if response.status_code == 400:
            refused(response)
    assert seen == {200, 400}


def test_every_byte_changed_leaves_an_answer_or_a_refusal(client):
    """Offsets, lengths, types: whatever it was, no other status and no crash."""
    body = arrow(table({}, {"balance": None}, entry_mode=pa.dictionary(pa.int8(), pa.string())), compression="lz4")
    for place in range(len(body)):
        for value in (0, 0x7F, 0xFF):
            changed = body[:place] + bytes([value]) + body[place + 1 :]
            assert score(client, changed).status_code in (200, 400)


def test_every_byte_of_parquet_changed_leaves_an_answer_or_a_refusal(client):
    """The same for headers of pages and the footer."""
    body = parquet(table({}, {"balance": None}))
    for place in range(0, len(body), 3):
        changed = body[:place] + bytes([body[place] ^ 0xFF]) + body[place + 1 :]
        assert score(client, changed, PARQUET).status_code in (200, 400)


@pytest.mark.parametrize("offsets", [(0, 2**30), (0, -5), (5, 2)])
def test_offsets_of_text_outside_their_buffer_are_refused(client, offsets):
    """Arrow itself would read there."""
    body = arrow(table().set_column(3, "entry_mode", [["quetzalcoatlus"]]))
    before, true, after = body.rpartition(struct.pack("<ii", 0, 14))
    assert true
    refused(score(client, before + struct.pack("<ii", *offsets) + after))


def test_an_index_outside_its_dictionary_is_refused(client):
    """Arrow itself would read there too."""
    kind = pa.dictionary(pa.int8(), pa.string())
    mode = pa.DictionaryArray.from_arrays(pa.array([9], pa.int8()), pa.array(["chip"]), safe=False)
    refused(score(client, arrow(table().set_column(3, "entry_mode", mode.cast(kind)))))


def test_a_batch_over_the_limit_is_refused_before_it_is_read(small):
    """By the length in its header; smaller batches of the same rows are answered."""
    rows = table(*[{}] * 40_000)
    assert "record batches of at most 1048576 bytes" in refused(score(small, arrow(rows)))
    assert answers(small, arrow(rows, batch_rows=10_000)).rows == 40_000


def test_a_batch_that_would_decompress_over_the_limit_is_refused(small):
    """Zeros compress a thousandfold."""
    rows = table(*[{}] * 200_000)
    body = arrow(rows, compression="zstd")
    assert len(body) < LIMIT
    assert "record batches of at most" in refused(score(small, body))


def test_a_claim_of_a_length_that_is_not_there_allocates_nothing(client):
    """A body of 2^62 bytes, and metadata of 2 GiB."""
    body = arrow(table())
    second = 8 + struct.unpack_from("<i", body, 4)[0]
    for claimed in (2**31 - 1, 2**20, -1):
        refused(score(client, body[: second + 4] + struct.pack("<i", claimed) + body[second + 8 :]))


def test_rows_without_bytes_are_bounded(small):
    """A column of nulls takes no bytes, however many rows it has."""
    schema = pa.schema([("amount", pa.null())])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([pa.nulls(10**9)], schema=schema))
    refused(score(small, sink.getvalue()))


def test_a_page_that_would_unpack_over_the_limit_is_refused(small):
    """2 MiB of zeros in one page of some bytes."""
    rows = table(*[{}] * 300_000)
    body = parquet(rows, compression="zstd", data_page_size=2**24, use_dictionary=False)
    assert len(body) < LIMIT
    assert "pages of at most" in refused(score(small, body, PARQUET))
    assert answers(small, parquet(rows, compression="zstd", data_page_size=2**16), PARQUET).rows == 300_000


def test_parquet_over_the_limit_of_the_spool_is_a_413(small):
    """While it comes in."""
    refused(score(small, b"PAR1" * LIMIT, PARQUET), 413)


def test_a_line_of_csv_without_an_end_is_refused(client):
    """Header or row."""
    refused(score(client, b"q" * (4 * 2**20), CSV))
    found = answers(client, csv(table()) + b'"' + b"q" * (4 * 2**20), CSV)
    assert (found.rows, found.error.partition(" in ")[0]) == (1, "body: valid CSV")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"1,2,chip\n", "row 1: 5 fields are expected"),
        (b"1,2,false,chip,quetzal\n", "row 1, balance: a finite number or null is expected"),
        (b"1_0,2,false,chip,1\n", "row 1, amount: a finite number from 0 to 1000 EUR is expected"),
        (b"1e999,2,false,chip,1\n", "row 1, amount: a finite number from 0 to 1000 EUR is expected"),
        (b"1,2,quetzal,chip,1\n", "row 1, cross_border: 0, 1, false or true is expected"),
        (b"1,2,false,\xff\xfe,1\n", 'row 1, entry_mode: one of "chip", "contactless", "online" is expected'),
        (b",2,false,chip,1\n", "row 1, amount: a finite number from 0 to 1000 EUR is expected"),
    ],
)
def test_a_row_of_csv_that_does_not_fit_is_named(client, body, message):
    """Also where Arrow's own reader would stop with the row in its message."""
    assert refused(score(client, csv(table()) + body + csv(table()).partition(b"\n")[2], CSV)) == message


def test_an_empty_field_of_csv_is_missing_and_the_header_may_have_a_mark(client):
    """Spreadsheets write one before UTF-8, and carriage returns."""
    body = "\ufeffamount,hour,cross_border,entry_mode,balance\r\n0,0,0,chip,\r\n\r\n0,0,TRUE,chip,2\r\n".encode()
    found = answers(client, body, CSV)
    assert found.table["probability"].to_pylist() == pytest.approx([0.5, 0.880797], abs=1e-6)
