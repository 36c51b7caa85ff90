"""The served model as the compiler sees it: the part of its graph that computes `margin`, and a session to ask it.

Refuses what has no explanation in this form, saying why. Batch invariance is tested on real rows, not trusted.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from models.task import FloatMatrix, Floats
from service.errors import PackageError

MIN_OPSET = 13
RANDOM_OPS = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
STEP_OPS = {"ArgMax", "ArgMin", "Hardmax"}
CONSTANT_FORMS = {
    "value": None,
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
# The tolerance of the packages' own gate; what crosses rows differs by far more.
INVARIANCE_TOLERANCE = 1e-5
CHUNK_ROWS = 65_536


@dataclass(frozen=True)
class Served:
    """The nodes that lead to `margin`, in order, with their constants by name; everything else is left out."""

    model: ModelProto
    nodes: list[NodeProto]
    constants: dict[str, TensorProto]
    session: onnxruntime.InferenceSession
    n_features: int
    n_outputs: int

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return next(int(opset.version) for opset in self.model.opset_import if opset.domain in ("", "ai.onnx"))

    def array(self, name: str) -> Floats | None:
        """The constant `name` in float64, or None if it is no constant of numbers."""
        if name not in self.constants:
            return None
        array = numpy_helper.to_array(self.constants[name])
        return array.astype(np.float64) if array.dtype.kind in "fiu" else None

    def leading_to(self, name: str) -> list[NodeProto]:
        """The nodes that the value `name` depends on, in order."""
        needed, kept = {name}, []
        for node in reversed(self.nodes):
            if not needed.isdisjoint(node.output):
                kept.append(node)
                needed.update(subgraph_inputs(node))
        return kept[::-1]

    def margin(self, X: FloatMatrix) -> Floats:
        """Margins `(n, C)` of `X` `(n, d)`, in float64 as ONNX Runtime gives them in float32 on one thread."""
        chunks = [
            self.session.run(["margin"], {"X": np.ascontiguousarray(X[i : i + CHUNK_ROWS], np.float32)})[0]
            for i in range(0, len(X), CHUNK_ROWS)
        ]
        return np.concatenate(chunks).astype(np.float64)


def load_served(model: bytes, rows: FloatMatrix) -> Served:
    """Read the model and test it on `rows` `(n, d)`.

    Raises PackageError for a fixed batch axis, an operator set before 13, random operators, a margin that is a step
    function (ArgMax) or not float, and rows that influence each other.
    """
    proto = onnx.load_from_string(model)
    inputs, outputs = {i.name: i for i in proto.graph.input}, {o.name: o for o in proto.graph.output}
    if "X" not in inputs or "margin" not in outputs:
        raise PackageError("the model needs an input X and an output margin to be explained")
    batch, columns = _axes(inputs["X"])
    if batch:
        raise PackageError(f"the model takes exactly {batch} rows; explaining needs a free batch axis")
    if columns != rows.shape[1]:
        raise PackageError(f"the model takes {columns} features, the rows have {rows.shape[1]}")
    if outputs["margin"].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise PackageError("margin must be float32 to be explained")
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes = _leading_to_margin(proto, constants)
    served = Served(proto, nodes, constants, run_single_threaded(model), rows.shape[1], 0)
    if served.opset < MIN_OPSET:
        raise PackageError(f"the model uses operator set {served.opset}; explaining needs {MIN_OPSET} or later")
    _refuse_operators(nodes)
    _refuse_cross_row(served, rows)
    n_outputs = served.margin(rows[:1]).shape[1]
    return Served(proto, nodes, constants, served.session, served.n_features, n_outputs)


def run_single_threaded(model: bytes) -> onnxruntime.InferenceSession:
    """A CPU session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def subgraph_inputs(node: NodeProto) -> list[str]:
    """Names that the node reads, those that its subgraphs capture included."""
    names = list(node.input)
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            inner = {name for inner_node in attribute.g.node for name in subgraph_inputs(inner_node)}
            names += sorted(inner)
    return names


def _axes(value: onnx.ValueInfoProto) -> tuple[int, int]:
    dims = value.type.tensor_type.shape.dim
    if len(dims) != 2:
        raise PackageError("X must be a matrix [n, d]")
    return dims[0].dim_value, dims[1].dim_value


def _leading_to_margin(proto: ModelProto, constants: dict[str, TensorProto]) -> list[NodeProto]:
    """The nodes that `margin` depends on, in order; Constant nodes become constants."""
    needed, kept = {"margin"}, []
    for node in reversed(proto.graph.node):
        if needed.isdisjoint(node.output):
            continue
        if node.op_type == "Constant" and node.attribute[0].name in CONSTANT_FORMS:
            constants[node.output[0]] = _constant(node.attribute[0])
            continue
        if node.op_type == "TreeEnsembleClassifier" and node.output[0] in needed:
            raise PackageError("margin comes after ArgMax (a classifier's label): a step has no attributions")
        kept.append(node)
        needed.update(subgraph_inputs(node))
    if "X" not in needed:
        raise PackageError("margin does not depend on X")
    return kept[::-1]


def _constant(attribute: AttributeProto) -> TensorProto:
    value, dtype = helper.get_attribute_value(attribute), CONSTANT_FORMS[attribute.name]
    return value if dtype is None else numpy_helper.from_array(np.array(value, dtype))


def _refuse_operators(nodes: list[NodeProto]) -> None:
    for node in nodes:
        if node.op_type in RANDOM_OPS:
            raise PackageError(f"margin depends on the random operator {node.op_type}")
        if node.op_type in STEP_OPS:
            raise PackageError(f"margin comes after {node.op_type}: a step has no attributions")


def _refuse_cross_row(served: Served, rows: FloatMatrix) -> None:
    """f(concat(A, B)) = concat(f(A), f(B)), f(permuted) = permuted f, and f twice the same, within 1e-5."""
    rows = rows[:33]
    cut = len(rows) // 3
    order = np.random.default_rng(0).permutation(len(rows))
    try:
        together = served.margin(rows)
        parts = (rows[:cut], rows[cut : cut + 1], rows[cut + 1 :])
        pieces = np.concatenate([served.margin(part) for part in parts])
        permuted = served.margin(rows[order])
        again = served.margin(rows)
    except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
        raise PackageError(f"the model does not take batches of every size: {error}") from error
    if together.ndim != 2 or len(together) != len(rows):
        raise PackageError("margin must be a matrix with a row per instance")
    scale = INVARIANCE_TOLERANCE * np.maximum(1, np.abs(together))
    if not np.all(np.abs(together - again) <= scale):
        raise PackageError("margin differs between two runs on the same rows, or is not finite")
    if not (np.all(np.abs(together - pieces) <= scale) and np.all(np.abs(together[order] - permuted) <= scale[order])):
        raise PackageError("margin of a row depends on the other rows of its batch")
