"""ONNX graphs of a few nodes, each with something about it that packaging must recognise or refuse."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
# On the four numbers of the credit rows: age, income, debt, member.
WEIGHTS = np.array([[0.05], [0.1], [-0.25], [1.0]], np.float32)
BIAS = np.array([-1.0], np.float32)


def graph(nodes, outputs, *, inputs=None, constants=(), opset=18, domains=()):
    """A model from `nodes`; `outputs` maps names to (type, shape), `inputs` likewise, by default `rows` [n, 4]."""
    made = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info(name, *kind) for name, kind in (inputs or {"rows": (FLOAT, ["n", 4])}).items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in {"W": WEIGHTS, "b": BIAS}.items()]
        + [numpy_helper.from_array(value, name) for name, value in dict(constants).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


LINEAR = helper.make_node("Gemm", ["rows", "W", "b"], ["z"])
SCORE = {"score": (FLOAT, ["n", 1])}


def single(op, **attributes):
    """rows -> linear -> op -> score [n, 1]."""
    return graph([LINEAR, helper.make_node(op, ["z"], ["score"], **attributes)], SCORE)


TREE = {
    "nodes_treeids": [0, 0, 0],
    "nodes_nodeids": [0, 1, 2],
    "nodes_featureids": [0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_values": [45.0, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0],
    "target_treeids": [0, 0],
    "target_nodeids": [1, 2],
    "target_ids": [0, 0],
}


def stump(low, high, transform="NONE"):
    """A tree of one question: `low` up to age 45, `high` above; as older converters write it."""
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["rows"],
        ["score"],
        domain="ai.onnx.ml",
        n_targets=1,
        target_weights=[low, high],
        post_transform=transform,
        **TREE,
    )
    return graph([node], SCORE, domains=["ai.onnx.ml"])


def new_stump(low, high, transform):
    """The same as the newer operator TreeEnsemble; `transform` 0 is none, 2 is LOGISTIC."""

    def tensor(kind, values):
        return helper.make_tensor("", kind, [len(values)], values)

    node = helper.make_node(
        "TreeEnsemble",
        ["rows"],
        ["score"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function=1,
        post_transform=transform,
        tree_roots=[0],
        nodes_featureids=[0],
        nodes_modes=tensor(TensorProto.UINT8, [0]),
        nodes_splits=tensor(FLOAT, [45.0]),
        nodes_truenodeids=[0],
        nodes_trueleafs=[1],
        nodes_falsenodeids=[1],
        nodes_falseleafs=[1],
        leaf_targetids=[0, 0],
        leaf_weights=tensor(FLOAT, [low, high]),
    )
    made = graph([node], SCORE, domains=["ai.onnx.ml"])
    made.opset_import[1].version = 5
    return made


def squashed():
    """A probability without a margin behind it: clip(z / 20 + 0.5, 0, 1)."""
    nodes = [
        LINEAR,
        helper.make_node("Div", ["z", "twenty"], ["small"]),
        helper.make_node("Add", ["small", "half"], ["moved"]),
        helper.make_node("Clip", ["moved", "zero", "one"], ["score"]),
    ]
    numbers = {"twenty": 20.0, "half": 0.5, "zero": 0.0, "one": 1.0}
    return graph(nodes, SCORE, constants={name: np.array(value, np.float32) for name, value in numbers.items()})


def centred():
    """A margin that depends on the batch: z minus its mean over the rows."""
    nodes = [
        LINEAR,
        helper.make_node("ReduceMean", ["z", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["z", "mean"], ["score"]),
    ]
    return graph(nodes, SCORE, constants={"axes": np.array([0], np.int64)})


def built_for(rows):
    """A batch size inside: the linear score, reshaped to exactly `rows` rows."""
    nodes = [LINEAR, helper.make_node("Reshape", ["z", "shape"], ["score"])]
    return graph(nodes, SCORE, constants={"shape": np.array([rows, 1], np.int64)})
