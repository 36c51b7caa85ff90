"""Interventional tree SHAP as lookups: per leaf, the values of every pattern of answers to its questions.

With p the answers of x to the slots of leaf l, q those of a background row and f_l[q] the share of background rows that
answer so (Nadel and Wettenstein, Woodelf, AAAI 2026):

    A = {i: p_i, not q_i},  Q = {i: not p_i, q_i};   nothing from q if some i has neither
    w(i in A) = (|A|-1)! |Q|! / (|A|+|Q|)!,   w(i in Q) = -|A|! (|Q|-1)! / (|A|+|Q|)!
    T_l[p, i] = sum_q f_l[q] w(i; p, q),      phi_i(x) = sum_l value_l T_l[p_l(x), i]

Leaves whose tables would be too large keep their distinct background patterns instead, and the sum over q is left to
the moment of explaining. Each leaf's slots must belong to different players.
"""

from dataclasses import dataclass
from math import factorial

import numpy as np

from models.explainer.trees import Leaves
from models.task import Booleans, FloatMatrix, Floats, Integers

MAX_TABLE_SLOTS = 10
# Elements of one block of pattern weights while tables are filled, 8 bytes each.
BLOCK_ELEMENTS = 2_000_000


@dataclass(frozen=True)
class Tables:
    """Unit tables (before `value_l`) of `leaves`: the row of pattern p of leaf l is `offset[l] + p`."""

    leaves: Leaves
    rows: Floats  # [sum of 2^size, D], 0 in empty slots
    offset: Integers  # [L]


@dataclass(frozen=True)
class Patterns:
    """Distinct background patterns of `leaves`: `patterns` `[L, Q, D]` and their `share` `[L, Q]`, 0 where unused."""

    leaves: Leaves
    patterns: Booleans
    share: Floats


def weights(most: int) -> tuple[Floats, Floats]:
    """w(i in A) and w(i in Q), each `[most + 1, most + 1]` by |A| and |Q|; 0 where the set is empty."""
    inside, outside = np.zeros((2, most + 1, most + 1))
    for a in range(most + 1):
        for q in range(most + 1):
            if a:
                inside[a, q] = factorial(a - 1) * factorial(q) / factorial(a + q)
            if q:
                outside[a, q] = -factorial(a) * factorial(q - 1) / factorial(a + q)
    return inside, outside


def credit(p: Booleans, q: Booleans) -> Floats:
    """w(i; p, q) `[..., k]` of the patterns `p` and `q`, which broadcast."""
    ours, theirs = p & ~q, ~p & q
    inside, outside = weights(p.shape[-1])
    n_ours, n_theirs = ours.sum(-1), theirs.sum(-1)
    reachable = (p | q).all(-1)
    return np.where(ours, (inside[n_ours, n_theirs] * reachable)[..., None], 0) + np.where(
        theirs, (outside[n_ours, n_theirs] * reachable)[..., None], 0
    )


def make_tables(leaves: Leaves, T: FloatMatrix) -> Tables:
    """Tables of leaves of 1 to 10 slots over the background `T` `[b, columns]`."""
    offset = np.cumsum(1 << leaves.size) - (1 << leaves.size)
    rows = np.zeros((int((1 << leaves.size).sum()), leaves.column.shape[1]))
    codes = leaves.bits(T) @ (1 << np.arange(leaves.column.shape[1]))  # [b, L]; empty slots say yes
    for k in np.unique(leaves.size):
        index = np.flatnonzero(leaves.size == k)
        share = np.stack([np.bincount(codes[:, leaf] & ((1 << k) - 1), minlength=1 << k) for leaf in index]) / len(T)
        for leaf, table in zip(index, _fill(int(k), share), strict=True):
            rows[offset[leaf] : offset[leaf] + (1 << k), :k] = table.reshape(-1, k)
    return Tables(leaves, rows, offset)


def _fill(k: int, share: Floats) -> Floats:
    """Tables `[L, 2^k k]` of leaves of k slots from their pattern shares `[L, 2^k]`."""
    patterns = (np.arange(1 << k)[:, None] >> np.arange(k) & 1).astype(np.bool_)  # [2^k, k]
    step = max(1, BLOCK_ELEMENTS // max(1, k << k))
    blocks = []
    for start in range(0, 1 << k, step):
        block = credit(patterns[start : start + step], patterns[:, None])  # [q, p, i]
        blocks.append(share @ block.reshape(len(patterns), -1))
    return np.concatenate(blocks, axis=1)


def make_patterns(leaves: Leaves, T: FloatMatrix) -> Patterns:
    """The distinct patterns of the background `T` `[b, columns]` at each leaf."""
    bits = leaves.bits(T)  # [b, L, D]
    found = [np.unique(bits[:, leaf], axis=0, return_counts=True) for leaf in range(len(leaves.size))]
    most = max(len(counts) for _, counts in found)
    patterns = np.ones((len(found), most, bits.shape[2]), np.bool_)
    share = np.zeros((len(found), most))
    for leaf, (distinct, counts) in enumerate(found):
        patterns[leaf, : len(counts)], share[leaf, : len(counts)] = distinct, counts / len(T)
    return Patterns(leaves, patterns, share)


def table_bytes(leaves: Leaves) -> int:
    """Size of the tables of `leaves` as float32."""
    return int(4 * leaves.column.shape[1] * (1 << leaves.size).sum())
