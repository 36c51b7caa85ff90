"""`:score`: every form of rows gets the answers that V1 gives to each row, or is refused as V1 refuses it."""

import gc
import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from exposition import value
from rows import ARROW, CSV, PARQUET, Answers, answers, arrow, csv, parquet, score, table
from toy import ROW

from service.bulk.endpoint import WORK
from service.bulk.pipe import Inflow, Outflow
from service.bulk.scorer import Scorer

REPOSITORY = Path(__file__).parents[2] / "models" / "repository"
ROWS = [
    {},
    {"amount": 999.5, "hour": 23, "entry_mode": "online", "balance": None},
    {"amount": 0.25, "cross_border": True, "entry_mode": "contactless", "balance": -400.0},
    {"amount": 1000, "hour": 7, "balance": 0.1},
] * 3
KEPT_NOWHERE = (Scorer, Inflow, Outflow, pa.RecordBatch)
FORMS = {
    "arrow": (lambda rows: arrow(rows), ARROW),
    "arrow in small batches": (lambda rows: arrow(rows, batch_rows=5), ARROW),
    "compressed arrow": (lambda rows: arrow(rows, compression="zstd"), ARROW),
    "csv": (csv, CSV),
    "parquet": (parquet, PARQUET),
    "parquet in small groups": (lambda rows: parquet(rows, row_group_size=5, compression="zstd"), PARQUET),
}


def from_v1(client, rows, model="toy", **fields):
    response = client.predict({"instances": rows} | fields, model=model)
    assert response.status_code == 200, response.text
    return response.json()


def check(found, expected):
    predictions = expected["predictions"]
    assert found.rows == found.table.num_rows == len(predictions)
    assert found.error is None
    assert found.table["prediction"].to_pylist() == [row["label"] for row in predictions]
    probabilities = np.array([row["probability"] for row in predictions])
    np.testing.assert_allclose(found.table["probability"].to_numpy(), probabilities, rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_answered_as_v1_answers_each_row(client, form):
    """Numbers, whole numbers, booleans, categories, missing values."""
    write, headers = FORMS[form]
    rows = table(*ROWS)
    check(answers(client, write(rows), headers), from_v1(client, [ROW | change for change in ROWS]))


@pytest.mark.parametrize(
    "types",
    [
        {"amount": pa.float32(), "balance": pa.float32(), "hour": pa.int8()},
        {"hour": pa.float64(), "cross_border": pa.uint8()},
        {"hour": pa.uint64(), "cross_border": pa.float32()},
        {"entry_mode": pa.large_string()},
        {"entry_mode": pa.string_view()},
        {"entry_mode": pa.dictionary(pa.int8(), pa.string())},
    ],
    ids=str,
)
def test_every_type_that_can_hold_a_value_is_read(client, types):
    """0.25 and 999.5 are exact in float32, 0.1 is not: then V1 is asked for the same number."""
    rows = table(*ROWS[:3], **types)
    check(answers(client, arrow(rows)), from_v1(client, [ROW | change for change in ROWS[:3]]))


def test_columns_may_stand_in_any_order_in_slices_and_chunks(client):
    """A slice begins in the middle of its buffers, bits of validity included."""
    rows = table(*ROWS)
    pieces = pa.concat_tables([rows.slice(3, 2), rows.slice(1, 9)]).select(list(reversed(rows.column_names)))
    expected = [ROW | change for change in [*ROWS[3:5], *ROWS[1:10]]]
    check(answers(client, arrow(pieces)), from_v1(client, expected))


def test_not_a_number_is_missing(client):
    """As a data frame writes it; where nothing may be missing it is refused."""
    rows = table({}, {"balance": float("nan")})
    check(answers(client, arrow(rows)), from_v1(client, [ROW, ROW | {"balance": None}]))
    assert score(client, arrow(table({"amount": float("nan")}))).json()["error"].startswith("row 0, amount: ")


def test_a_column_of_nulls_alone_is_missing(client):
    """Arrow gives it a type of its own."""
    check(
        answers(client, arrow(table({"balance": None}, balance=pa.null()))), from_v1(client, [ROW | {"balance": None}])
    )


def test_a_null_among_the_values_of_a_dictionary_is_missing(client):
    """Refused as a null is, where the feature is not nullable."""
    mode = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array(["chip", None]))
    rows = table({}, {}).set_column(3, "entry_mode", mode)
    assert score(client, arrow(rows)).json()["error"].startswith("row 1, entry_mode: ")


def test_several_classes_have_a_column_each(client):
    """As `probabilities` names them; labels keep their type."""
    rows = [{"x": x, "y": y} for x, y in ((0.0, 0.0), (3.0, -1.0), (-2.0, 1.5))]
    found = answers(client, arrow(pa.Table.from_pylist(rows)), model="trio")
    expected = from_v1(client, rows, model="trio")["predictions"]
    assert found.table["prediction"].to_pylist() == [row["label"] for row in expected]
    for label in ("10", "20", "30"):
        probabilities = [row["probabilities"][label] for row in expected]
        np.testing.assert_allclose(found.table[f"probability_{label}"].to_numpy(), probabilities, rtol=1e-6)


BAD = [
    ({"amount": 1000.001}, {}),
    ({"amount": float("inf")}, {}),
    ({"amount": None}, {}),
    ({"hour": 24}, {}),
    ({"hour": 1.5}, {"hour": pa.float64()}),
    ({"cross_border": 2}, {"cross_border": pa.int32()}),
    ({"cross_border": None}, {}),
    ({"entry_mode": "quetzal"}, {}),
    ({"entry_mode": "quetzal"}, {"entry_mode": pa.dictionary(pa.int8(), pa.string())}),
    ({"entry_mode": None}, {}),
    ({"balance": -float("inf")}, {}),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("change", "types"), BAD, ids=str)
def test_a_bad_first_batch_is_a_400_in_v1s_words(client, form, change, types):
    """The first bad row counts, with its column; what is expected is said as V1 says it."""
    write, headers = FORMS[form]
    response = score(client, write(table({}, {}, change, {}, change, **types)), headers)
    assert response.status_code == 400
    name = next(iter(change))
    expected = client.predict({"instances": [ROW | {name: {}}]}).json()["error"].partition(": ")[2]
    assert response.json() == {"error": f"row 2, {name}: {expected}"}


@pytest.mark.parametrize("form", [ARROW, CSV, PARQUET], ids=lambda form: form["content-type"])
def test_a_later_bad_row_ends_the_stream_after_all_before_it(client, form):
    """Row 70,123 of 80,000, in the second portion: 70,123 answers, then the row, the column and what is expected."""
    rows = table(*[{"amount": number % 1000} for number in range(80_000)])
    hours = rows["hour"].to_numpy().copy()
    hours[70_123] = 24
    rows = rows.set_column(1, "hour", pa.array(hours))
    write = {id(ARROW): lambda: arrow(rows, batch_rows=30_000), id(CSV): lambda: csv(rows)}
    found = answers(client, write.get(id(form), lambda: parquet(rows))(), form)
    assert found.rows == found.table.num_rows == 70_123
    assert found.error == "row 70123, hour: a whole number from 0 to 23 is expected"


@pytest.mark.parametrize(("slots", "error"), [([0, 1, 9], 500), ([0] * 70_000 + [9], 200)])
def test_a_row_on_which_the_model_fails_is_named(client, slots, error):
    """A 500 where nothing was answered yet."""
    response = score(client, arrow(pa.table({"slot": slots}), batch_rows=50_000), model="brittle")
    assert response.status_code == error
    told = response.json()["error"] if error == 500 else Answers(response.content).error
    assert told == f"row {len(slots) - 1}: the model failed on this row"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(["hour"]), "column hour: missing; one column per feature is expected"),
        (lambda rows: rows.append_column("hour", rows["hour"]), "column hour: it may stand there once"),
        (
            lambda rows: rows.append_column("quetzal", rows["hour"]),
            "column number 5: no feature of this model; name it in ignore to skip it",
        ),
        (lambda rows: rows.set_column(0, "amount", [["quetzal"]]), "column amount: numbers are expected"),
        (lambda rows: rows.set_column(0, "amount", [[[1.0]]]), "column amount: numbers are expected"),
        (lambda rows: rows.set_column(0, "amount", [[True]]), "column amount: numbers are expected"),
        (lambda rows: rows.set_column(1, "hour", [pa.array([None])]), "column hour: numbers are expected"),
        (
            lambda rows: rows.set_column(3, "entry_mode", [[1]]),
            "column entry_mode: strings, as they are or dictionary-encoded, are expected",
        ),
    ],
)
def test_columns_that_are_not_the_models_are_refused(client, change, message):
    """Before the first row is read; a name that is not the manifest's is not repeated."""
    response = score(client, arrow(change(table())))
    assert (response.status_code, response.json()) == (400, {"error": message})


@pytest.mark.parametrize("form", FORMS)
def test_a_column_that_is_named_in_ignore_is_passed_over(client, form):
    """Whatever is in it, where the form can hold it."""
    write, headers = FORMS[form]
    rows = table(*ROWS).append_column("id", pa.array(["quetzal"] * len(ROWS)))
    assert score(client, write(rows), headers).status_code == 400
    found = answers(client, write(rows), headers, query="?ignore=other,id")
    check(found, from_v1(client, [ROW | change for change in ROWS]))


def test_no_rows_are_no_answers(client):
    """A stream all the same, with its columns."""
    for write, headers in FORMS.values():
        found = answers(client, write(table().slice(0, 0)), headers)
        assert (found.rows, found.error) == (0, None)
        assert found.table.column_names == ["prediction", "probability"]


@pytest.mark.parametrize("model", ["diagnosis", "progression", "transaction"])
def test_the_committed_models_answer_and_explain_as_v1_does(serve, model):
    """Values, errors and base value are the same numbers, whether rows come alone or in a stream."""
    client = serve(REPOSITORY)
    lines = (REPOSITORY / model / "1" / "replay.jsonl").read_text().splitlines()[:12]
    rows = [json.loads(line)["instance"] for line in lines]
    expected = from_v1(client, rows, model=model, explain=True)
    found = answers(client, arrow(pa.Table.from_pylist(rows), batch_rows=5), model=model, query="?explain=true")
    check(found, expected)
    for row, entry in zip(found.table.to_pylist(), expected["explanations"], strict=True):
        assert row["values"] == [value for (value,) in entry["values"]]
        assert row["error_std"] == [value for (value,) in entry["error_std"]]
        assert row["base_value"] == entry["base_values"][0]


def test_an_explanation_that_is_not_offered_is_a_501(client):
    """As in V1."""
    assert score(client, arrow(table()), query="?explain=true").status_code == 501


@pytest.mark.parametrize("form", [ARROW, CSV, PARQUET], ids=lambda form: form["content-type"])
def test_without_pyarrow_it_is_a_501_that_names_the_extra(client, monkeypatch, form):
    """Whatever the form, before the body is looked at; predictions go on."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, WORK, raising=False)
    response = score(client, b"quetzal", form)
    assert response.status_code == 501
    assert response.json() == {"error": "scoring files needs the extra plumbline[bulk], not installed here"}
    assert client.predict({"instances": [ROW]}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"content-type": "application/json"}, "", 415),
        ({}, "", 415),
        (ARROW | {"content-encoding": "gzip"}, "", 415),
        ({"content-type": 'text/csv; header=present; charset="latin-1"'}, "", 415),
        (ARROW, "?explain=perhaps", 400),
        (ARROW, "?quetzal=1", 400),
    ],
)
def test_what_is_not_offered_is_refused(client, headers, query, status):
    """Before the body is looked at."""
    response = score(client, arrow(table()), headers, query=query)
    assert response.status_code == status
    assert "quetzal" not in response.text


def test_a_version_can_be_named_and_an_unknown_one_is_a_404(client):
    """Version 9 has another bias than version 10, which answers if none is named."""
    body = arrow(table())
    newest, older = (answers(client, body, model=model).table for model in ("toy", "toy/versions/9"))
    assert newest["probability"][0].as_py() > older["probability"][0].as_py()
    assert score(client, body, model="toy/versions/8").status_code == 404
    assert score(client, body, model="nope").status_code == 404


def test_scored_rows_are_counted_and_neither_recorded_nor_monitored(serve):
    """Scoring a file decides about nobody now."""
    client = serve()
    assert answers(client, arrow(table(*ROWS))).rows == len(ROWS)
    metrics = client.get("/metrics").text
    assert value(metrics, "plumbline_scored_rows_total", model_name="toy", model_version="10") == len(ROWS)
    # The service saves its own sums as one job when it starts.
    assert value(metrics, "plumbline_audit_rows_total", result="committed") <= 1
    predictions = [line for line in metrics.splitlines() if line.startswith("plumbline_predictions_total")]
    assert predictions
    assert not [line for line in predictions if float(line.rpartition(" ")[2])]


def test_the_description_lists_the_path_of_each_model_and_version(client):
    """With the media types that are accepted."""
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/models/toy:score", "/v1/models/toy/versions/9:score", "/v1/models/trio:score"} <= paths.keys()
    accepted = paths["/v1/models/toy:score"]["post"]["requestBody"]["content"]
    assert sorted(accepted) == sorted(form["content-type"] for form in (ARROW, CSV, PARQUET))


def test_nothing_of_a_scoring_stays_in_memory(client):
    """Not until the garbage collector comes by, which it may not for long; what Arrow's writer holds it never sees."""
    bodies = (
        (arrow(table(*ROWS)), ARROW),
        (arrow(table(*[{}] * 40_000, {"hour": 24})), ARROW),  # an answer, then what ended it
        (arrow(table({"hour": 24})), ARROW),
        (arrow(table(*ROWS))[:-20], ARROW),
        (csv(table(*ROWS)), CSV),
        (csv(table({"hour": 24})), CSV),
        (parquet(table(*ROWS)), PARQUET),
        (parquet(table(*ROWS))[:-20], PARQUET),
    )
    gc.collect()
    gc.disable()
    try:
        for body, headers in bodies:
            score(client, body, headers)
            end = time.monotonic() + 10
            while left := [type(item).__name__ for item in gc.get_objects() if isinstance(item, KEPT_NOWHERE)]:
                assert time.monotonic() < end, left
                time.sleep(0.01)
    finally:
        gc.enable()
