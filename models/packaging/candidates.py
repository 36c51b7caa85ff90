"""Tensors that may hold a model's margin, proposed by the operators of its graph.

A classifier that applies a `post_transform` is proposed as the plain operator behind it: trees as a
TreeEnsembleRegressor, a linear classifier as a Gemm. An explainer can read either off its attributes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from models.graph import sum_of_trees

ACTIVATIONS = ("Sigmoid", "Softmax", "Exp")
REGRESSORS = ("TreeEnsembleRegressor", "LinearRegressor", "TreeEnsemble")


@dataclass(frozen=True)
class Candidate:
    """A tensor `[n]` or `[n, k]`; `nodes` and `constants` compute it where the graph does not.

    `averages` says that trees add up to it, so that it may be a probability in itself (a random forest).
    """

    tensor: str
    found: str
    nodes: tuple[NodeProto, ...] = ()
    constants: tuple[TensorProto, ...] = ()
    averages: bool = False


def candidates(proto: ModelProto) -> Iterator[Candidate]:
    """Candidates of `proto`, the ones nearest to the outputs first."""
    types = _element_types(proto)
    for number, node in reversed(list(enumerate(proto.graph.node))):
        name = f"raw{number}"
        if node.op_type in ACTIVATIONS:
            yield Candidate(node.input[0], f"what enters the {node.op_type}")
        elif node.op_type == "TreeEnsembleClassifier":
            yield _trees(node, name)
        elif node.op_type == "LinearClassifier":
            yield _linear(node, name, is_float=types.get(node.input[0]) == TensorProto.FLOAT)
        elif node.op_type in REGRESSORS:
            yield _regressor(node, name)


def _element_types(proto: ModelProto) -> dict[str, int]:
    graph = shape_inference.infer_shapes(proto).graph
    return {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.input]}


def _trees(node: NodeProto, name: str) -> Candidate:
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    classes = len(_labels(attributes))
    # One class id throughout: a binary model whose trees speak of the second class alone.
    targets = 1 if classes == 2 and len(set(attributes["class_ids"])) == 1 else classes
    made = sum_of_trees(node, node.input[0], name, targets=targets)
    return Candidate(name, "the sum of the trees", (made,), averages=True)


def _linear(node: NodeProto, name: str, *, is_float: bool) -> Candidate:
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    rows = max(1, len(attributes.get("intercepts", ())) or len(_labels(attributes)))
    weights = np.array(attributes["coefficients"], np.float32).reshape(rows, -1)  # (rows, d)
    bias = np.array(attributes.get("intercepts", [0.0] * rows), np.float32)
    if rows == 2 and (weights[0] == -weights[1]).all() and bias[0] == -bias[1]:
        weights, bias = weights[1:], bias[1:]
    constants = (
        numpy_helper.from_array(np.ascontiguousarray(weights.T), f"{name}_weights"),
        numpy_helper.from_array(bias, f"{name}_bias"),
    )
    numbers = node.input[0] if is_float else f"{name}_input"
    cast = () if is_float else (helper.make_node("Cast", [node.input[0]], [numbers], to=TensorProto.FLOAT),)
    product = helper.make_node("Gemm", [numbers, f"{name}_weights", f"{name}_bias"], [name])
    return Candidate(name, "the linear classifier's sum", (*cast, product), constants)


def _labels(attributes: dict[str, list[object]]) -> list[object]:
    return next((values for name, values in attributes.items() if name.startswith("classlabels_")), [])


def _regressor(node: NodeProto, name: str) -> Candidate:
    trees = node.op_type.startswith("Tree")
    found = "the sum of the trees" if trees else "the linear model's sum"
    (transform,) = [one for one in node.attribute if one.name == "post_transform"] or [None]
    if transform is None or helper.get_attribute_value(transform) in (b"NONE", 0):
        return Candidate(node.output[0], found, averages=trees)
    plain = NodeProto()
    plain.CopyFrom(node)
    plain.output[0] = name
    for attribute in plain.attribute:
        if attribute.name == "post_transform":
            attribute.CopyFrom(helper.make_attribute("post_transform", 0 if node.op_type == "TreeEnsemble" else "NONE"))
    return Candidate(name, found, (plain,))
