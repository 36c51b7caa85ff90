"""Follows a served graph symbolically: which values are affine in `X` and in the outputs of tree ensembles.

A value `[n, m]` is the sum over its sources of source `[n, k]` @ terms[source] `[k, m]`, plus constant `[m]`, in
float64. A source is `X` or the raw scores of a TreeEnsemble node. What no rule covers is simply not traced.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from models.explainer.served import Served
from models.task import Floats

TREE_OPS = {"TreeEnsembleRegressor", "TreeEnsembleClassifier"}


@dataclass(frozen=True)
class Affine:
    """sum over sources of source @ terms[source] + constant."""

    terms: dict[str, Floats]
    constant: Floats

    def map(self, change: Callable[[Floats], Floats], offset: Floats | float = 0.0) -> "Affine":
        """The value after `change`, a linear map of its last axis, plus `offset`."""
        terms = {source: change(matrix) for source, matrix in self.terms.items()}
        return Affine(terms, change(self.constant) + offset)


def trace(served: Served) -> dict[str, Affine]:
    """Every value of the graph that is affine in the sources, by name."""
    d = served.n_features
    found = {"X": Affine({"X": np.eye(d)}, np.zeros(d))}
    for node in served.nodes:
        if node.op_type in TREE_OPS:
            output, width = _scores(node)
            if output:
                found[output] = Affine({output: np.eye(width)}, np.zeros(width))
            continue
        value = _apply(node, found, served)
        if value is not None:
            found[node.output[0]] = value
    return found


def attributes(node: NodeProto) -> dict[str, Any]:
    """The node's attributes by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _scores(node: NodeProto) -> tuple[str, int]:
    """Name and width of the raw scores of a tree node; no name where a link has been applied."""
    options = attributes(node)
    if options.get("post_transform", b"NONE") != b"NONE":
        return "", 0
    if node.op_type == "TreeEnsembleRegressor":
        return node.output[0], options.get("n_targets", 1)
    labels = options.get("classlabels_int64s") or options.get("classlabels_strings") or ()
    return (node.output[1], len(labels)) if len(node.output) > 1 else ("", 0)


def _apply(node: NodeProto, found: dict[str, Affine], served: Served) -> Affine | None:
    operands = [found.get(name) for name in node.input if name]
    constants = [served.array(name) for name in node.input if name]
    match node.op_type:
        case "Identity":
            return operands[0]
        case "Cast":
            return operands[0] if attributes(node)["to"] == TensorProto.FLOAT else None
        case "Neg" if operands[0] is not None:
            return operands[0].map(np.negative)
        case "Add" | "Sub" | "Sum":
            return _combine(operands, constants, -1 if node.op_type == "Sub" else 1)
        case "Mul" | "Div":
            return _scale(operands, constants, divide=node.op_type == "Div")
        case "MatMul" | "Gemm":
            return _product(node, operands, constants)
        case "Concat":
            return _concatenate(node, operands)
        case "Gather" | "ArrayFeatureExtractor":
            return _columns(node, operands[0], constants[1])
        case "Reshape" if operands[0] is not None and constants[1] is not None:
            return operands[0] if list(constants[1]) == [-1, len(operands[0].constant)] else None
        case "Scaler" | "LinearRegressor":
            return _learned(node, operands[0])
    return None


def _row(constant: Floats | None, width: int) -> Floats | None:
    """A constant operand as one row `(width,)`, if it is the same for every instance."""
    if constant is None or constant.size not in (1, width) or constant.shape[-1:] not in ((), (1,), (width,)):
        return None
    return np.broadcast_to(constant.reshape(-1), (width,))


def _combine(operands: list[Affine | None], constants: list[Floats | None], sign: int) -> Affine | None:
    widths = {len(operand.constant) for operand in operands if operand is not None}
    if len(widths) != 1:
        return None
    width = widths.pop()
    terms: dict[str, Floats] = {}
    total = np.zeros(width)
    for position, (operand, constant) in enumerate(zip(operands, constants, strict=True)):
        factor = sign if position else 1
        row = operand.constant if operand is not None else _row(constant, width)
        if row is None:
            return None
        total = total + factor * row
        for source, matrix in (operand.terms if operand is not None else {}).items():
            terms[source] = terms.get(source, 0.0) + factor * matrix
    return Affine(terms, total)


def _scale(operands: list[Affine | None], constants: list[Floats | None], *, divide: bool) -> Affine | None:
    if operands[0] is None:
        if divide:
            return None
        operands, constants = operands[::-1], constants[::-1]
    value = operands[0]
    factor = _row(constants[1], len(value.constant)) if value is not None else None
    if value is None or factor is None or (divide and not factor.all()):
        return None
    return value.map(lambda array: array / factor if divide else array * factor)


def _product(node: NodeProto, operands: list[Affine | None], constants: list[Floats | None]) -> Affine | None:
    options, value, weight = attributes(node), operands[0], constants[1]
    if value is None or weight is None or weight.ndim != 2 or options.get("transA"):
        return None
    matrix = (weight.T if options.get("transB") else weight) * options.get("alpha", 1.0)
    bias = _row(constants[2], matrix.shape[1]) if len(constants) > 2 else np.zeros(matrix.shape[1])
    return None if bias is None else value.map(lambda array: array @ matrix, bias * options.get("beta", 1.0))


def _concatenate(node: NodeProto, operands: list[Affine | None]) -> Affine | None:
    parts = [operand for operand in operands if operand is not None]
    if len(parts) < len(operands) or attributes(node)["axis"] not in (1, -1):
        return None
    ends = np.cumsum([0] + [len(part.constant) for part in parts])
    terms: dict[str, Floats] = {}
    for part, start, end in zip(parts, ends, ends[1:], strict=False):
        for source, matrix in part.terms.items():
            whole = terms.setdefault(source, np.zeros((len(matrix), ends[-1])))
            whole[:, start:end] = matrix
    return Affine(terms, np.concatenate([part.constant for part in parts]))


def _columns(node: NodeProto, value: Affine | None, index: Floats | None) -> Affine | None:
    if value is None or index is None or (node.op_type == "Gather" and attributes(node).get("axis", 0) not in (1, -1)):
        return None
    # A scalar index would drop the axis.
    return value.map(lambda array: array[..., index.astype(int).reshape(-1)]) if index.ndim else None


def _learned(node: NodeProto, value: Affine | None) -> Affine | None:
    options = attributes(node)
    if value is None:
        return None
    if node.op_type == "Scaler":
        offset, scale = np.array(options["offset"]), np.array(options["scale"])
        return value.map(lambda array: array * scale, -offset * scale)
    if options.get("post_transform", b"NONE") != b"NONE":
        return None
    weights = np.array(options["coefficients"]).reshape(options.get("targets", 1), -1).T
    return value.map(lambda array: array @ weights, np.array(options.get("intercepts", 0.0)))
