"""Which column of the data goes to which input of the graph, and how `X` is taken apart into those inputs."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from models.packaging.features import original_values
from models.packaging.findings import Findings, listed
from models.packaging.given import Feeds, Input
from models.packaging.table import Table
from service.errors import PackageError
from service.manifest import Feature


def choose_columns(
    inputs: Sequence[Input], table: Table, others: Sequence[str], wanted: Sequence[str] | None, findings: Findings
) -> list[str]:
    """Names of the columns that feed `inputs`, in the order in which the inputs take them.

    `others` are the label and the sensitive features, no features unless `wanted` (from --features) or an input of
    that name says so. Raises PackageError when the columns are not as many as the graph takes.
    """
    for name in wanted or ():
        table.column(name, "--features")
    if wanted and (repeated := sorted({name for name in wanted if wanted.count(name) > 1})):
        raise PackageError(f"--features names {listed(repeated)} more than once")
    if _is_named(inputs, table):
        return _by_name(inputs, table, others, wanted, findings)
    names = list(wanted) if wanted else [name for name in table.columns if name not in others]
    _check_count(inputs, names, wanted, others)
    if wanted is None:
        findings.assume("The features are all other columns, in file order; --features says otherwise.")
    if len(inputs) > 1:
        findings.assume(f"The inputs {listed([one.name for one in inputs])} take the features in this order.")
    return names


def _is_named(inputs: Sequence[Input], table: Table) -> bool:
    plain = {_plain(name) for name in table.columns}
    single = len(inputs) == 1
    return all(one.width == 1 for one in inputs) and (not single or _plain(inputs[0].name) in plain)


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _by_name(
    inputs: Sequence[Input], table: Table, others: Sequence[str], wanted: Sequence[str] | None, findings: Findings
) -> list[str]:
    columns = {_plain(name): name for name in table.columns} | {name: name for name in table.columns}
    if absent := [one.name for one in inputs if one.name not in columns and _plain(one.name) not in columns]:
        raise PackageError(
            f"the graph has an input {listed(absent)}, and the data has no such column; columns are "
            f"{listed(list(table.columns), 40)}"
        )
    names = [columns.get(one.name) or columns[_plain(one.name)] for one in inputs]
    if wanted is not None and sorted(wanted) != sorted(names):
        raise PackageError(f"--features must name the graph's own inputs, {listed(names, 40)}")
    if also := [name for name in names if name in others]:
        findings.warn(f"The model takes {listed(also)} as an input, though named as label or sensitive feature.")
    if unused := [name for name in table.columns if name not in names and name not in others]:
        findings.understand("columns not used", listed(unused))
    return names


def _check_count(
    inputs: Sequence[Input], names: list[str], wanted: Sequence[str] | None, others: Sequence[str]
) -> None:
    widths = [one.width for one in inputs]
    known = [width for width in widths if width is not None]
    if not names:
        raise PackageError("no column is left for the features; the data needs the model's features beside the label")
    if len(known) < len(widths):
        if len(widths) > 1:
            raise PackageError("the graph has several inputs of unknown width; export them with their shapes")
        return
    if sum(known) != len(names):
        source = "--features names" if wanted else f"the data, without {listed(list(others)) or 'any'}, has"
        raise PackageError(
            f"wrong column count: the graph takes {sum(known)} features, {source} {len(names)} ({listed(names, 40)}); "
            "name the features in the order of training with --features a,b,c, also sensitive ones that the model takes"
        )


def feeds_of_given(inputs: Sequence[Input], names: Sequence[str], table: Table, features: Sequence[Feature]) -> Feeds:
    """What the given graph is fed: the values of the file themselves, not what float32 makes of them.

    The exception is a word where the graph takes numbers: it enters as the index of its category.
    """
    by_name = {feature.name: feature for feature in features}
    feeds, rest = {}, list(names)
    for one in inputs:
        width = len(rest) if one.width is None else one.width
        mine, rest = rest[:width], rest[width:]
        feeds[one.name] = one.array([_fed(table, by_name[name], one) for name in mine])
    return feeds


def _fed(table: Table, feature: Feature, one: Input) -> NDArray[Any]:
    column = table.columns[feature.name]
    if feature.categories is None or one.is_text:
        return original_values(column, one.element)
    index = {category: float(i) for i, category in enumerate(feature.categories)} | {"": np.nan}
    return np.array([index[cell] for cell in column.written])


def fold_inputs(
    inputs: Sequence[Input], names: Sequence[str], features: Sequence[Feature]
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes and constants that compute every input of the graph from `X` `[n, d]`, whose columns are `features`.

    Nothing is made for a single float32 matrix in the order of `X`: that input is to be called `X`.
    """
    order = [feature.name for feature in features]
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    rest = list(names)
    for number, one in enumerate(inputs):
        width = len(rest) if one.width is None else one.width
        mine, rest = rest[:width], rest[width:]
        if takes_matrix(one, mine, order):
            continue
        made, needed = _fold(one, [order.index(name) for name in mine], features, f"input{number}")
        nodes += made
        constants += needed
    return nodes, constants


def takes_matrix(one: Input, names: Sequence[str], order: Sequence[str]) -> bool:
    """Whether the input `one`, which takes the features `names`, is `X` itself."""
    return one.element == TensorProto.FLOAT and one.rank == 2 and list(names) == list(order)


def _fold(
    one: Input, columns: list[int], features: Sequence[Feature], prefix: str
) -> tuple[list[NodeProto], list[TensorProto]]:
    if one.is_text:
        return _fold_texts(one, columns, features, prefix)
    picked, row = f"{prefix}_columns", f"{prefix}_row"
    constants = [numpy_helper.from_array(np.array(columns, np.int64), f"{prefix}_index")]
    nodes = [helper.make_node("Gather", ["X", f"{prefix}_index"], [picked], axis=1)]
    if one.rank == 1:
        constants.append(numpy_helper.from_array(np.array([-1], np.int64), f"{prefix}_flat"))
        nodes.append(helper.make_node("Reshape", [picked, f"{prefix}_flat"], [row]))
    nodes.append(helper.make_node("Cast", [row if one.rank == 1 else picked], [one.name], to=one.element))
    return nodes, constants


def _fold_texts(
    one: Input, columns: list[int], features: Sequence[Feature], prefix: str
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Each text is looked up in the list of categories by its index in `X`."""
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    for column in columns:
        categories = np.array(features[column].categories, object)
        name = f"{prefix}_{column}"
        # A scalar index takes the column away: [n]; a list of one index keeps it: [n, 1].
        index = np.array(column if one.rank == 1 else [column], np.int64)
        constants.append(numpy_helper.from_array(index, f"{name}_index"))
        constants.append(numpy_helper.from_array(categories, f"{name}_categories"))
        nodes.append(helper.make_node("Gather", ["X", f"{name}_index"], [f"{name}_column"], axis=1))
        nodes.append(helper.make_node("Cast", [f"{name}_column"], [f"{name}_code"], to=TensorProto.INT64))
        nodes.append(helper.make_node("Gather", [f"{name}_categories", f"{name}_code"], [f"{name}_text"], axis=0))
    texts = [f"{prefix}_{column}_text" for column in columns]
    if len(texts) == 1:
        nodes[-1].output[0] = one.name
    else:
        nodes.append(helper.make_node("Concat", texts, [one.name], axis=1))
    return nodes, constants
