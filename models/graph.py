"""Brings trained models to the one form of ONNX graph that the service runs, and runs it.

The form: input `X` float32 `[n, d]`; outputs `margin` `[n, 1]` of the positive class and `probability` `[n, 2]`. A
graph is rebuilt from the parts it needs, so nothing that an exporter adds (source lines, stack traces, paths) remains.
"""

import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from models.task import FloatMatrix

if TYPE_CHECKING:
    import torch

OPSET = 20
ML_OPSET = 3
IR_VERSION = 9


def graph_from_torch(network: "torch.nn.Module", n_features: int) -> ModelProto:
    """Export `network`, which maps float32 `X` `[n, d]` to the margin `[n, 1]`; scaling is part of the network."""
    import torch

    # The exporter reports each optional package that it misses; none is wanted here.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(),
            (torch.zeros(4, n_features),),
            dynamo=True,
            input_names=["X"],
            output_names=["margin"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    return _rebuild(program.model_proto, n_features)


def graph_from_trees(classifier: Any, n_features: int) -> ModelProto:
    """Convert a fitted binary HistGradientBoostingClassifier; the margin is a TreeEnsembleRegressor's output.

    skl2onnx makes a TreeEnsembleClassifier whose binary scores ONNX Runtime rearranges by special cases. As a regressor
    the same trees add up to the margin and nothing else, which an explainer can read off the node's attributes.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    with warnings.catch_warnings():
        # skl2onnx 1.20 hands booleans to protobuf, which will refuse them from 7.34 on.
        warnings.simplefilter("ignore", DeprecationWarning)
        converted = convert_sklearn(
            classifier,
            initial_types=[("X", FloatTensorType([None, n_features]))],
            options={id(classifier): {"zipmap": False, "raw_scores": True}},
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
        )
    (trees,) = (node for node in converted.graph.node if node.op_type.startswith("TreeEnsemble"))
    return _finish([sum_of_trees(trees, "X", "margin", targets=1)], [], n_features)


def sum_of_trees(trees: NodeProto, source: str, target: str, *, targets: int) -> NodeProto:
    """A TreeEnsembleClassifier as the TreeEnsembleRegressor `source` -> `target` `[n, targets]` of its leaves' sums.

    With one target, all leaves count towards it whatever their class.
    """
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in trees.attribute}
    kept = {name: value for name, value in attributes.items() if name.startswith(("nodes_", "base_values"))}
    # Hit rates are the converter's placeholders, all 1.
    kept.pop("nodes_hitrates", None)
    leaves = {
        name.replace("class_", "target_", 1): value for name, value in attributes.items() if name.startswith("class_")
    }
    if targets == 1:
        leaves["target_ids"] = [0] * len(attributes["class_ids"])
    return helper.make_node(
        "TreeEnsembleRegressor",
        [source],
        [target],
        domain="ai.onnx.ml",
        n_targets=targets,
        aggregate_function="SUM",
        post_transform="NONE",
        **kept,
        **leaves,
    )


def _rebuild(model: ModelProto, n_features: int) -> ModelProto:
    """The same computation from nodes and constants alone, with the link appended."""
    nodes = [
        helper.make_node(
            node.op_type,
            list(node.input),
            list(node.output),
            domain=node.domain,
            **{attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute},
        )
        for node in model.graph.node
    ]
    constants = [
        numpy_helper.from_array(numpy_helper.to_array(constant), constant.name) for constant in model.graph.initializer
    ]
    return _finish(nodes, constants, n_features)


def _finish(nodes: list[NodeProto], constants: list[TensorProto], n_features: int) -> ModelProto:
    # Sigmoid of both signs: 1 - sigmoid(margin) would lose the smaller probability to rounding.
    link = [
        helper.make_node("Neg", ["margin"], ["negative_margin"]),
        helper.make_node("Concat", ["negative_margin", "margin"], ["both_margins"], axis=1),
        helper.make_node("Sigmoid", ["both_margins"], ["probability"]),
    ]
    graph = helper.make_graph(
        [*nodes, *link],
        "plumbline",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", n_features])],
        [
            helper.make_tensor_value_info("margin", TensorProto.FLOAT, ["n", 1]),
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 2]),
        ],
        constants,
    )
    domains = {node.domain for node in nodes} | {""}
    opsets = [helper.make_opsetid(domain, ML_OPSET if domain else OPSET) for domain in sorted(domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="plumbline")
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: bytes, X: FloatMatrix) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Margin `(n, 1)` and probability `(n, 2)` of `X` `(n, d)`, by ONNX Runtime on one CPU thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    margin, probability = session.run(["margin", "probability"], {"X": np.ascontiguousarray(X, np.float32)})
    return margin, probability
