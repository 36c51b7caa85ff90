"""Reads tree ensembles from the attributes of the ONNX nodes, as served: leaves, each a box of intervals per column.

Explains the raw scores, before any link. A box is (low, high] per column: `x < t` is `x <= the float32 before t`. What
is not an interval (BRANCH_EQ, BRANCH_NEQ, BRANCH_MEMBER), double thresholds and MIN/MAX are left to other rungs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from models.explainer.affine import attributes
from models.task import Booleans, FloatMatrix, Floats, Integers

MODES = {b"BRANCH_LEQ", b"BRANCH_LT", b"BRANCH_GT", b"BRANCH_GTE", b"LEAF"}

# Column -> lower bound, upper bound, whether a missing value passes.
Box = dict[int, tuple[np.float32, np.float32, bool]]


@dataclass(frozen=True)
class Leaves:
    """All leaves of one or more ensembles over the same matrix `T` `[n, columns]`.

    Slot s of leaf l asks whether low < T[column] <= high (or T is NaN and `missing`); slots from `size` on are empty
    and ask nothing. The raw scores are `constant` plus the `value` of every leaf whose slots all say yes.
    """

    column: Integers  # [L, D]
    low: FloatMatrix  # [L, D]
    high: FloatMatrix  # [L, D]
    missing: Booleans  # [L, D]
    size: Integers  # [L]
    value: Floats  # [L, C]
    constant: Floats  # [C]

    def bits(self, T: FloatMatrix) -> Booleans:
        """`[n, L, D]`: the answers of every slot to `T` `[n, columns]`; yes in empty slots."""
        found = T[:, self.column]
        inside = (found > self.low) & (found <= self.high) | (np.isnan(found) & self.missing)
        return inside | (np.arange(self.column.shape[1]) >= self.size[:, None])

    def scores(self, T: FloatMatrix) -> Floats:
        """Raw scores `[n, C]` in float64."""
        return self.bits(T).all(2) @ self.value + self.constant

    def take(self, index: Integers | Booleans) -> "Leaves":
        """The leaves at `index`, without the constant and without slots that none of them uses."""
        widest = max(1, int(self.size[index].max(initial=0)))
        return Leaves(
            column=self.column[index, :widest],
            low=self.low[index, :widest],
            high=self.high[index, :widest],
            missing=self.missing[index, :widest],
            size=self.size[index],
            value=self.value[index],
            constant=np.zeros_like(self.constant),
        )


def read_leaves(node: NodeProto, output_map: Floats) -> Leaves | None:
    """The leaves of a TreeEnsembleRegressor or TreeEnsembleClassifier; None if something in it is not supported.

    `output_map` `[scores, C]` is applied to the node's raw scores. Cost: a Python step per node of every tree.
    """
    options = attributes(node)
    classifier = node.op_type == "TreeEnsembleClassifier"
    aggregate = options.get("aggregate_function", b"SUM")
    doubles = any(name.endswith("_as_tensor") for name in options)
    if doubles or not set(options["nodes_modes"]) <= MODES or aggregate not in (b"SUM", b"AVERAGE"):
        return None
    prefix = "class" if classifier else "target"
    n_scores = len(output_map)
    weights = np.array(options[f"{prefix}_weights"], np.float32).astype(np.float64)
    targets = np.array(options[f"{prefix}_ids"])
    change = output_map
    base = np.array(options.get("base_values") or [0.0], np.float32).astype(np.float64)
    offset = np.zeros(output_map.shape[1])
    if classifier and n_scores == 2 and len(set(targets.tolist())) == 1:
        # ONNX Runtime derives the other class's score: -p, or 1 - p where no weight is negative.
        change = np.array([[-1.0, 1.0]]) @ output_map
        offset = output_map[0] * float(weights.min() >= 0)
        targets, base = np.zeros_like(targets), base[-1:]
    trees = len(set(options["nodes_treeids"]))
    scale = 1 / trees if aggregate == b"AVERAGE" else 1.0
    values: dict[tuple[int, int], Floats] = {}
    places = zip(options[f"{prefix}_treeids"], options[f"{prefix}_nodeids"], strict=True)
    for place, target, weight in zip(places, targets, weights, strict=True):
        values[place] = values.get(place, 0.0) + scale * weight * change[target]
    boxes = _boxes(options)
    value = np.stack([np.broadcast_to(values.get(place, 0.0), change.shape[1]) for place, _ in boxes])
    constant = np.broadcast_to(base, len(change)) @ change + offset
    return _pack([box for _, box in boxes], value, constant)


def join(parts: list[Leaves]) -> Leaves:
    """The leaves of several ensembles over the same matrix as one."""
    widest = max(part.column.shape[1] for part in parts)

    def grid(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([np.pad(array, ((0, 0), (0, widest - array.shape[1]))) for array in arrays])

    return Leaves(
        column=grid([part.column for part in parts]),
        low=grid([part.low for part in parts]),
        high=grid([part.high for part in parts]),
        missing=grid([part.missing for part in parts]),
        size=np.concatenate([part.size for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        constant=np.sum([part.constant for part in parts], axis=0),
    )


def _boxes(options: dict[str, Any]) -> list[tuple[tuple[int, int], Box]]:
    """Every leaf by (tree, node) with its box."""
    places = list(zip(options["nodes_treeids"], options["nodes_nodeids"], strict=True))
    index = {place: i for i, place in enumerate(places)}
    thresholds = np.array(options["nodes_values"], np.float32)
    modes, columns = options["nodes_modes"], options["nodes_featureids"]
    branches = list(zip(options["nodes_truenodeids"], options["nodes_falsenodeids"], strict=True))
    tracks_true = options.get("nodes_missing_value_tracks_true") or [0] * len(places)
    inner = [i for i, mode in enumerate(modes) if mode != b"LEAF"]
    children = {(places[i][0], child) for i in inner for child in branches[i]}
    leaves: list[tuple[tuple[int, int], Box]] = []
    stack: list[tuple[int, Box]] = [(i, {}) for i, place in enumerate(places) if place not in children]
    while stack:
        i, box = stack.pop()
        if modes[i] == b"LEAF":
            leaves.append((places[i], box))
            continue
        for true, child in zip((True, False), branches[i], strict=True):
            passes_missing = bool(tracks_true[i]) == true
            narrowed = _narrow(box, columns[i], modes[i], thresholds[i], true=true, passes_missing=passes_missing)
            stack.append((index[places[i][0], child], narrowed))
    return leaves


def _narrow(box: Box, column: int, mode: bytes, threshold: np.float32, *, true: bool, passes_missing: bool) -> Box:
    low, high, missing = box.get(column, (np.float32(-np.inf), np.float32(np.inf), True))
    # x < t and x >= t split just below t, x <= t and x > t just above it.
    cut = np.nextafter(threshold, np.float32(-np.inf)) if mode in (b"BRANCH_LT", b"BRANCH_GTE") else threshold
    if true == (mode in (b"BRANCH_LT", b"BRANCH_LEQ")):
        high = min(high, cut)
    else:
        low = max(low, cut)
    return {**box, column: (low, high, missing and passes_missing)}


def _pack(boxes: list[Box], value: Floats, constant: Floats) -> Leaves:
    widest = max(1, *(len(box) for box in boxes))
    shape = (len(boxes), widest)
    column, missing = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    low, high = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for i, box in enumerate(boxes):
        for s, (name, (lower, upper, passes)) in enumerate(box.items()):
            column[i, s], low[i, s], high[i, s], missing[i, s] = name, lower, upper, passes
    return Leaves(column, low, high, missing, np.array([len(box) for box in boxes]), value, constant)
