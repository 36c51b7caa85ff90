"""Domain classifier: can recent rows be told from the reference? The only place that imports scikit-learn, an extra."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from service.driftjob.verdicts import Importance, Separation

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

TREES = 50
REPEATS = 5
MOST_FEATURES = 5
# Permutations are dealt so many at a time, to bound the memory.
DEALT_TOGETHER = 500


def separation(
    reference: Matrix, current: Matrix, names: Sequence[str], *, recorded: int, permutations: int, seed: int
) -> Separation:
    """Rows `(m, d)` and `(k, d)`, NaN where missing, `names` of the d columns; `current` was drawn from `recorded`.

    A classifier learns from one half of each. The p-value permutes the labels of the other half, and is exact for the
    classifier as it is: (1 + permutations with an AUC as high) / (1 + permutations).
    """
    rng = np.random.default_rng(seed)
    X = np.concatenate([reference, current])
    is_current = np.arange(len(X)) >= len(reference)
    learn = _halves(is_current, rng)
    X[:, np.isnan(X[learn]).all(axis=0)] = 0  # scikit-learn wants a value to cut at
    # scikit-learn takes seeds of 32 bits.
    trees = HistGradientBoostingClassifier(max_iter=TREES, early_stopping=False, random_state=seed % 2**32)
    trees.fit(X[learn], is_current[learn])
    rows, labels = X[~learn], is_current[~learn]
    scores: Floats = trees.decision_function(rows)
    value = float(auc(scores, labels))
    return Separation(
        auc=value,
        p_value=p_value(scores, labels, permutations, rng),
        reference_rows=len(reference),
        current_rows=len(current),
        recorded_rows=recorded,
        held_out_rows=len(rows),
        features=_importances(trees, rows, labels, names, value, rng),
    )


def auc(scores: Floats, labels: Booleans) -> Floats:
    """Area under the ROC curve of each row of `scores` `(..., n)`, ties half: Mann-Whitney's U of the true rows."""
    sums = ranks(scores)[..., labels].sum(axis=-1)
    positives = int(labels.sum())
    made: Floats = (sums - positives * (positives + 1) / 2) / (positives * (len(labels) - positives))
    return made


def ranks(scores: Floats) -> Floats:
    """Ranks from 1 on along the last axis, ties their mean."""
    if scores.ndim > 1:
        return np.stack([ranks(row) for row in scores])
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    made: Floats = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return made


def p_value(scores: Floats, labels: Booleans, permutations: int, rng: np.random.Generator) -> float:
    """How often labels that were dealt at random make an AUC as high, the given ones included.

    The AUC grows with the sum of ranks, which is exact: ranks are halves of whole numbers.
    """
    mine, positives = ranks(scores), int(labels.sum())
    observed, as_high = mine[labels].sum(), 0
    for start in range(0, permutations, DEALT_TOGETHER):
        count = min(DEALT_TOGETHER, permutations - start)
        dealt = rng.permuted(np.tile(mine, (count, 1)), axis=1)[:, :positives].sum(axis=1)
        as_high += int((dealt >= observed).sum())
    return (1 + as_high) / (1 + permutations)


def _halves(is_current: Booleans, rng: np.random.Generator) -> Booleans:
    """Which rows to learn from: a random half of either kind."""
    learn = np.zeros(len(is_current), np.bool_)
    for kind in (False, True):
        mine = rng.permutation(np.flatnonzero(is_current == kind))
        learn[mine[: len(mine) // 2]] = True
    return learn


def _importances(
    trees: HistGradientBoostingClassifier,
    rows: Matrix,
    labels: Booleans,
    names: Sequence[str],
    value: float,
    rng: np.random.Generator,
) -> list[Importance]:
    """The features that tell most, as far as they tell anything."""
    drops = []
    for column, name in enumerate(names):
        shuffled = np.tile(rows, (REPEATS, 1, 1))
        shuffled[:, :, column] = rng.permuted(shuffled[:, :, column], axis=1)
        scores = trees.decision_function(shuffled.reshape(-1, rows.shape[1])).reshape(REPEATS, -1)
        drops.append(Importance(name, float((value - auc(scores, labels)).mean())))
    drops.sort(key=lambda importance: -importance.auc_drop)
    return [importance for importance in drops[:MOST_FEATURES] if importance.auc_drop > 0]
