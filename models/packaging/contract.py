"""Writes the graph anew in the form of the contract: `X` -> `margin`, `probability`, and nothing beside them.

Only nodes that lead to the two outputs are kept, without the names, paths and comments that exporters leave.
"""

from collections.abc import Sequence
from dataclasses import replace

import onnx
import onnx.version_converter
from onnx import GraphProto, ModelProto, TensorProto, helper

from models.graph import IR_VERSION, OPSET
from models.packaging.given import Given
from models.packaging.inputs import fold_inputs
from models.packaging.link import link_constants, link_nodes
from models.packaging.margin import Recipe
from models.packaging.rewriting import cleaned, cleaned_constant, needed, reads, without_copies
from service.errors import PackageError
from service.manifest import Feature

PREFIX = "given/"
OUTPUTS = ("margin", "probability")
# The operators of an explainer, which holds the model inside, need this opset.
OLDEST_EXPLAINED = 13


def bring_to_contract(
    given: Given, names: Sequence[str], features: Sequence[Feature], recipe: Recipe, *, classes: int, positive: int
) -> ModelProto:
    """The graph of the package. `names` are the features in the order of the given inputs, `features` those of `X`.

    `classes` is their number K; in a binary model the margin is that of column `positive` of the probability.
    """
    made = recipe.candidate
    nodes = [cleaned(node, PREFIX) for node in [*given.proto.graph.node, *(made.nodes if made else ())]]
    constants = [
        cleaned_constant(tensor, PREFIX + tensor.name)
        for tensor in [*given.proto.graph.initializer, *(made.constants if made else ())]
    ]
    inputs = [replace(one, name=PREFIX + one.name) for one in given.inputs]
    folded, looked_up = fold_inputs(inputs, names, features)
    ending = link_nodes(recipe, PREFIX, classes=classes, positive=positive)
    same = {} if folded else {inputs[0].name: "X"}
    kept = needed(without_copies([*folded, *nodes, *ending], OUTPUTS, same), OUTPUTS)
    used = {name for node in kept for name in reads(node)}
    graph = helper.make_graph(
        kept,
        "plumbline",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", len(features)])],
        [
            helper.make_tensor_value_info("margin", TensorProto.FLOAT, ["n", 1 if classes == 2 else classes]),
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", classes]),
        ],
        [tensor for tensor in [*constants, *looked_up, *link_constants()] if tensor.name in used],
    )
    return _as_model(graph, given.proto)


def _as_model(graph: GraphProto, given: ModelProto) -> ModelProto:
    versions = {"" if opset.domain == "ai.onnx" else opset.domain: opset.version for opset in given.opset_import}
    domains = {node.domain for node in graph.node} | {""}
    opsets = [helper.make_opsetid(domain, versions.get(domain, OPSET)) for domain in sorted(domains)]
    ir_version = max(given.ir_version, IR_VERSION)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="plumbline")
    if versions.get("", OPSET) < OLDEST_EXPLAINED:
        model = _raised(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise PackageError(f"--onnx: the graph is not valid ONNX, although it runs: {error}") from error
    return model


def _raised(model: ModelProto) -> ModelProto:
    """The model in a current opset if onnx can convert it, else as it is: it serves, only an explainer cannot read it.

    The converter leaves inner graphs alone, so models with such stay as they are.
    """
    if any(attribute.HasField("g") or attribute.graphs for node in model.graph.node for attribute in node.attribute):
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, onnx.version_converter.ConvertError):
        return model
