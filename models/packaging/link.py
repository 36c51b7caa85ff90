"""The last nodes of a packaged graph: from the tensors of a recipe to `margin` and `probability`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper
from onnx.helper import make_node

from models.packaging.margin import Recipe

# Nearer to 0 or 1 log(p) - log(1 - p) says no more: float32 knows 1 - p to 6e-8.
SMALLEST_PROBABILITY = 1e-7
CONSTANTS: dict[str, NDArray[Any]] = {
    "column_shape": np.array([-1, 1], np.int64),
    "first": np.array([0], np.int64),
    "second": np.array([1], np.int64),
    "zero": np.array([0], np.float32),
    "one": np.array([1], np.float32),
    "smallest": np.array([SMALLEST_PROBABILITY], np.float32),
}


def link_nodes(recipe: Recipe, prefix: str, *, classes: int, positive: int) -> list[NodeProto]:
    """Nodes that compute `margin` and `probability` from the recipe's tensors, whose names carry `prefix`.

    In a binary model, `classes` 2, the margin is that of column `positive` of the probability.
    """
    nodes = _scores(recipe, prefix)
    if recipe.candidate is None or recipe.link == "identity":
        nodes += _both_probabilities(recipe)
    if recipe.candidate is None:
        return [*nodes, *_logarithms(classes, positive)]
    match recipe.link:
        case "identity":
            return [*nodes, _of_class("probabilities", "margin", classes, positive)]
        case "softmax":
            return [*nodes, _copy("scores", "margin"), make_node("Softmax", ["margin"], ["probability"], axis=1)]
        case "logit":
            return [*nodes, *_second_margin(recipe), *_logit(positive)]


def link_constants() -> list[TensorProto]:
    """Every constant that `link_nodes` may read."""
    return [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()]


def _copy(source: str, target: str) -> NodeProto:
    return make_node("Identity", [source], [target])


def _scores(recipe: Recipe, prefix: str) -> list[NodeProto]:
    """`scores` `[n, k]` float32 from one tensor, or from one per class."""
    nodes, columns = [], []
    for i, tensor in enumerate(recipe.tensors):
        name = prefix + tensor.name
        if tensor.is_double:
            nodes.append(make_node("Cast", [name], [f"single{i}"], to=TensorProto.FLOAT))
            name = f"single{i}"
        if tensor.is_flat:
            nodes.append(make_node("Reshape", [name, "column_shape"], [f"column{i}"]))
            name = f"column{i}"
        columns.append(name)
    if len(columns) == 1:
        return [*nodes, _copy(columns[0], "scores")]
    return [*nodes, make_node("Concat", columns, ["scores"], axis=1)]


def _both_probabilities(recipe: Recipe) -> list[NodeProto]:
    """`probabilities` `[n, k]`, where `scores` are such, and `probability`, the same without an ulp beyond 0 or 1."""
    if recipe.reading == "only":
        nodes = [
            make_node("Sub", ["one", "scores"], ["complement"]),
            make_node("Concat", ["complement", "scores"], ["probabilities"], axis=1),
        ]
    else:
        nodes = [_copy("scores", "probabilities")]
    return [
        *nodes,
        make_node("Max", ["probabilities", "zero"], ["not_below_0"]),
        make_node("Min", ["not_below_0", "one"], ["probability"]),
    ]


def _of_class(source: str, target: str, classes: int, positive: int) -> NodeProto:
    """All columns of a multi-class model; of a binary one, column `positive`."""
    if classes > 2:
        return _copy(source, target)
    return make_node("Gather", [source, "second" if positive else "first"], [target], axis=1)


def _logarithms(classes: int, positive: int) -> list[NodeProto]:
    """`margin` as log(p), of a binary model log(p) - log(1 - p), of `probability` clipped below."""
    nodes = [
        make_node("Max", ["probability", "smallest"], ["clipped"]),
        make_node("Log", ["clipped"], ["logarithms"]),
    ]
    if classes > 2:
        return [*nodes, _copy("logarithms", "margin")]
    return [
        *nodes,
        _of_class("logarithms", "of_positive", classes, positive),
        _of_class("logarithms", "of_negative", classes, 1 - positive),
        make_node("Sub", ["of_positive", "of_negative"], ["margin"]),
    ]


def _second_margin(recipe: Recipe) -> list[NodeProto]:
    """`second_margin` `[n, 1]`, the margin of the second class."""
    match recipe.reading:
        case "second":
            return [make_node("Gather", ["scores", "second"], ["second_margin"], axis=1)]
        case "difference":
            return [
                make_node("Gather", ["scores", "first"], ["first_logit"], axis=1),
                make_node("Gather", ["scores", "second"], ["second_logit"], axis=1),
                make_node("Sub", ["second_logit", "first_logit"], ["second_margin"]),
            ]
        case _:
            return [_copy("scores", "second_margin")]


def _logit(positive: int) -> list[NodeProto]:
    # Sigmoid of both signs: 1 - sigmoid(margin) would lose the smaller probability to rounding.
    return [
        make_node("Neg", ["second_margin"], ["first_margin"]),
        make_node("Concat", ["first_margin", "second_margin"], ["both_margins"], axis=1),
        make_node("Sigmoid", ["both_margins"], ["probability"]),
        _copy("second_margin" if positive else "first_margin", "margin"),
    ]
