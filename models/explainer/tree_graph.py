"""`explainer.onnx` for tree ensembles: exact, and nothing but comparisons and lookups at request time."""

from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto, helper

from models.explainer.affine import TREE_OPS, Affine, trace
from models.explainer.graph import Builder, add_fx, add_no_error
from models.explainer.served import Served, run_single_threaded
from models.explainer.tables import MAX_TABLE_SLOTS, Patterns, Tables, make_patterns, make_tables, table_bytes, weights
from models.explainer.trees import Leaves, join, read_leaves
from models.task import Booleans, FloatMatrix, Integers

MAX_FILE_BYTES = 4_000_000
# What nodes, names and metadata take beside tables and the model.
NODE_BYTES = 10_000
# Multiplications, twice, that the patterns of deep leaves may cost per explanation: some milliseconds and 50 MB.
MAX_PATTERN_WORK = 6_000_000
# A pattern is one int32 in the file.
MAX_PATTERN_SLOTS = 30


@dataclass(frozen=True)
class Trees:
    """The served graph read as trees: their leaves over the matrix named `matrix`, whose columns belong to `player`."""

    leaves: Leaves
    matrix: str
    player: Integers


def read_trees(served: Served, rows: FloatMatrix) -> Trees | None:
    """The graph as affine -> trees -> affine, if it is that and its leaves give the margin of `rows` to 1e-5."""
    found = trace(served)
    margin = found.get("margin")
    nodes = [node for node in served.nodes if node.op_type in TREE_OPS]
    if margin is None or not nodes or "X" in margin.terms or len({node.input[0] for node in nodes}) > 1:
        return None
    matrix = nodes[0].input[0]
    player = _players(found.get(matrix))
    outputs = {name: node for node in nodes for name in node.output}
    parts = [read_leaves(outputs[source], terms) for source, terms in margin.terms.items()]
    read = [part for part in parts if part is not None]
    if player is None or len(read) < len(parts):
        return None
    leaves = join(read)
    leaves = replace(leaves, constant=leaves.constant + margin.constant)
    expected = served.margin(rows)
    agrees = np.abs(leaves.scores(matrix_of(served, matrix, rows)) - expected) <= 1e-5 * np.maximum(1, np.abs(expected))
    return Trees(leaves, matrix, player) if agrees.all() else None


def _players(value: Affine | None) -> Integers | None:
    """The feature that each column of the trees' matrix comes from; None unless they are different single ones."""
    if value is None or set(value.terms) != {"X"}:
        return None
    uses = value.terms["X"] != 0  # [d, columns]
    player = uses.argmax(0)
    return player if (uses.sum(0) == 1).all() and len(set(player.tolist())) == len(player) else None


def matrix_of(served: Served, matrix: str, rows: FloatMatrix) -> FloatMatrix:
    """The trees' matrix `[n, columns]` for `rows` `[n, d]`, in float32 as the served graph computes it."""
    if matrix == "X":
        return rows
    value = helper.make_tensor_value_info(matrix, TensorProto.FLOAT, None)
    graph = helper.make_graph(
        served.leading_to(matrix), "prefix", list(served.model.graph.input), [value], list(served.constants.values())
    )
    model = helper.make_model(graph, opset_imports=served.model.opset_import, ir_version=served.model.ir_version)
    found: FloatMatrix = run_single_threaded(model.SerializeToString()).run([matrix], {"X": rows})[0]
    return found


def add_trees(
    served: Served,
    background: FloatMatrix,
    trees: Trees,
    *,
    max_table_slots: int = MAX_TABLE_SLOTS,
    max_bytes: int = MAX_FILE_BYTES,
    max_pattern_work: int = MAX_PATTERN_WORK,
) -> Builder | None:
    """The exact explainer of `trees` over `background`; None if it would exceed 4 MB or take too long to answer."""
    T = matrix_of(served, trees.matrix, background)
    parts = _divide(trees.leaves, T, max_table_slots, max_bytes - served.model.ByteSize() - NODE_BYTES)
    if parts is None or (parts[1] is not None and parts[1].patterns.size > max_pattern_work):
        return None
    build = Builder(served)
    add_fx(build, served.margin(background).mean(0))
    prefix = served.leading_to(trees.matrix)
    matrix = build.inline(prefix, {"X": "X"}, "t")[trees.matrix] if prefix else "X"
    tables, deep = parts
    shares = [_add_tables(build, matrix, tables, trees.player)] if tables else []  # each [n, C, d]
    shares += [_add_patterns(build, matrix, deep, trees.player)] if deep else []
    total = shares[0] if len(shares) == 1 else build.op("Add", *shares)
    build.op("Transpose", total, perm=[0, 2, 1], output="values")
    add_no_error(build)
    return build


def _divide(
    leaves: Leaves, T: FloatMatrix, max_table_slots: int, budget: int
) -> tuple[Tables | None, Patterns | None] | None:
    """Tables for as many leaves as fit, the largest ones by their background patterns."""
    leaves = leaves.take(leaves.size > 0)  # a tree of one leaf moves the base value only
    slots = 13 * leaves.column.size
    for most in range(max_table_slots, 1, -1):
        small = leaves.size <= most
        deep = make_patterns(leaves.take(~small), T) if not small.all() else None
        kept = 0 if deep is None else 8 * deep.share.size
        if slots + table_bytes(leaves.take(small)) + kept > budget:
            continue
        if deep is not None and deep.patterns.shape[2] > MAX_PATTERN_SLOTS:
            return None
        return (make_tables(leaves.take(small), T) if small.any() else None), deep
    return None


def _bits(build: Builder, matrix: str, leaves: Leaves) -> str:
    """The answers of all slots, bool `[n, L, D]`; empty slots say no."""
    # GatherElements copies single numbers four times as fast as Gather does, but wants its index once per row.
    column = build.constant(leaves.column.reshape(1, -1).astype(np.int32))
    n_rows = build.op("Shape", matrix, end=1)
    index = build.op("Expand", column, build.op("Concat", n_rows, build.axes(leaves.column.size), axis=0))
    found = build.reshape(build.op("GatherElements", matrix, index, axis=1), -1, *leaves.column.shape)
    above = build.op("Greater", found, build.constant(leaves.low))
    inside = build.op("And", above, build.op("LessOrEqual", found, build.constant(leaves.high)))
    if not leaves.missing.any():
        return inside
    missing = build.op("And", build.op("IsNaN", found), build.constant(leaves.missing))
    return build.op("Or", inside, missing)


def _add_tables(build: Builder, matrix: str, tables: Tables, player: Integers) -> str:
    """phi `[n, C, d]` of the leaves that have tables."""
    leaves = tables.leaves
    slot = np.arange(leaves.column.shape[1])
    # Exact in float32: below 2^10.
    place = np.where(slot < leaves.size[:, None], 1 << slot, 0).astype(np.float32)
    bits = build.op("Cast", _bits(build, matrix, leaves), to=TensorProto.FLOAT)
    pattern = build.sum(build.op("Mul", bits, build.constant(place)), 2)  # [n, L]
    start = build.constant(tables.offset.astype(np.int32))
    row = build.op("Add", build.op("Cast", pattern, to=TensorProto.INT32), start)
    single = leaves.value.shape[1] == 1
    rows = tables.rows * np.repeat(leaves.value, 1 << leaves.size, axis=0) if single else tables.rows
    credit = build.op("Gather", build.constant(rows), row)  # [n, L, D]
    return _project(build, credit, leaves, player, scaled=single)


def _project(build: Builder, credit: str, leaves: Leaves, player: Integers, *, scaled: bool) -> str:
    """phi `[n, C, d]` from the credit `[n, L, D]` of every slot, times the leaves' values unless it is `scaled`."""
    n_leaves, n_slots = leaves.column.shape
    used = np.arange(n_slots) < leaves.size[:, None]
    owner = np.where(used, player[leaves.column], -1).reshape(-1, 1).astype(np.int32)
    features = build.constant(np.arange(build.served.n_features, dtype=np.int32))
    # [L D, d], constant
    onto = build.op("Cast", build.op("Equal", build.constant(owner), features), to=TensorProto.FLOAT)
    if not scaled:
        values = build.constant(leaves.value.T[:, :, None])  # [C, L, 1]
        credit = build.op("Mul", build.op("Unsqueeze", credit, build.axes(1)), values)
    return build.op("MatMul", build.reshape(credit, -1, leaves.value.shape[1], n_leaves * n_slots), onto)


def _add_patterns(build: Builder, matrix: str, deep: Patterns, player: Integers) -> str:
    """phi `[n, C, d]` of the leaves that keep their background patterns: formula (8) at request time.

    With r = sum_i p_i q_i, |A| = |p| - r and |Q| = |q| - r, and p and q leave |slots| - |p| - |q| + r slots unanswered;
    the credit of slot i is p_i sum_q a_q (1 - q_i) + (1 - p_i) sum_q b_q q_i.
    """
    leaves, (_, _, n_slots) = deep.leaves, deep.patterns.shape
    used = np.arange(n_slots) < leaves.size[:, None]  # [L, D]
    q, n_theirs = _unpack(build, deep.patterns & used[:, None])  # [L, Q, D] and [L, 1, Q], constants
    p = build.op("Cast", build.op("Unsqueeze", _bits(build, matrix, leaves), build.axes(2)), to=TensorProto.FLOAT)
    n_ours = build.op("ReduceSum", p, build.axes(3))  # [n, L, 1, 1]
    shared = build.op("MatMul", p, build.op("Transpose", q, perm=[0, 2, 1]))  # r [n, L, 1, Q]
    only_ours, only_theirs = build.op("Sub", n_ours, shared), build.op("Sub", n_theirs, shared)
    answered = build.op("Add", n_ours, only_theirs)
    reachable = build.op("Equal", answered, build.constant(leaves.size[:, None, None].astype(np.float32)))
    share = build.op("Mul", build.op("Cast", reachable, to=TensorProto.FLOAT), build.constant(deep.share[:, None]))

    code = build.op("Add", build.op("Mul", only_ours, build.constant(float(n_slots + 1))), only_theirs)
    code = build.op("Cast", code, to=TensorProto.INT32)
    a, b = (
        build.op("Mul", build.op("Gather", build.constant(table.reshape(-1)), code), share)
        for table in weights(n_slots)
    )
    with_q = build.op("MatMul", build.op("Concat", a, b, axis=2), q)  # [n, L, 2, D]
    a_q, b_q = (build.op("Slice", with_q, build.axes(k), build.axes(k + 1), build.axes(2)) for k in (0, 1))
    ours = build.op("Mul", p, build.op("Sub", build.op("ReduceSum", a, build.axes(3)), a_q))
    theirs = build.op("Mul", build.op("Sub", build.constant(1.0), p), b_q)
    credit = build.op("Squeeze", build.op("Add", ours, theirs), build.axes(2))  # [n, L, D]
    return _project(build, credit, leaves, player, scaled=False)


def _unpack(build: Builder, patterns: Booleans) -> tuple[str, str]:
    """`patterns` `[L, Q, D]` as floats and their sums `[L, 1, Q]`: one number each in the file, unpacked at load."""
    places = 1 << np.arange(patterns.shape[2])
    codes = build.constant((patterns @ places).astype(np.int32)[:, :, None])
    digits = build.op(
        "Mod", build.op("Div", codes, build.constant(places.astype(np.int32))), build.constant(np.int32(2))
    )
    q = build.op("Cast", digits, to=TensorProto.FLOAT)
    return q, build.op("Unsqueeze", build.sum(q, 2), build.axes(1))
