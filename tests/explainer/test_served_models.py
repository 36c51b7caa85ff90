"""Which models can be explained, and why others cannot."""

import games
import numpy as np
import pytest
from onnx import TensorProto, checker, helper, load_from_string

from models.explainer.compile import compile_explainer
from models.explainer.served import load_served
from service.errors import PackageError
from service.manifest import Feature

D = 3
ROWS = np.random.default_rng(0).normal(size=(60, D)).astype(np.float32)
AXIS_0, AXIS_1 = (f"axis{i} = Constant<value_ints = [{i}]>()" for i in (0, 1))

REFUSED = {
    "takes exactly 4 rows": games.graph(f"{AXIS_1} margin = ReduceSum(X, axis1)", D, batch="4"),
    "margin of a row depends on the other rows": games.graph(
        f"{AXIS_0} {AXIS_1} top = ReduceMax(X, axis0) rest = Sub(X, top) margin = ReduceSum(rest, axis1)",
        D,
    ),
    "random operator RandomNormalLike": games.graph(
        f"{AXIS_1} noise = RandomNormalLike(X) both = Add(X, noise) margin = ReduceSum(both, axis1)", D
    ),
    "after ArgMax": games.graph("best = ArgMax<axis = 1>(X) margin = Cast<to = 1>(best)", D),
    "after Hardmax": games.graph(f"{AXIS_1} one = Hardmax(X) margin = ReduceMax(one, axis1)", D),
    "does not depend on X": games.graph("margin = Constant<value = float[1,1] {1.0}>()", D),
    "takes 4 features, the rows have 3": games.graph(f"{AXIS_1} margin = ReduceSum(X, axis1)", 4),
    "batches of every size": games.graph(
        f"shape = Constant<value_ints = [60, 3]>() {AXIS_1} fixed = Reshape(X, shape) margin = ReduceSum(fixed, axis1)",
        D,
    ),
    "not finite": games.graph(f"{AXIS_1} root = Sqrt(X) margin = ReduceSum(root, axis1)", D),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_models_that_cannot_be_explained_are_refused_with_the_reason(reason):
    """At compile time, before anything is written."""
    with pytest.raises(PackageError, match=reason):
        load_served(REFUSED[reason], ROWS)


def renamed(model, old, new):
    """`model` with one input or output under another name."""
    proto = load_from_string(model)
    for value in (*proto.graph.input, *proto.graph.output):
        value.name = new if value.name == old else value.name
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    return proto.SerializeToString()


@pytest.mark.parametrize("name", ["X", "margin"])
def test_a_model_without_the_contracts_names_is_refused(name):
    """X in, margin out."""
    model, _ = games.additive(D)
    with pytest.raises(PackageError, match="an input X and an output margin"):
        load_served(renamed(model, name, "other"), ROWS)


def test_an_old_operator_set_is_refused():
    """Reduction axes became inputs in 13."""
    proto = load_from_string(games.additive(D)[0])
    proto.opset_import[0].version = 12
    with pytest.raises(PackageError, match="operator set 12; explaining needs 13"):
        load_served(proto.SerializeToString(), ROWS)


def test_a_margin_of_whole_numbers_is_refused():
    """A step has no attributions."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["X"], ["margin"], to=TensorProto.INT64)],
        "whole",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", D])],
        [helper.make_tensor_value_info("margin", TensorProto.INT64, ["n", D])],
    )
    with pytest.raises(PackageError, match="margin must be float32"):
        load_served(helper.make_model(graph, ir_version=9).SerializeToString(), ROWS)


def test_a_classifiers_label_is_refused():
    """It comes after ArgMax, inside the node."""
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["X"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        nodes_treeids=[0],
        nodes_nodeids=[0],
        nodes_featureids=[0],
        nodes_modes=["LEAF"],
        nodes_values=[0.0],
        nodes_truenodeids=[0],
        nodes_falsenodeids=[0],
        class_treeids=[0],
        class_nodeids=[0],
        class_ids=[0],
        class_weights=[1.0],
        classlabels_int64s=[0, 1],
    )
    graph = helper.make_graph(
        [node, helper.make_node("Cast", ["label"], ["margin"], to=TensorProto.FLOAT)],
        "label",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", D])],
        [helper.make_tensor_value_info("margin", TensorProto.FLOAT, ["n"])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    checker.check_model(model)
    with pytest.raises(PackageError, match="a classifier's label"):
        load_served(model.SerializeToString(), ROWS)


def test_more_features_than_a_plan_serves_are_refused_unless_a_closed_form_explains_them():
    """70 features: a product is refused, a sum is explained."""
    X = np.random.default_rng(0).normal(size=(60, 70)).astype(np.float32)
    features = [Feature(name=f"x{i}", kind="numeric") for i in range(70)]
    rows = {"population": X, "held_out": X, "seed": 1}
    with pytest.raises(PackageError, match="8 to 64 players, not 70"):
        compile_explainer(games.unanimity(70, 5)[0], features, **rows)
    assert compile_explainer(games.additive(70)[0], features, **rows).algorithm == "linear"


def test_an_estimate_beyond_the_tolerance_is_doubled_then_refused():
    """The parity of twelve flags has no good estimate; the message has the figures."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2, size=(200, 12)).astype(np.float32)
    features = [Feature(name=f"x{i}", kind="binary") for i in range(12)]
    body = f"""two = Constant<value_float = 2.0>() one = Constant<value_float = 1.0>() {AXIS_1}
    twice = Mul(X, two) sign = Sub(twice, one)
    margin = ReduceProd<keepdims = 1>(sign, axis1)"""
    with pytest.raises(PackageError, match=r"off by \d+\.\d% .* model rows each; at most 5\.0% is allowed"):
        compile_explainer(games.graph(body, 12), features, population=X, held_out=X, seed=1)
