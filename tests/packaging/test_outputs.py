"""What a graph's outputs mean is recognised by their operators and values, and said."""

import numpy as np
import pytest
from bringing import bring
from graphs import BIAS, FLOAT, LINEAR, SCORE, WEIGHTS, graph, new_stump, single, squashed, stump
from onnx import TensorProto, helper, load

from models.graph import run
from service.errors import PackageError
from service.manifest import read_manifest


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.fixture
def margin(rows):
    """What the linear graphs compute, in double precision."""
    return rows.X.astype(np.float64) @ WEIGHTS.astype(np.float64) + BIAS


def answers(folder, X):
    return run((folder / "model.onnx").read_bytes(), X)


def test_a_column_beyond_0_and_1_is_a_margin(rows, margin, tmp_path):
    """The assumption is said, with the option that overrules it."""
    folder, findings = bring(tmp_path, single("Identity"), rows.with_label(rows.y))
    found, probability = answers(folder, rows.X)
    np.testing.assert_allclose(found, margin, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(probability[:, 1:], sigmoid(margin), atol=1e-6)
    assert any("is a margin" in text and "--output probability" in text for text in findings.assumed)


def test_a_sigmoid_is_cut_off(rows, margin, tmp_path):
    """The margin is what enters it, also where the probability has saturated."""
    far = rows.X * 40
    columns = rows.with_label(rows.y) | dict(zip(["age", "income", "debt", "member"], far.T, strict=True))
    folder, findings = bring(tmp_path, single("Sigmoid"), columns)
    found, probability = answers(folder, far)
    expected = far.astype(np.float64) @ WEIGHTS.astype(np.float64) + BIAS
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert (probability == 1).any()
    assert ("margin", "what enters the Sigmoid; link logit") in findings.understood
    assert [node.op_type for node in load(folder / "model.onnx").graph.node] == ["Gemm", "Neg", "Concat", "Sigmoid"]


def test_values_within_0_and_1_may_still_be_a_margin(rows, tmp_path):
    """--output margin: the sigmoid is put on top of them."""
    folder, findings = bring(tmp_path, squashed(), rows.with_label(rows.y), output="margin")
    found, probability = answers(folder, rows.X)
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_allclose(probability[:, 1:], sigmoid(found.astype(np.float64)), atol=1e-6)
    assert not any("--output" in text for text in findings.assumed)


def test_a_probability_with_no_margin_behind_it_is_turned_into_logarithms_with_a_warning(rows, margin, tmp_path):
    """log(p) - log(1 - p) is the last resort; the probability itself stays what it was, and all stays finite."""
    folder, findings = bring(tmp_path, squashed(), rows.with_label(rows.y))
    found, probability = answers(folder, rows.X)
    expected = np.clip(margin / 20 + 0.5, 0, 1)
    np.testing.assert_allclose(probability[:, 1:], expected, atol=1e-6)
    inside = (expected > 0.001) & (expected < 0.999)
    np.testing.assert_allclose(found[inside], np.log(expected / (1 - expected))[inside], rtol=1e-3, atol=1e-4)
    assert np.isfinite(found).all()
    assert any("last resort" in text or "saturates" in text for text in findings.warnings)


@pytest.mark.parametrize("positive", ["0", "1"])
def test_logarithms_are_about_the_positive_class(rows, tmp_path, positive):
    """Whichever column that is; log(p) - log(1 - p) of its own probability."""
    folder, _ = bring(tmp_path, squashed(), rows.with_label(rows.y), positive=positive)
    found, probability = answers(folder, rows.X)
    p = np.clip(probability[:, [int(positive)]].astype(np.float64), 1e-7, 1 - 1e-7)
    np.testing.assert_allclose(found, np.log(p / (1 - p)), rtol=1e-2, atol=1e-4)


def test_three_probabilities_without_margins_are_turned_into_logarithms(rows, tmp_path):
    """Columns that are normalised by a division: softmax(log p) is p again."""
    nodes = [
        helper.make_node("Gather", ["rows", "three"], ["some"], axis=1),
        helper.make_node("Abs", ["some"], ["positive"]),
        helper.make_node("ReduceSum", ["positive", "axis"], ["sum"], keepdims=1),
        helper.make_node("Div", ["positive", "sum"], ["score"]),
    ]
    constants = {"three": np.array([0, 1, 2]), "axis": np.array([1])}
    labels = np.digitize(rows.X[:, 1], [15, 30])
    folder, findings = bring(
        tmp_path, graph(nodes, {"score": (FLOAT, ["n", 3])}, constants=constants), rows.with_label(labels)
    )
    found, probability = answers(folder, rows.X)
    expected = np.abs(rows.X[:, :3]) / np.abs(rows.X[:, :3]).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probability, expected, atol=1e-6)
    np.testing.assert_allclose(found, np.log(np.maximum(expected, 1e-7)), rtol=1e-5, atol=1e-5)
    assert findings.warnings


@pytest.mark.parametrize("make", [lambda: stump(-1.5, 2.0, "LOGISTIC"), lambda: new_stump(-1.5, 2.0, 2)])
def test_the_transform_of_tree_regressors_is_cut_off(rows, tmp_path, make):
    """TreeEnsembleRegressor and the newer TreeEnsemble, with LOGISTIC inside."""
    folder, _ = bring(tmp_path, make(), rows.with_label(rows.y))
    found, probability = answers(folder, rows.X)
    expected = np.where(rows.X[:, :1] <= 45, -1.5, 2.0)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(probability[:, 1:], sigmoid(expected), atol=1e-6)


@pytest.mark.parametrize("make", [lambda: stump(0.25, 0.75), lambda: new_stump(0.25, 0.75, 0)])
@pytest.mark.parametrize("positive", ["0", "1"])
def test_trees_that_give_probabilities_are_their_own_margin(rows, tmp_path, make, positive):
    """Link identity; the assumption that they are probabilities is said."""
    folder, findings = bring(tmp_path, make(), rows.with_label(rows.y), positive=positive)
    found, probability = answers(folder, rows.X)
    expected = np.where(rows.X[:, 0] <= 45, 0.25, 0.75)
    np.testing.assert_allclose(probability, np.stack([1 - expected, expected], axis=1))
    np.testing.assert_allclose(found[:, 0], probability[:, int(positive)])
    assert read_manifest(folder).link == "identity"
    assert any("--output margin" in text for text in findings.assumed)


def test_trees_that_give_margins_keep_them(rows, tmp_path):
    """Values beyond [0, 1] out of trees are no average of probabilities."""
    folder, _ = bring(tmp_path, stump(-1.5, 2.0), rows.with_label(rows.y))
    np.testing.assert_allclose(answers(folder, rows.X)[0], np.where(rows.X[:, :1] <= 45, -1.5, 2.0))
    assert read_manifest(folder).link == "logit"


def test_several_labels_at_once_are_refused(rows, tmp_path):
    """Two sigmoids beside each other are no distribution over classes."""
    nodes = [
        LINEAR,
        helper.make_node("Concat", ["z", "z"], ["both"], axis=1),
        helper.make_node("Sigmoid", ["both"], ["score"]),
    ]
    with pytest.raises(PackageError, match=r"do not add up to 1.*--output margin"):
        bring(tmp_path, graph(nodes, {"score": (FLOAT, ["n", 2])}), rows.with_label(rows.y))


def test_the_same_scores_twice_are_one(rows, margin, tmp_path):
    """A second output with equal values is left out and said."""
    nodes = [LINEAR, helper.make_node("Sigmoid", ["z"], ["score"]), helper.make_node("Identity", ["score"], ["again"])]
    given = graph(nodes, SCORE | {"again": (FLOAT, ["n", 1])})
    folder, findings = bring(tmp_path, given, rows.with_label(rows.y))
    np.testing.assert_allclose(answers(folder, rows.X)[0], margin, rtol=1e-5, atol=1e-5)
    assert ("output again", "the same probability once more; left out") in findings.understood


def test_a_margin_forced_to_be_a_probability_is_refused(rows, tmp_path):
    """--output probability cannot make 7.3 a probability."""
    with pytest.raises(PackageError, match="--output"):
        bring(tmp_path, single("Identity"), rows.with_label(rows.y), output="probability")


def test_double_precision_is_cast_on_both_sides(rows, margin, tmp_path):
    """A float64 graph is fed from the float32 `X` and answers in float32."""
    double = TensorProto.DOUBLE
    nodes = [
        helper.make_node("MatMul", ["rows", "w"], ["product"]),
        helper.make_node("Add", ["product", "c"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["score"]),
    ]
    constants = {"w": WEIGHTS.astype(np.float64), "c": BIAS.astype(np.float64)}
    given = graph(nodes, {"score": (double, ["n", 1])}, inputs={"rows": (double, ["n", 4])}, constants=constants)
    folder, _ = bring(tmp_path, given, rows.with_label(rows.y))
    np.testing.assert_allclose(answers(folder, rows.X)[0], margin, rtol=1e-5, atol=1e-5)


def test_a_label_that_follows_another_rule_is_warned_of(rows, tmp_path):
    """The graph decides at 0.9 by itself; the package at 0.5."""
    nodes = [
        LINEAR,
        helper.make_node("Sigmoid", ["z"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["score"], axis=1),
        helper.make_node("Greater", ["p", "high"], ["above"]),
        helper.make_node("Cast", ["above"], ["label"], to=TensorProto.INT64),
        helper.make_node("ZipMap", ["score"], ["map"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
    ]
    outputs = {"label": (TensorProto.INT64, ["n", 1]), "score": (FLOAT, ["n", 2])}
    constants = {"one": np.array(1, np.float32), "high": np.array(0.9, np.float32)}
    given = graph(nodes, outputs, constants=constants, domains=["ai.onnx.ml"])
    _, findings = bring(tmp_path, given, rows.with_label(rows.y))
    assert any("own label is not its most probable class" in text for text in findings.warnings)


def test_names_of_the_contract_inside_the_given_graph_do_no_harm(rows, margin, tmp_path):
    """A graph whose own tensors are called X, margin and probability, each something else."""
    nodes = [
        helper.make_node("Gemm", ["probability", "W", "b"], ["X"]),
        helper.make_node("Sigmoid", ["X"], ["margin"]),
    ]
    given = graph(nodes, {"margin": (FLOAT, ["n", 1])}, inputs={"probability": (FLOAT, ["n", 4])})
    folder, _ = bring(tmp_path, given, rows.with_label(rows.y))
    np.testing.assert_allclose(answers(folder, rows.X)[0], margin, rtol=1e-5, atol=1e-5)


def test_a_graph_inside_the_graph_is_kept_whole(rows, margin, tmp_path):
    """If nodes take tensors from outside; they and their constants survive the rewriting."""
    branches = []
    for op in ("Sigmoid", "Neg"):
        inner = helper.make_node(op, ["z"], [f"{op}_out"], doc_string="from a file.py")
        branches.append(
            helper.make_graph([inner], op, [], [helper.make_tensor_value_info(f"{op}_out", FLOAT, ["n", 1])])
        )
    nodes = [LINEAR, helper.make_node("If", ["yes"], ["score"], then_branch=branches[0], else_branch=branches[1])]
    folder, _ = bring(tmp_path, graph(nodes, SCORE, constants={"yes": np.array(True)}), rows.with_label(rows.y))
    np.testing.assert_allclose(answers(folder, rows.X)[1][:, 1:], sigmoid(margin), atol=1e-6)
    assert b"file.py" not in (folder / "model.onnx").read_bytes()


def test_local_functions_are_written_out(rows, margin, tmp_path):
    """A function defined in the file becomes its nodes."""
    double_negation = helper.make_function(
        "my.lab",
        "Twice",
        ["x"],
        ["y"],
        [helper.make_node("Neg", ["x"], ["t"]), helper.make_node("Neg", ["t"], ["y"])],
        [helper.make_opsetid("", 18)],
    )
    given = graph([LINEAR, helper.make_node("Twice", ["z"], ["score"], domain="my.lab")], SCORE, domains=["my.lab"])
    given.functions.append(double_negation)
    folder, _ = bring(tmp_path, given, rows.with_label(rows.y))
    np.testing.assert_allclose(answers(folder, rows.X)[0], margin, rtol=1e-5, atol=1e-5)


def test_without_labels_the_classes_take_the_names_that_are_given(rows, tmp_path):
    """No label column: --classes names them, and nothing is said about quality."""
    columns = {name: cells for name, cells in rows.with_label(rows.y).items() if name != "y"}
    folder, findings = bring(
        tmp_path, single("Sigmoid"), columns, label=None, classes=("refused", "granted"), positive="granted"
    )
    manifest = read_manifest(folder)
    assert manifest.classes == ["refused", "granted"]
    assert not (folder / "evaluation.json").exists()
    assert "nothing is known about the quality" in (folder / "card.md").read_text()
    assert any("labels" in text for text in findings.not_found)
