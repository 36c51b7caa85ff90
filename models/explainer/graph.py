"""ONNX surgery: builds `explainer.onnx` around the served graph, from `X` to values, base values, error_std and fx.

Knows operators and names; which coalitions are asked and how answers are weighed comes from `plan` and `exact`. The
model stands in the graph twice: once on `X` itself, once on the masked rows. What depends on constants only is left to
ONNX Runtime to fold when it loads the graph, so that the file stays small.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from models.explainer.served import Served
from models.task import Floats

OUTPUTS = ("values", "base_values", "error_std", "fx")
IR_VERSION = 9


class Builder:
    """Nodes and constants of one graph, in order, with names made up as they are needed."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def constant(self, value: ArrayLike) -> str:
        """A new constant; float64 is stored as float32, the type of all graphs here."""
        name, array = f"c{len(self.constants)}", np.asarray(value)
        stored = array.astype(np.float32) if array.dtype == np.float64 else array
        self.constants[name] = numpy_helper.from_array(np.asarray(stored, order="C"), name)
        return name

    def axes(self, *axes: int) -> str:
        """A constant list of axes or extents."""
        return self.constant(np.array(axes, np.int64))

    def axis(self, position: int) -> str:
        """A constant position, without an axis of its own."""
        return self.constant(np.array(position, np.int64))

    def op(self, op_type: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """A node with one output, whose name is returned."""
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    def inline(self, nodes: Sequence[NodeProto], bound: Mapping[str, str], prefix: str) -> dict[str, str]:
        """Copy `nodes` of the served graph with the values of `bound` in place of their own; where each name went."""
        names = dict(bound)
        for node in nodes:
            for name in node.output:
                if name:
                    names.setdefault(name, f"{prefix}/{name}")
        for node in nodes:
            self.nodes.append(_renamed(node, names, self._use_constant))
        return names

    def margin(self, X: str, prefix: str) -> str:
        """The served margin `[rows, C]` of the matrix named `X`."""
        return self.inline(self.served.nodes, {"X": X}, prefix)["margin"]

    def reshape(self, value: str, *shape: int) -> str:
        """`value` in another shape; one extent may be -1, and 0 keeps the extent at its place."""
        return self.op("Reshape", value, self.axes(*shape))

    def sum(self, value: str, axis: int) -> str:
        """The sum over one axis, which disappears."""
        return self.op("ReduceSum", value, self.axes(axis), keepdims=0)

    def _use_constant(self, name: str) -> str:
        if name not in self.served.constants:
            return name
        stored = f"model/{name}"
        if stored not in self.constants:
            array = numpy_helper.to_array(self.served.constants[name])
            self.constants[stored] = numpy_helper.from_array(array, stored)
        return stored

    def finish(self, facts: Mapping[str, str]) -> ModelProto:
        """The checked model; `facts` become its metadata. Expects tensors named as the contract names its outputs."""
        d, c = self.served.n_features, self.served.n_outputs
        shapes: dict[str, list[str | int]] = {
            "values": ["n", d, c],
            "base_values": [c],
            "error_std": ["n", d, c],
            "fx": ["n", c],
        }
        graph = helper.make_graph(
            self.nodes,
            "explainer",
            [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", d])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in OUTPUTS],
            list(self.constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(o.domain, o.version) for o in self.served.model.opset_import],
            ir_version=max(IR_VERSION, self.served.model.ir_version),
            producer_name="plumbline",
            functions=list(self.served.model.functions),
        )
        helper.set_model_props(model, dict(facts))
        onnx.checker.check_model(model, full_check=True)
        return model


def add_fx(build: Builder, base_values: Floats) -> str:
    """Outputs `fx` `[n, C]` and `base_values` `[C]`; returns their difference, the gain `[n, C]` to be shared out."""
    margin = build.margin("X", "x")
    build.op("Identity", margin, output="fx")
    base = build.constant(base_values)
    build.op("Identity", base, output="base_values")
    return build.op("Sub", "fx", base)


def add_no_error(build: Builder) -> None:
    """Output `error_std`: zeros, for what is exact."""
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    build.op("ConstantOfShape", build.op("Shape", "values"), output="error_std", value=zero)


def add_equal_share(build: Builder, gain: str, uneven: str) -> None:
    """Output `values` `[n, d, C]`: `uneven` `[n, C, d]`, which sums to 0, plus the gain `[n, C]` in d equal shares."""
    share = build.op("Mul", gain, build.constant(1 / build.served.n_features))
    by_output = build.op("Add", uneven, build.op("Unsqueeze", share, build.axes(2)))
    build.op("Transpose", by_output, perm=[0, 2, 1], output="values")


def _renamed(node: NodeProto, names: Mapping[str, str], constant_name: Callable[[str], str]) -> NodeProto:
    """A copy of `node` without documentation strings or metadata, every value by its new name."""
    copy = NodeProto(op_type=node.op_type, domain=node.domain)
    copy.input.extend(names.get(name) or constant_name(name) for name in node.input)
    copy.output.extend(names.get(name, name) for name in node.output)
    for attribute in node.attribute:
        kept = copy.attribute.add()
        kept.CopyFrom(attribute)
        if attribute.type == AttributeProto.GRAPH:
            own = {name for inner in attribute.g.node for name in inner.output}
            own |= {value.name for value in (*attribute.g.initializer, *attribute.g.input)}
            # A subgraph's own values keep their names and hide outer ones of the same name.
            visible = {**names, **{name: name for name in own}}
            del kept.g.node[:]
            kept.g.node.extend(_renamed(inner, visible, constant_name) for inner in attribute.g.node)
    return copy
