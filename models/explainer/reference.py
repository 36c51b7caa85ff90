"""What explanations should be, in float64 and by another way than the compiled graph: calibration compares with it."""

from collections.abc import Callable

import numpy as np

from models.explainer.exact import enumerate_values
from models.explainer.plan import estimate, make_plan
from models.explainer.served import Served
from models.explainer.tables import credit, make_patterns
from models.explainer.tree_graph import Trees, matrix_of
from models.task import FloatMatrix, Floats

# Model rows of the reference per row of the default plan, and half as many per row of the doubled one: the reference's
# own error then widens what is measured by 3 % and 6 %.
FACTOR = 16

# [n, d, C]
Values = Floats
Reference = Callable[[FloatMatrix], Values]


def linear(background: FloatMatrix, slope: Floats) -> Reference:
    """slope_i (x_i - mean_j b_ji)."""
    return lambda X: (X.astype(np.float64) - background.astype(np.float64).mean(0))[:, :, None] * slope


def enumeration(served: Served, background: FloatMatrix) -> Reference:
    """All coalitions through the served model itself, rows built one by one."""
    return lambda X: np.stack([enumerate_values(served.margin, background, x) for x in X])


def trees(served: Served, background: FloatMatrix, read: Trees) -> Reference:
    """Formula (8) without tables: every leaf against every distinct pattern of the background."""
    leaves, player = read.leaves, read.player
    patterns = make_patterns(leaves, matrix_of(served, read.matrix, background))
    used = np.arange(leaves.column.shape[1]) < leaves.size[:, None]

    def values(X: FloatMatrix) -> Values:
        found = np.zeros((len(X), served.n_features, leaves.value.shape[1]))
        for row, bits in zip(found, leaves.bits(matrix_of(served, read.matrix, X)), strict=True):
            shares = (credit(bits[:, None], patterns.patterns) * patterns.share[:, :, None]).sum(1)  # [L, D]
            np.add.at(row, player[leaves.column[used]], (shares[:, :, None] * leaves.value[:, None])[used])
        return found

    return values


def sampled(served: Served, background: FloatMatrix, half_pairs: int, seed: int) -> Reference:
    """A plan of 16 times the coalitions, drawn from another seed."""
    plan = make_plan(served.n_features, len(background), FACTOR * half_pairs, seed + 1)
    return lambda X: np.stack([estimate(served.margin, background, plan, x)[0] for x in X])
