"""Graphs with several inputs, of whatever type and shape, are folded into the one matrix `X`."""

import numpy as np
import pytest
from bringing import bring
from graphs import FLOAT, SCORE, WEIGHTS, graph
from onnx import TensorProto, helper

from models.graph import run
from service.errors import PackageError
from service.manifest import read_manifest

INT64, BOOL, STRING = TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING


def column(name, shape=("n", 1), kind=FLOAT):
    return {name: (kind, list(shape))}


def weighted(*parts):
    """The last nodes: the parts, side by side, times the weights."""
    return [
        helper.make_node("Concat", list(parts), ["joined"], axis=1),
        helper.make_node("Gemm", ["joined", "W", "b"], ["score"]),
    ]


def as_column(name):
    """A plain [n] as [n, 1]."""
    return helper.make_node("Unsqueeze", [name, "last"], [f"{name}_column"])


@pytest.fixture
def margin(rows):
    return rows.X.astype(np.float64) @ WEIGHTS.astype(np.float64) - 1


def answers(folder, X):
    return run((folder / "model.onnx").read_bytes(), X)[0]


def test_plain_vectors_of_every_type(rows, margin, tmp_path):
    """Inputs [n]: int64, float, double, bool."""
    casts = [
        helper.make_node("Cast", [f"{name}_column"], [f"{name}_float"], to=FLOAT) for name in ("age", "debt", "member")
    ]
    nodes = [
        *(as_column(name) for name in ("age", "income", "debt", "member")),
        *casts,
        *weighted("age_float", "income_column", "debt_float", "member_float"),
    ]
    inputs = (
        column("member", ["n"], BOOL)
        | column("debt", ["n"], TensorProto.DOUBLE)
        | column("age", ["n"], INT64)
        | column("income", ["n"])
    )
    given = graph(nodes, SCORE, inputs=inputs, constants={"last": np.array([1])})
    folder, findings = bring(tmp_path, given, rows.with_label(rows.y) | {"unused": rows.y})
    features = {feature.name: feature.kind for feature in read_manifest(folder).features}
    assert features == {"member": "binary", "debt": "numeric", "age": "integer", "income": "numeric"}
    np.testing.assert_allclose(answers(folder, rows.X[:, [3, 2, 0, 1]]), margin, rtol=1e-5, atol=1e-5)
    assert ("columns not used", "`unused`") in findings.understood


KEYS = {"keys_strings": ["own", "office"], "values_floats": [1.0, 1.0]}


def grouped():
    """Two inputs of two columns each: numbers, and words that are compared with one of them."""
    nodes = [
        helper.make_node("LabelEncoder", ["words"], ["codes"], domain="ai.onnx.ml", default_float=0.0, **KEYS),
        *weighted("numbers", "codes"),
    ]
    inputs = column("numbers", ["n", 2]) | column("words", ["n", 2], STRING)
    made = graph(nodes, SCORE, inputs=inputs, domains=["ai.onnx.ml"])
    made.opset_import[1].version = 2
    return made


def test_inputs_of_several_columns_take_them_in_order(rows, tmp_path):
    """Numbers first, words after; each word is looked up in the list of its own feature."""
    columns = {name: rows.columns[name] for name in ("age", "income", "home", "job")} | {"y": rows.y}
    folder, findings = bring(tmp_path, grouped(), columns, sensitive=())
    home, job = (np.unique(rows.columns[name], return_inverse=True)[1] for name in ("home", "job"))
    X = np.stack([rows.X[:, 0], rows.X[:, 1], home, job], axis=1).astype(np.float32)
    values = np.stack([X[:, 0], X[:, 1], rows.columns["home"] == "own", rows.columns["job"] == "office"], axis=1)
    np.testing.assert_allclose(answers(folder, X), values @ WEIGHTS - 1, rtol=1e-5, atol=1e-5)
    assert any("in this order" in text for text in findings.assumed)


def named():
    names = ["age", "income", "debt", "member"]
    return graph(weighted(*names), SCORE, inputs={name: (FLOAT, ["n", 1]) for name in names})


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (["age", "income", "debt"], {}, "an input `member`, and the data has no such column"),
        (["age", "income", "debt", "member"], {"features": ("age", "income")}, "must name the graph's own inputs"),
    ],
)
def test_named_inputs_without_their_columns_are_refused(rows, tmp_path, columns, options, message):
    """The names are the graph's; the data has to have them."""
    data = {name: rows.columns[name] for name in columns} | {"y": rows.y}
    with pytest.raises(PackageError, match=message):
        bring(tmp_path, named(), data, sensitive=(), **options)


def test_names_may_differ_in_what_onnx_does_not_allow(rows, margin, tmp_path):
    """`net income` in the data is the input `net_income`."""
    names = ["age", "net_income", "debt", "member"]
    given = graph(weighted(*names), SCORE, inputs={name: (FLOAT, ["n", 1]) for name in names})
    data = {"age": rows.X[:, 0], "net income": rows.X[:, 1], "debt": rows.X[:, 2], "member": rows.X[:, 3], "y": rows.y}
    folder, _ = bring(tmp_path, given, data, sensitive=())
    assert read_manifest(folder).feature_names[1] == "net income"
    np.testing.assert_allclose(answers(folder, rows.X), margin, rtol=1e-5, atol=1e-5)


def test_an_input_that_is_sensitive_too_is_warned_of(rows, tmp_path):
    """The model's own input `member` is watched as well."""
    data = {name: rows.columns[name] for name in ("age", "income", "debt", "member")} | {"y": rows.y}
    folder, findings = bring(tmp_path, named(), data, sensitive=("member",))
    assert read_manifest(folder).feature_names == ["age", "income", "debt", "member"]
    assert any("takes `member` as an input" in text for text in findings.warnings)


@pytest.mark.parametrize(
    ("kind", "nullable", "message"),
    [
        (INT64, ("age",), "cannot be nullable: the graph takes it as INT64"),
        (INT64, (), "the graph takes whole numbers"),
    ],
)
def test_whole_number_inputs_refuse_what_they_cannot_hold(rows, tmp_path, kind, nullable, message):
    """Neither fractions nor missing values."""
    nodes = [helper.make_node("Cast", ["age"], ["a"], to=FLOAT), *weighted("a", "income", "debt", "member")]
    inputs = column("age", kind=kind) | column("income") | column("debt") | column("member")
    ages = list(rows.columns["age"]) if nullable else list(rows.X[:, 0] + 0.5)
    data = {name: rows.columns[name] for name in ("income", "debt", "member")} | {"age": ages, "y": rows.y}
    with pytest.raises(PackageError, match=message):
        bring(tmp_path, graph(nodes, SCORE, inputs=inputs), data, sensitive=(), nullable=nullable)


def test_words_in_a_matrix_of_numbers_enter_by_their_index(rows, tmp_path):
    """One float input; `home` is the index among the sorted words, for the given graph and for the package."""
    given = graph([helper.make_node("Gemm", ["rows", "W", "b"], ["score"])], SCORE)
    data = {name: rows.columns[name] for name in ("age", "income", "home", "member")} | {"y": rows.y}
    folder, _ = bring(tmp_path, given, data, sensitive=())
    X = rows.X.copy()
    X[:, 2] = np.unique(rows.columns["home"], return_inverse=True)[1]
    np.testing.assert_allclose(answers(folder, X), X @ WEIGHTS - 1, rtol=1e-5, atol=1e-5)
