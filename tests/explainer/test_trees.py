"""Tree ensembles of three libraries: the compiled tables against exhaustive enumeration of the served graph."""

import ensembles
import numpy as np
import pytest
from onnx import TensorProto, helper

from models.explainer import tree_graph
from models.explainer.calibrate import explain_rows
from models.explainer.exact import enumerate_values
from models.explainer.served import load_served, run_single_threaded

ROWS, BACKGROUND = 6, 24
LIBRARIES = {
    "scikit-learn gradient boosting": ensembles.sklearn_boosting,
    "scikit-learn histogram boosting, missing values": ensembles.sklearn_histogram_boosting,
    "scikit-learn forest, three classes": ensembles.sklearn_forest,
    "XGBoost, missing values": lambda: ensembles.xgboost(2),
    "XGBoost, missing values, three classes": lambda: ensembles.xgboost(3),
    "LightGBM, missing values": lambda: ensembles.lightgbm(2),
    "LightGBM, missing values, three classes": lambda: ensembles.lightgbm(3),
}


def compiled(served, background, **limits):
    """A session of the tree explainer; the graph must be read as trees."""
    trees = tree_graph.read_trees(served, background)
    assert trees is not None
    builder = tree_graph.add_trees(served, background, trees, **limits)
    assert builder is not None
    return run_single_threaded(builder.finish({}).SerializeToString())


def check(model, X, rows, **limits):
    """Values of `rows` over 24 rows of `X` equal enumeration to 1e-6 of the largest margin's scale, and add up."""
    served, background = load_served(model, X), X[:BACKGROUND]
    explained = explain_rows(compiled(served, background, **limits), rows)
    expected = np.stack([enumerate_values(served.margin, background, row) for row in rows])
    scale = max(1.0, np.abs(served.margin(rows)).max())
    assert np.abs(explained.values - expected).max() <= 1e-6 * scale
    assert explained.residual.max() <= 1e-5
    assert not explained.error_std.any()


@pytest.mark.parametrize("library", LIBRARIES)
def test_tables_equal_exhaustive_enumeration(library):
    """Also where values are missing, and where they are exactly a threshold."""
    model, X = LIBRARIES[library]()
    check(model, X, ensembles.rows_at_thresholds(model, X, ROWS))


@pytest.mark.parametrize("library", LIBRARIES)
def test_distinct_background_patterns_equal_exhaustive_enumeration(library):
    """The route of deep leaves, here for every leaf of more than two features."""
    model, X = LIBRARIES[library]()
    check(model, X, ensembles.rows_at_thresholds(model, X, ROWS), max_table_slots=2)


def one_tree(mode, **options):
    """A tree of two branches by `mode`: feature 0 against 0.5, below it feature 1 against -1; three leaves."""
    nodes = {
        "nodes_treeids": [0] * 5,
        "nodes_nodeids": [0, 1, 2, 3, 4],
        "nodes_featureids": [0, 1, 0, 0, 0],
        "nodes_modes": [mode, mode, "LEAF", "LEAF", "LEAF"],
        "nodes_values": [0.5, -1.0, 0.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 3, 0, 0, 0],
        "nodes_falsenodeids": [2, 4, 0, 0, 0],
        "target_treeids": [0] * 3,
        "target_nodeids": [2, 3, 4],
        "target_ids": [0] * 3,
        "target_weights": [1.0, 2.0, 4.0],
        "n_targets": 1,
    }
    return helper.make_node("TreeEnsembleRegressor", ["X"], ["margin"], domain="ai.onnx.ml", **(nodes | options))


def grid():
    """Every pair of values around both thresholds, missing ones among them, in the first two of three features."""
    at = np.array([0.5, -1.0], np.float32)
    points = [*at, *np.nextafter(at, np.float32(9)), *np.nextafter(at, np.float32(-9)), np.float32(np.nan)]
    rows = np.array([[a, b, 0] for a in points for b in points], np.float32)
    return np.random.default_rng(0).permutation(rows)


@pytest.mark.parametrize("tracks_true", [[0, 0], [1, 0], [0, 1], [1, 1]])
@pytest.mark.parametrize("mode", ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"])
def test_every_comparison_is_exact_at_its_threshold_and_for_missing_values(mode, tracks_true):
    """One float32 above and below, and whichever way a missing value goes."""
    node = one_tree(mode, nodes_missing_value_tracks_true=[*tracks_true, 0, 0, 0])
    rows = grid()
    check(ensembles.finish([node], 3, 1), rows, rows)


def test_averages_base_values_and_affine_surroundings_are_followed():
    """Scaled features, two ensembles (one of averages), shrinkage and an offset."""
    two_trees = {"nodes_treeids": [0] * 5 + [1] * 5, "target_treeids": [0] * 3 + [1] * 3}
    for attribute in one_tree("BRANCH_LEQ").attribute:
        if attribute.name.startswith(("nodes_", "target_")) and attribute.name not in two_trees:
            two_trees[attribute.name] = 2 * list(helper.get_attribute_value(attribute))
    two_trees["target_weights"] = [1.0, 2.0, 4.0, -3.0, 5.0, 0.5]
    average = one_tree("BRANCH_LEQ", **two_trees, aggregate_function="AVERAGE", base_values=[0.25])
    single = one_tree("BRANCH_LT")
    average.input[0], average.output[0], single.input[0], single.output[0] = "scaled", "average", "scaled", "single"
    nodes = [
        helper.make_node("Sub", ["X", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["scaled"]),
        average,
        single,
        helper.make_node("Mul", ["average", "rate"], ["shrunk"]),
        helper.make_node("Add", ["shrunk", "single"], ["sum"]),
        helper.make_node("Neg", ["sum"], ["negative"]),
        helper.make_node("Add", ["negative", "offset"], ["margin"]),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, [len(values)], values)
        for name, values in {"mean": [0.1, -2.0, 3.0], "scale": [2.0, 0.5, 1.0], "rate": [0.1], "offset": [7.0]}.items()
    ]
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    check(ensembles.finish(nodes, 3, 1, constants), rows, rows[:10])


@pytest.mark.parametrize(
    "change",
    [
        {"nodes_modes": ["BRANCH_EQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"]},
        {"aggregate_function": "MAX"},
        {"post_transform": "LOGISTIC"},
    ],
    ids=["equality is no interval", "a maximum is no sum", "a link is not affine"],
)
def test_what_is_no_sum_of_boxes_is_left_to_other_rungs(change):
    """Rather than explained wrongly."""
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    served = load_served(ensembles.finish([one_tree("BRANCH_LEQ", **change)], 3, 1), rows)
    assert tree_graph.read_trees(served, rows) is None


def test_a_column_that_mixes_features_is_left_to_other_rungs():
    """The questions of a leaf must belong to single features."""
    node = one_tree("BRANCH_LEQ")
    node.input[0] = "mixed"
    mix = helper.make_tensor("mix", TensorProto.FLOAT, [3, 3], [1, 0, 0, 1, 1, 0, 0, 0, 1])
    nodes = [helper.make_node("MatMul", ["X", "mix"], ["mixed"]), node]
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    served = load_served(ensembles.finish(nodes, 3, 1, [mix]), rows)
    assert tree_graph.read_trees(served, rows) is None


def test_an_ensemble_too_large_for_tables_uses_patterns_and_a_still_larger_one_is_left():
    """Every file stays within its budget."""
    model, X = ensembles.sklearn_boosting()
    served = load_served(model, X)
    trees = tree_graph.read_trees(served, X)
    sizes = [
        builder and builder.finish({}).ByteSize()
        for builder in (
            tree_graph.add_trees(served, X[:BACKGROUND], trees, max_bytes=max_bytes)
            for max_bytes in (4_000_000, 85_000, 20_000)
        )
    ]
    assert sizes[0] > 85_000 > sizes[1]
    assert sizes[2] is None
