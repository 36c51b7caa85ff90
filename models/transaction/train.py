"""Trains `transaction`: 100 small boosted trees, on simulated payments or on the ULB file. Ten seconds."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from models.export import Trained, Written, export
from models.graph import graph_from_trees
from models.progress import progress
from models.task import FloatMatrix, Floats
from models.transaction import data, ulb

TREES = 100
# Each step of the progress bar costs as much as two trees.
TREES_PER_STEP = 10
LEAVES = 16
DEPTH = 6
# These three had the least validation log loss of 12 combinations tried: 0.0429; the others 0.0433 to 0.0451.
LEARNING_RATE = 0.15
LEAST_ROWS_IN_LEAF = 100
L2 = 20.0
SIGNIFICANT_DIGITS = 6


def train(repository: Path, csv: Path | None = None) -> Written:
    """Fit, check and package `transaction` under `repository`: from the ULB file `csv`, else from the simulator."""
    source, card = (data, "card.md") if csv is None else (ulb, "card_ulb.md")
    splits = data.load_splits() if csv is None else ulb.load_splits(csv)

    # Categories enter as ordered indices: skl2onnx 1.20 converts `categorical_features` into another model, silently.
    classifier = HistGradientBoostingClassifier(
        max_iter=TREES_PER_STEP,
        max_leaf_nodes=LEAVES,
        max_depth=DEPTH,
        learning_rate=LEARNING_RATE,
        min_samples_leaf=LEAST_ROWS_IN_LEAF,
        l2_regularization=L2,
        early_stopping=False,
        random_state=data.SEED,
        warm_start=True,
    )
    with progress() as bar:
        steps = range(TREES_PER_STEP, TREES + 1, TREES_PER_STEP)
        for trees in bar.track(steps, description="transaction: tens of trees"):
            classifier.set_params(max_iter=trees).fit(splits.training.X, splits.training.y)
    round_leaves(classifier)

    def margin(X: FloatMatrix) -> Floats:
        return np.asarray(classifier.decision_function(X), np.float64)

    def probability(X: FloatMatrix) -> Floats:
        return np.asarray(classifier.predict_proba(X)[:, 1], np.float64)

    trained = Trained(
        declaration=source.DECLARATION,
        splits=splits,
        cost=source.COST,
        seed=data.SEED,
        graph=graph_from_trees(classifier, len(source.DECLARATION.features)),
        native_margin=margin,
        native_probability=probability,
        card_template=Path(__file__).with_name(card),
        libraries=("scikit-learn", "skl2onnx", "numpy", "onnx", "onnxruntime"),
    )
    return export(trained, repository)


def round_leaves(classifier: Any) -> None:
    """Round every leaf of a fitted HistGradientBoostingClassifier to six digits, in place.

    The last bits of a leaf depend on how a processor sums; without them a rebuild elsewhere can give the same digest.
    """
    for (predictor,) in classifier._predictors:
        leaf = predictor.nodes["value"]
        magnitude = np.floor(np.log10(np.abs(np.where(leaf == 0, 1.0, leaf))))
        scale = 10.0 ** (SIGNIFICANT_DIGITS - 1 - magnitude)
        predictor.nodes["value"] = np.round(leaf * scale) / scale
