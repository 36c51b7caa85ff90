"""The ONNX file as it was given: loaded, refused where no rewriting could help, and run untouched.

Knows the graph's inputs and outputs and nothing of their meaning.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from models.packaging.findings import listed
from models.progress import progress
from service.errors import PackageError
from service.manifest import digest_bytes

MOST_BYTES = 2 * 2**30
OLDEST_OPSET = 7
ROWS_PER_RUN = 4096
NUMBERS: dict[int, type] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.INT64: np.int64,
    TensorProto.INT32: np.int32,
    TensorProto.BOOL: np.bool_,
}
Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Input:
    """One input of the graph: `width` features in each row (None: not said); `rank` 1 for a plain `[n]`."""

    name: str
    element: int
    rank: int
    width: int | None

    @property
    def is_text(self) -> bool:
        """Whether the graph takes strings here."""
        return self.element == TensorProto.STRING

    def array(self, columns: list[NDArray[Any]]) -> NDArray[Any]:
        """`columns`, each `(n,)`, as this input takes them: `(n,)` or `(n, width)` in its type."""
        joined: NDArray[Any] = np.stack(columns, axis=1).astype(object if self.is_text else NUMBERS[self.element])
        return joined[:, 0] if self.rank == 1 else np.ascontiguousarray(joined)


@dataclass(frozen=True)
class Given:
    """A graph that ONNX Runtime can run, with its local functions inlined and its weights inside."""

    proto: ModelProto
    digest: str  # of the file's bytes, followed by those of its weights where they lie beside it

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """The graph as given, on the CPU."""
        return open_session(self.proto)

    @property
    def producer(self) -> str:
        """Who wrote the file, as it says itself."""
        return f"{self.proto.producer_name} {self.proto.producer_version}".strip() or "unknown"

    @cached_property
    def inputs(self) -> list[Input]:
        """What a caller feeds. PackageError for a fixed batch axis and for what is not a table of values."""
        constants = {tensor.name for tensor in self.proto.graph.initializer}
        return [_input(value) for value in self.proto.graph.input if value.name not in constants]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return [value.name for value in self.proto.graph.output]

    def run(self, feeds: Feeds, label: str) -> list[NDArray[Any]]:
        """Every output for all rows, in order, `(n, ...)`."""
        return run_in_parts(self.session, self.output_names, feeds, label)


def read_given(path: Path) -> Given:
    """Load `path` with its external weights. PackageError says what to change in the export."""
    if not path.is_file():
        raise PackageError(f"--onnx: there is no file {path.name!r}; give the exported ONNX model")
    try:
        proto = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise PackageError(f"--onnx: {path.name} is not an ONNX model; export it again") from error
    weights = _check_weights(path, proto)
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise PackageError(f"--onnx: the weights of {path.name} cannot be read: {error}") from error
    if not proto.graph.node:
        raise PackageError(f"--onnx: {path.name} is not an ONNX model, or an empty one; export it again")
    _check_opsets(proto)
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    given = Given(proto, digest_bytes(b"".join(file.read_bytes() for file in [path, *weights])))
    if unsupported := sorted({f"{node.domain or 'ai.onnx'}:{node.op_type}" for node in _unknown_nodes(proto)}):
        raise PackageError(
            f"--onnx: ONNX Runtime {onnxruntime.__version__} has no operator {listed(unsupported)}; export the model "
            "with standard operators (ai.onnx, ai.onnx.ml)"
        )
    given.session  # noqa: B018  (built now, so that a graph that cannot run is refused first)
    return given


def _check_weights(path: Path, proto: ModelProto) -> list[Path]:
    """The files beside `path` that hold weights, by name; PackageError if one is absent or all are too large."""
    outside = [tensor for tensor in proto.graph.initializer if uses_external_data(tensor)]
    files = {path.parent / ExternalDataInfo(tensor).location for tensor in outside}
    if absent := sorted(file.name for file in files if not file.is_file()):
        raise PackageError(f"--onnx: {path.name} keeps its weights in {listed(absent)}, which must lie beside it")
    if path.stat().st_size + sum(file.stat().st_size for file in files) > MOST_BYTES:
        raise PackageError(f"--onnx: {path.name} is over 2 GB with its weights, too much for one ONNX graph; shrink it")
    return sorted(files)


def _check_opsets(proto: ModelProto) -> None:
    newest = {"": onnx.defs.onnx_opset_version(), "ai.onnx.ml": onnx.defs.onnx_ml_opset_version()}
    newest["ai.onnx"] = newest[""]
    for opset in proto.opset_import:
        if opset.domain in newest and opset.version > newest[opset.domain]:
            raise PackageError(
                f"--onnx: the graph uses opset {opset.version} of {opset.domain or 'ai.onnx'}, newer than the known "
                f"{newest[opset.domain]}; export it with a lower target_opset (opset_version in torch)"
            )
        if opset.domain in ("", "ai.onnx") and opset.version < OLDEST_OPSET:
            raise PackageError(
                f"--onnx: the graph uses opset {opset.version}, older than ONNX Runtime's oldest, {OLDEST_OPSET}; "
                "export it again with a current converter"
            )


def _unknown_nodes(proto: ModelProto) -> Iterator[NodeProto]:
    """Nodes that no opset of ONNX defines, unless ONNX Runtime brings them itself (com.microsoft)."""
    for node in all_nodes(proto.graph):
        domain = "" if node.domain == "ai.onnx" else node.domain
        if not domain.startswith("com.microsoft") and not onnx.defs.has(node.op_type, domain):
            yield node


def all_nodes(graph: onnx.GraphProto) -> Iterator[NodeProto]:
    """Every node of `graph` and of the graphs inside its If, Loop and Scan nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from all_nodes(inner)


def _input(value: onnx.ValueInfoProto) -> Input:
    tensor = value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type" or tensor.elem_type not in {*NUMBERS, TensorProto.STRING}:
        raise PackageError(f"--onnx: input {value.name!r} must be a tensor of numbers or strings, a column or several")
    axes = tensor.shape.dim
    if len(axes) not in (1, 2):
        raise PackageError(
            f"--onnx: input {value.name!r} has {len(axes)} axes; only tables [n, features] can be packaged"
        )
    if axes[0].HasField("dim_value"):
        raise PackageError(
            f"--onnx: the batch axis of input {value.name!r} is fixed at {axes[0].dim_value}; export it dynamic "
            "(torch: dynamic_shapes=({0: torch.export.Dim('n')},); skl2onnx: FloatTensorType([None, features]))"
        )
    said = len(axes) == 2 and axes[1].HasField("dim_value")
    width = 1 if len(axes) == 1 else axes[1].dim_value if said else None
    return Input(value.name, tensor.elem_type, len(axes), width)


def open_session(proto: ModelProto) -> onnxruntime.InferenceSession:
    """A session on the CPU with one thread; PackageError with ONNX Runtime's reason if it refuses the graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
        raise PackageError(f"--onnx: ONNX Runtime {onnxruntime.__version__} refuses the graph: {error}") from error


def run_in_parts(
    session: onnxruntime.InferenceSession, outputs: list[str], feeds: Feeds, label: str
) -> list[NDArray[Any]]:
    """Run all rows of `feeds`, some thousand at a time, and join each output; PackageError if a run fails."""
    n = len(next(iter(feeds.values())))
    parts = []
    with progress(transient=True) as bar:
        for start in bar.track(range(0, n, ROWS_PER_RUN), description=label):
            some = {name: values[start : start + ROWS_PER_RUN] for name, values in feeds.items()}
            try:
                parts.append(session.run(outputs, some))
            except Exception as error:  # as above
                raise PackageError(
                    f"--onnx: the model fails on rows {start + 1} to {start + len(next(iter(some.values())))} of the "
                    f"data: {str(error).splitlines()[0]}"
                ) from error
    return [_joined(list(part), n) for part in zip(*parts, strict=True)]


def _joined(parts: list[Any], n: int) -> NDArray[Any]:
    joined = np.concatenate([as_array(part) for part in parts])
    if len(joined) != n:
        raise PackageError(f"--onnx: {n} rows gave {len(joined)} answers; every output needs one entry for each row")
    return joined


def as_array(values: Any) -> NDArray[Any]:
    """One output of a run; a ZipMap's list of dictionaries becomes a matrix `(n, k)` in the order of their keys."""
    if not isinstance(values, list):
        return np.atleast_1d(values)
    if not all(isinstance(row, dict) for row in values):
        raise PackageError("--onnx: an output is a sequence; export tensors, or a ZipMap over the classes")
    return np.array([list(row.values()) for row in values], np.float32)
