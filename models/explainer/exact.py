"""Enumeration: every coalition of at most ten players, for every background row, and one matrix.

Knows no model and no ONNX. With s = |S| (Shapley 1953),

    phi_i = sum_S B[i, S] v(S),   B[i, S] = (s-1)! (d-s)! / d!  for i in S,   -s! (d-s-1)! / d!  otherwise

B[i, complement of S] = -B[i, S], so that only v(S) - v(complement) is needed, and of these all but the pair
{everyone, no one} depend on more than f(x) and the base value.
"""

from itertools import combinations
from math import factorial

import numpy as np

from models.explainer.plan import Margin
from models.task import Booleans, FloatMatrix, Floats

MAX_PLAYERS = 10


def coalitions(n_players: int) -> Booleans:
    """One coalition `[2^(d-1) - 1, d]` of each pair of complements, without the pair {everyone, no one}.

    None for a single player.
    """
    others = range(1, n_players)
    chosen = [(0, *rest) for size in range(n_players - 1) for rest in combinations(others, size)]
    masks = np.zeros((len(chosen), n_players), np.bool_)
    for mask, members in zip(masks, chosen, strict=True):
        mask[list(members)] = True
    return masks


def shapley_matrix(masks: Booleans) -> Floats:
    """B `[d, K]` for the coalitions `masks` `[K, d]`; the columns of neither full nor empty ones sum to 0."""
    d = masks.shape[1]
    sizes = masks.sum(1)
    inside = np.array([0.0] + [factorial(s - 1) * factorial(d - s) / factorial(d) for s in range(1, d + 1)])
    outside = np.array([factorial(s) * factorial(d - s - 1) / factorial(d) for s in range(d)] + [0.0])
    matrix: Floats = np.where(masks, inside[sizes][:, None], -outside[sizes][:, None]).T
    return matrix


def enumerate_values(margin: Margin, background: FloatMatrix, x: FloatMatrix) -> Floats:
    """Values `(d, C)` of the row `x` `(d,)` over `background` `(b, d)`, in float64.

    `margin` maps `X` `(n, d)` to `(n, C)`. Cost: b 2^d rows of the model.
    """
    gain = margin(x[None])[0] - margin(background).mean(0)  # [C]
    masks = coalitions(background.shape[1])
    if len(masks) == 0:
        alone: Floats = gain[None]
        return alone
    pairs = np.stack([masks, ~masks])[:, :, None]  # [2, K, 1, d]
    rows = np.where(pairs, x, background)  # [2, K, b, d]
    answers = margin(rows.reshape(-1, rows.shape[-1])).reshape(2, len(masks), len(background), -1).mean(2)
    values: Floats = shapley_matrix(masks) @ (answers[0] - answers[1]) + gain / len(x)
    return values
