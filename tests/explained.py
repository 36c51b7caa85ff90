"""Packages with explainers that a person can check: the toy's margin is linear, its values weight * (x - mean)."""

import numpy as np
import toy
from onnx import TensorProto, checker, helper

WEIGHTS = [0.5, 0.25, 2.0, 1.0, 2.0]
MEAN = [10.0, 12.0, 0.5, 1.0, 0.0]
DIGEST = "sha256:" + "a" * 64


def linear_explainer(*, base_error: float = 0.0, error_std: float = 0.0) -> bytes:
    """An explainer of the toy; `base_error` breaks local accuracy, `error_std` claims a sampling error."""
    nodes = [
        helper.make_node("IsNaN", ["X"], ["missing"]),
        helper.make_node("Where", ["missing", "two", "X"], ["filled"]),
        helper.make_node("MatMul", ["filled", "column"], ["sum"]),
        helper.make_node("Add", ["sum", "bias"], ["fx"]),
        helper.make_node("Sub", ["filled", "mean"], ["difference"]),
        helper.make_node("Mul", ["difference", "weights"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "last"], ["values"]),
        helper.make_node("Identity", ["base"], ["base_values"]),
        helper.make_node("Mul", ["values", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "error"], ["error_std"]),
    ]
    base = float(np.dot(WEIGHTS, MEAN)) - 4.0 + base_error
    graph = helper.make_graph(
        nodes,
        "explainer",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", 5])],
        [
            helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n", 5, 1]),
            helper.make_tensor_value_info("base_values", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("error_std", TensorProto.FLOAT, ["n", 5, 1]),
            helper.make_tensor_value_info("fx", TensorProto.FLOAT, ["n", 1]),
        ],
        [
            toy.constant("two", 2.0),
            toy.constant("column", [[weight] for weight in WEIGHTS]),
            toy.constant("weights", WEIGHTS),
            toy.constant("mean", MEAN),
            toy.constant("bias", [-4.0]),
            toy.constant("base", [base]),
            toy.constant("last", [2], np.int64),
            toy.constant("zero", 0.0),
            toy.constant("error", error_std),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", toy.OPSET)], ir_version=toy.IR_VERSION)
    checker.check_model(made)
    return made.SerializeToString()


def add_explainer(folder, explainer: bytes, doubled: bytes | None = None, *, algorithm: str = "linear") -> None:
    """Put explainers into the package `folder` and describe them in its manifest."""
    info = {"algorithm": algorithm, "plan_id": DIGEST, "n_evals": 100, "background_rows": 50, "background_id": DIGEST}
    (folder / "explainer.onnx").write_bytes(explainer)
    if doubled is not None:
        (folder / "explainer-doubled.onnx").write_bytes(doubled)
        info["doubled"] = {"plan_id": "sha256:" + "b" * 64, "n_evals": 200}
    toy.seal(folder, explainer=info)
