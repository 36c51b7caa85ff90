"""Random tree ensembles of three libraries as served models: the converter's tree node, its raw scores as `margin`.

Rows hold missing values where the library takes them, and values that are exactly a threshold of some node.
"""

import warnings

import numpy as np
from onnx import TensorProto, checker, helper, load_from_string
from oracles import need

D = 8
OPSETS = {"": 17, "ai.onnx.ml": 3}


def training_rows(*, classes=2, missing=False, seed=0):
    """`X` `(400, 8)` float32 and labels of a rule with interactions."""
    rng = np.random.default_rng([seed, classes])
    X = rng.normal(size=(400, D)).astype(np.float32)
    X[:, 3] = rng.integers(0, 4, 400)
    score = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + (X[:, 3] == 2) + 0.3 * rng.normal(size=400)
    y = np.digitize(score, np.quantile(score, np.arange(1, classes) / classes))
    if missing:
        X[rng.random(X.shape) < 0.15] = np.nan
    return X, y


def served(converted, *, column=None):
    """The tree node of a converted model alone, before its link, as a model `X` -> `margin`."""
    (trees,) = (node for node in converted.graph.node if node.op_type.startswith("TreeEnsemble"))
    attributes = {a.name: helper.get_attribute_value(a) for a in trees.attribute} | {"post_transform": "NONE"}
    attributes = {name: value for name, value in attributes.items() if value != []}
    outputs = ["scores"] if trees.op_type == "TreeEnsembleRegressor" else ["label", "scores"]
    nodes = [helper.make_node(trees.op_type, ["X"], outputs, domain="ai.onnx.ml", **attributes)]
    labels = attributes.get("classlabels_int64s") or [0] * attributes.get("n_targets", 1)
    if column is None:
        nodes.append(helper.make_node("Identity", ["scores"], ["margin"]))
    else:
        nodes.append(helper.make_node("Gather", ["scores", "column"], ["margin"], axis=1))
    constants = [] if column is None else [helper.make_tensor("column", TensorProto.INT64, [1], [column])]
    return finish(nodes, D, len(labels) if column is None else 1, constants)


def finish(nodes, d, outputs, constants=()):
    """A checked model of `nodes`, from `X` to `margin`."""
    graph = helper.make_graph(
        nodes,
        "trees",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", d])],
        [helper.make_tensor_value_info("margin", TensorProto.FLOAT, ["n", outputs])],
        list(constants),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*item) for item in OPSETS.items()], ir_version=8
    )
    checker.check_model(model)
    return model.SerializeToString()


def thresholds(model):
    """The thresholds of every feature that a branch asks about, by feature."""
    (node,) = (node for node in load_from_string(model).graph.node if node.op_type.startswith("TreeEnsemble"))
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    found = {}
    parts = ("featureids", "values", "modes")
    for feature, value, mode in zip(*(attributes[f"nodes_{part}"] for part in parts), strict=True):
        if mode != b"LEAF":
            found.setdefault(feature, []).append(np.float32(value))
    return found


def rows_at_thresholds(model, X, n, *, seed=1):
    """`n` rows of `X` in which half of the values are exactly a threshold that the model compares them with."""
    rng = np.random.default_rng(seed)
    rows = X[rng.choice(len(X), n, replace=False)].copy()
    for feature, values in thresholds(model).items():
        at = rng.random(n) < 0.5
        rows[at, feature] = rng.choice(values, at.sum())
    return rows


def sklearn_boosting(**options):
    """GradientBoostingRegressor."""
    from sklearn.ensemble import GradientBoostingRegressor

    X, y = training_rows()
    model = GradientBoostingRegressor(n_estimators=20, max_depth=4, random_state=0, **options).fit(X, y)
    return served(_from_sklearn(model, X)), X


def sklearn_histogram_boosting():
    """HistGradientBoostingRegressor with missing values."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    X, y = training_rows(missing=True)
    model = HistGradientBoostingRegressor(max_iter=20, max_leaf_nodes=12, random_state=0).fit(X, y)
    return served(_from_sklearn(model, X)), X


def sklearn_forest():
    """RandomForestClassifier of three classes: scores are averages, every leaf holds three."""
    from sklearn.ensemble import RandomForestClassifier

    X, y = training_rows(classes=3)
    model = RandomForestClassifier(n_estimators=10, max_depth=5, random_state=0).fit(X, y)
    return served(_from_sklearn(model, X)), X


def xgboost(classes):
    """XGBClassifier with missing values; two classes by the positive one's score."""
    library = need("xgboost")
    convert = need("onnxmltools").convert.convert_xgboost
    types = need("onnxmltools.convert.common.data_types")
    X, y = training_rows(classes=classes, missing=True)
    model = library.XGBClassifier(n_estimators=12, max_depth=4, n_jobs=1, random_state=0).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = convert(model, initial_types=[("X", types.FloatTensorType([None, D]))], target_opset=15)
    return served(converted, column=1 if classes == 2 else None), X


def lightgbm(classes):
    """LGBMClassifier with missing values, unbounded depth; two classes by the positive one's score."""
    library = need("lightgbm")
    convert = need("onnxmltools").convert.convert_lightgbm
    types = need("onnxmltools.convert.common.data_types")
    X, y = training_rows(classes=classes, missing=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = library.LGBMClassifier(n_estimators=12, num_leaves=20, n_jobs=1, verbose=-1, random_state=0).fit(X, y)
        initial = [("X", types.FloatTensorType([None, D]))]
        converted = convert(model, initial_types=initial, target_opset=15, zipmap=False)
    return served(converted, column=1 if classes == 2 else None), X


def _from_sklearn(model, X):
    convert = need("skl2onnx").to_onnx
    options = {"zipmap": False} if hasattr(model, "classes_") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return convert(model, X[:1], options=options, target_opset=OPSETS)
