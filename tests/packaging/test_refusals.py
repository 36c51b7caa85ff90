"""What cannot be packaged is refused with the way out, and nothing is left behind."""

import numpy as np
import onnx
import pytest
from bringing import N, bring, credit_rows, write_csv
from graphs import FLOAT, LINEAR, SCORE, built_for, centred, graph, single
from onnx import TensorProto, helper

from models.packaging import given as given_module
from models.packaging import table as table_module
from models.packaging.given import read_given
from service.errors import PackageError

ROWS = credit_rows()
COLUMNS = ROWS.with_label(ROWS.y)


def changed(name, cells):
    return COLUMNS | {name: cells}


def without(*names):
    return {name: cells for name, cells in COLUMNS.items() if name not in names}


def with_missing(name, cells):
    cells = list(cells)
    cells[3] = ""
    return changed(name, cells)


# What is wrong -> columns, options, and words of the message: what is wrong, then the way out.
DATA = {
    "a column too many": (COLUMNS | {"extra": ROWS.X[:, 0]}, {}, "takes 4 features, .* has 5", "--features"),
    "a column too few": (without("debt"), {}, "takes 4 features, .* has 3", "--features"),
    "no feature at all": ({"y": ROWS.y}, {"sensitive": ()}, "no column is left", "beside the label"),
    "an unknown label column": (COLUMNS, {"label": "outcome"}, "no column 'outcome'", "it has `age`"),
    "an unknown sensitive column": (COLUMNS, {"sensitive": ("race",)}, "no column 'race'", "it has"),
    "an unknown feature": (COLUMNS, {"features": ("age", "wealth")}, "no column 'wealth'", "it has"),
    "a feature twice": (COLUMNS, {"features": ("age", "age", "debt", "member")}, "`age` more than once", ""),
    "a missing number": (with_missing("age", ROWS.columns["age"]), {}, "NaN in the data.*age", "--nullable"),
    "a missing label": (with_missing("y", ROWS.y), {}, "the label 'y' is missing in 1 row", "leave them out"),
    "an infinite number": (changed("debt", [np.inf, *ROWS.X[1:, 2]]), {}, "infinite", "leave those rows out"),
    "a class too many": (changed("y", ROWS.four), {}, "cannot emit", "is this the label"),
    "a class too few": (changed("y", np.ones(N, int)), {}, "shows 1 of them", "--classes"),
    "a label of fractions": (changed("y", ROWS.X[:, 1]), {}, "fractions", "no regression"),
    "an unknown positive": (COLUMNS, {"positive": "yes"}, "unknown label 'yes'", "the classes are `0`, `1`"),
    "an unknown favourable": (COLUMNS, {"favourable": "good"}, "unknown label 'good'", "the classes are"),
    "too many names of classes": (COLUMNS, {"classes": ("a", "b", "c")}, "--classes names", "Leave those rows out"),
    "too many groups": (changed("sex", np.arange(N)), {}, "500 different values, at most 20", "bands"),
    "an unknown reference group": (COLUMNS, {"reference": ("sex=x",)}, "no group of `sex`", "`female`, `male`"),
    "a reference of nothing": (COLUMNS, {"reference": ("sex",)}, "must read FEATURE=GROUP", "`sex`"),
    "an intersection of one": (COLUMNS, {"intersections": ("sex",)}, "must join two or more", "by \\+"),
    "an intersection with a stranger": (COLUMNS, {"intersections": ("sex+race",)}, "must join", "`sex`, `age_band`"),
    "a range that the data leaves": (COLUMNS, {"ranges": ("age=0:50",)}, "outside 0 to 50", "widen"),
    "a range of words": (COLUMNS, {"ranges": ("age=low:high",)}, "must read NAME=LOW:HIGH", "numbers"),
    "a range the wrong way": (COLUMNS, {"ranges": ("age=90:10",)}, "minimum must not exceed maximum", "age"),
    "a range of a group": (COLUMNS, {"ranges": ("sex=0:1",)}, "`sex`, which is no feature", "features are"),
    "a name with a slash": (COLUMNS, {"name": "a/b"}, "--name", "letter or digit"),
    "a long name": (COLUMNS, {"name": "a" * 101}, "--name", "at most 100"),
    "a version of words": (COLUMNS, {"version": "v1"}, "--version", "whole number"),
    "words where numbers belong": (
        changed("age", ["old"] * N),
        {"schema": "age: {kind: numeric}"},
        "declared numeric, but the data holds words",
        "categorical",
    ),
    "free text": (changed("age", [f"person {i}" for i in range(N)]), {}, "500 different texts", "leave it out"),
    "a fraction declared whole": (COLUMNS, {"schema": "debt: {kind: integer}"}, "holds fractions", "numeric"),
    "an unlisted category": (
        changed("age", ["old", *["young"] * (N - 1)]),
        {"schema": "age: {kind: categorical, categories: [young]}"},
        "1 values that --schema does not list",
        "list all",
    ),
    "a group without rows": (changed("sex", [""] * N), {}, "names no group in any row", ""),
    "a class beyond those named": (changed("y", ROWS.four), {"classes": ("0", "1")}, "cannot emit", "Leave those rows"),
    "an unknown field": (COLUMNS, {"schema": "age: {colour: red}"}, "unknown `colour`", "the fields are"),
    "a schema of something else": (COLUMNS, {"schema": "- age"}, "must map each feature", "fields"),
    "no YAML": (COLUMNS, {"schema": "age: {"}, "is not YAML", ""),
    "an incoherent feature": (COLUMNS, {"schema": "age: {kind: numeric, categories: [a]}"}, "`age`: categories", ""),
}


@pytest.mark.parametrize("case", DATA)
def test_data_and_options_that_do_not_fit_are_refused(tmp_path, case):
    """The message says what is wrong and what to do; no file is written."""
    columns, options, wrong, way_out = DATA[case]
    if "schema" in options:
        path = tmp_path / "features.yaml"
        path.write_text(options["schema"])
        options = options | {"schema": path}
    with pytest.raises(PackageError, match=wrong) as refusal:
        bring(tmp_path, single("Sigmoid"), columns, **options)
    assert refusal.match(way_out)
    assert not (tmp_path / "repository").exists()


def fixed_batch():
    return graph([LINEAR, helper.make_node("Sigmoid", ["z"], ["score"])], SCORE, inputs={"rows": (FLOAT, [1, 4])})


def labels_only():
    nodes = [LINEAR, helper.make_node("Cast", ["z"], ["label"], to=TensorProto.INT64)]
    return graph(nodes, {"label": (TensorProto.INT64, ["n", 1])})


def images():
    flat = helper.make_node("Flatten", ["rows"], ["flat"])
    nodes = [flat, helper.make_node("Gemm", ["flat", "W", "b"], ["score"])]
    return graph(nodes, SCORE, inputs={"rows": (FLOAT, ["n", 2, 2])})


def infinite():
    return graph([LINEAR, helper.make_node("Log", ["z"], ["score"])], SCORE)


def two_margins():
    nodes = [LINEAR, helper.make_node("Neg", ["z"], ["score"]), helper.make_node("Mul", ["z", "z"], ["other"])]
    return graph(nodes, SCORE | {"other": (FLOAT, ["n", 1])})


def custom():
    return graph([LINEAR, helper.make_node("Wish", ["z"], ["score"], domain="my.lab")], SCORE, domains=["my.lab"])


GRAPHS = {
    "a fixed batch axis": (fixed_batch, "batch axis of input 'rows' is fixed at 1", "dynamic"),
    "a batch size inside": (lambda: built_for(N), "fails on 16 rows though it answers a batch", "dynamic batch axis"),
    "rows that see each other": (centred, "depends on the other rows.*ReduceMean", "evaluation mode"),
    "an operator of one's own": (custom, "no operator `my.lab:Wish`", "standard operators"),
    "labels without scores": (labels_only, "labels but no scores", "export the probabilities"),
    "an image": (images, "3 axes", "only tables"),
    "NaN and infinities": (infinite, "NaN or infinite on .* rows", "leave those rows out"),
    "two outputs of one kind": (two_margins, "could each be the margin", "one of them only"),
    "an opset of the future": (lambda: graph([LINEAR], {"z": (FLOAT, ["n", 1])}, opset=99), "opset 99", "lower"),
    "an opset of the past": (lambda: graph([LINEAR], {"z": (FLOAT, ["n", 1])}, opset=6), "opset 6", "export it again"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_graphs_that_cannot_be_served_are_refused(tmp_path, case):
    """Fixed batches, mixing of rows, unknown operators and the like: found, named, with the way out."""
    make, wrong, way_out = GRAPHS[case]
    with pytest.raises(PackageError, match=wrong) as refusal:
        bring(tmp_path, make(), COLUMNS)
    assert refusal.match(way_out)
    assert not (tmp_path / "repository").exists()


FILES = {
    "empty": ("", "holds no rows"),
    "header only": ("age,income\n", "holds no rows"),
    "a column twice": ("age,age\n1,2\n", "repeats the column `age`"),
    "an index column": (",age\n0,1\n", "column 1 of rows.csv has no name.*index=False"),
    "semicolons": ("age;income\n1;2\n", "separated by ';'; write it with commas"),
    "a ragged line": ("age,income\n1,2\n1\n", "line 3 of rows.csv has 1 cells, the header 2"),
    "an open quote": ('age,income\n1,"2\n', "not well-formed CSV"),
    "bytes": (b"age,income\n1,\xff\n", "not UTF-8"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_no_table_are_refused(tmp_path, case):
    """Each with what to change."""
    content, wrong = FILES[case]
    path = tmp_path / "rows.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PackageError, match=wrong):
        bring(tmp_path, single("Sigmoid"), path)


def test_missing_files_are_refused(tmp_path):
    """The model, the data, the schema and the weights of a model are each named."""
    onnx.save(single("Sigmoid"), tmp_path / "given.onnx")
    data = write_csv(tmp_path / "rows.csv", COLUMNS)
    with pytest.raises(PackageError, match=r"no file 'absent.onnx'"):
        bring(tmp_path, tmp_path / "absent.onnx", data)
    with pytest.raises(PackageError, match=r"no file 'absent.csv'"):
        bring(tmp_path, tmp_path / "given.onnx", tmp_path / "absent.csv")
    with pytest.raises(PackageError, match=r"absent.yaml cannot be read"):
        bring(tmp_path, tmp_path / "given.onnx", data, schema=tmp_path / "absent.yaml")
    with pytest.raises(PackageError, match=r"must end in \.csv or \.parquet"):
        bring(tmp_path, tmp_path / "given.onnx", tmp_path / "given.onnx")


def test_weights_that_lie_elsewhere_are_asked_for(tmp_path):
    """A graph whose weights file was not copied along names that file."""
    path = tmp_path / "given.onnx"
    onnx.save(single("Sigmoid"), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    read_given(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(PackageError, match=r"`weights.bin`, which must lie beside it"):
        read_given(path)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    """Neither noise nor an empty file is taken for ONNX."""
    for content in (b"", b"PK\x03\x04 not a model"):
        (tmp_path / "given.onnx").write_bytes(content)
        with pytest.raises(PackageError, match="not an ONNX model"):
            read_given(tmp_path / "given.onnx")


@pytest.mark.parametrize(
    ("suffix", "message"), [("onnx", "over 2 GB with its weights"), ("csv", "over 2 GB; a random sample")]
)
def test_files_over_two_gigabytes_are_refused(tmp_path, suffix, message):
    """A sparse file of that size, which takes no room on the disk, is refused by its size alone."""
    path = tmp_path / f"large.{suffix}"
    if suffix == "onnx":
        onnx.save(single("Sigmoid"), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with (tmp_path / "weights.bin" if suffix == "onnx" else path).open("ab") as file:
        file.truncate(max(given_module.MOST_BYTES, table_module.MOST_BYTES) + 1)
    with pytest.raises(PackageError, match=message):
        read_given(path) if suffix == "onnx" else table_module.read_table(path)
