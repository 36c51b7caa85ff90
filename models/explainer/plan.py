"""Stratified row plans: which coalitions each background row is asked about, and the linear map that uses the answers.

One small design of coalition pairs (S and its complement) is drawn by leverage, without replacement and balanced within
each size (Musco & Witter, ICLR 2025); every background row gets it under its own shuffle of the players. Nothing here
knows a model, ONNX or the rows themselves.

With players d, z_S the indicator of S, o_S = v(S) - v(complement of S) and sizes s = |S|, weighted least squares fits

    o_S ~ mu_s + 2 (z_S - s/d)' (phi + g(s) gamma),     weight k(s) C(d,s) / n_s = (d-1) / (s (d-s) n_s)

mu_s (what depends on the size only) and gamma (slopes that vary with the size, g quadratic with mean 0 over the sizes)
are nuisance: in KernelSHAP both leak into phi, and on saturating networks they are most of its error. `whole` holds the
rows that yield phi, so that per background row j

    phi_j = whole' o_j + (f(x) - f(b_j)) / d,       phi = mean_j phi_j

The columns of `whole` sum to 0, so the values sum to f(x) - base whatever the sampling error. Pairing makes phi exact
for every game of interactions of at most two players, and mu for every symmetric game.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np

from models.task import Booleans, FloatMatrix, Floats, Integers
from service.errors import PackageError

MIN_PLAYERS, MAX_PLAYERS = 8, 64
MAX_CONDITION = 1e6
# Draws in a row that may give a coalition drawn before, until the size counts as used up.
FUTILE_DRAWS = 50

Margin = Callable[[FloatMatrix], Floats]


@dataclass(frozen=True)
class Plan:
    """A design `masks` `[2, h, d]` in two halves, each of them a design by itself, and a shuffle per background row.

    `masks` is True where a place of the design is in S; the complement is implied. In background row j, player i takes
    place `places[j, i]` (`[b, d]`). `counts` holds the number of coalitions of each size 1, 2, ... in either half.
    """

    masks: Booleans
    counts: Integers
    places: Integers

    @property
    def n_evals(self) -> int:
        """Model rows per explanation: every coalition and its complement, for every background row."""
        _, h, _ = self.masks.shape
        return 4 * int(h) * len(self.places)

    @cached_property
    def whole(self) -> Floats:
        """The map `[2h, d]` from o to the values of the places, by all coalitions."""
        return _solve(self.masks.reshape(-1, self.masks.shape[-1]), np.tile(self._weights, 2))

    @cached_property
    def halves(self) -> Floats:
        """The maps `[2, h, d]` of the halves alone, two independent estimates of the same."""
        return np.stack([_solve(masks, self._weights) for masks in self.masks])

    def condition(self) -> float:
        """The worst condition number of the design or a half, among values that sum to 0; inf if one is singular."""
        half = [_condition(masks, self._weights) for masks in self.masks]
        return max(*half, _condition(self.masks.reshape(-1, self.masks.shape[-1]), np.tile(self._weights, 2)))

    def digest(self) -> bytes:
        """SHA-256 over everything that the plan adds to the numbers."""
        digest = hashlib.sha256(repr((self.masks.shape, self.places.shape)).encode())
        for part in (np.packbits(self.masks), self.counts.astype("<i8"), self.places.astype("<i8")):
            digest.update(part.tobytes())
        return digest.digest()

    @property
    def _weights(self) -> Floats:
        d = self.masks.shape[-1]
        sizes = np.arange(1, len(self.counts) + 1)
        return np.repeat((d - 1) / (sizes * (d - sizes) * np.maximum(self.counts, 1)), self.counts)


def make_plan(n_players: int, n_background: int, half_pairs: int, seed: int, *, doubled: bool = False) -> Plan:
    """Draw a plan of two halves of about `half_pairs` coalition pairs; doubled, its first half is the plan that is not.

    At least 4 pairs per player serve well: a half fits 2.5 unknowns per player. Where a design is conditioned worse
    than 1e6, pairs are added. Raises PackageError if that does not help, or for fewer than 8 or more than 64 players.
    """
    if not MIN_PLAYERS <= n_players <= MAX_PLAYERS:
        raise PackageError(f"a stratified plan takes {MIN_PLAYERS} to {MAX_PLAYERS} players, not {n_players}")
    places = np.stack([np.random.default_rng([seed, j]).permutation(n_players) for j in range(n_background)])
    for _ in range(6):
        counts = _allocate(n_players, half_pairs)
        blocks = _draw_blocks(n_players, counts, 4 if doubled else 2, seed)
        plan = Plan(_merge(blocks, counts) if doubled else blocks, counts * (2 if doubled else 1), places)
        if plan.condition() < MAX_CONDITION:
            return plan
        half_pairs += half_pairs // 2
    raise PackageError(f"no design of {n_players} players reaches a condition below {MAX_CONDITION:g}")


def estimate(margin: Margin, background: FloatMatrix, plan: Plan, x: FloatMatrix) -> tuple[Floats, Floats]:
    """Values and standard errors, each `(d, C)`, of the row `x` `(d,)` in float64: what the compiled graph computes.

    `margin` maps `X` `(n, d)` to `(n, C)`. The standard error compares the halves, with about b degrees of freedom:
    SE^2 = sum_j (phi_j1 - phi_j2)^2 / (4 b^2).
    """
    _, h, d = plan.masks.shape
    b = len(background)
    values, spreads = [], []
    for j, places in enumerate(plan.places):
        masks = plan.masks.reshape(2 * h, d)[:, places]
        pairs = margin(np.where(np.concatenate([masks, ~masks]), x, background[j]))  # [4h, C]
        odd = pairs[: 2 * h] - pairs[2 * h :]
        values.append((plan.whole.T @ odd)[places])
        spreads.append((plan.halves[0].T @ odd[:h] - plan.halves[1].T @ odd[h:])[places])
    gain = margin(x[None])[0] - margin(background).mean(0)  # [C]
    return np.mean(values, axis=0) + gain / d, np.sqrt(np.sum(np.square(spreads), axis=0)) / (2 * b)


def _pool(d: int, size: int) -> int:
    """How many pairs have a member of `size` players."""
    return comb(d, size) // 2 if 2 * size == d else comb(d, size)


def _allocate(d: int, pairs: int) -> Integers:
    """Pairs per size 1..d//2: the leverage of S is 1 / C(d, s), so sizes s and d - s, one stratum here, weigh alike.

    At most a quarter of what a size holds, so that the doubled plan repeats no coalition; at least 1.
    """
    sizes = range(1, d // 2 + 1)
    limits = np.array([max(1.0, _pool(d, s) // 4) for s in sizes])
    shares = np.array([0.5 if 2 * s == d else 1.0 for s in sizes])
    low, high = 0.0, float(pairs)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(middle * shares, limits).sum() < pairs else (low, middle)
    counts: Integers = np.maximum(np.round(np.minimum(high * shares, limits)), 1).astype(np.int64)
    return counts


def _draw_blocks(d: int, counts: Integers, n_blocks: int, seed: int) -> Booleans:
    """`n_blocks` blocks `[n_blocks, h, d]` by size, each balanced; more blocks leave the earlier ones as they are."""
    by_size = []
    for size, count in enumerate(counts, start=1):
        rng = np.random.default_rng([seed, d, size])
        drawn: set[bytes] = set()
        by_size.append([_draw(rng, d, size, int(count), drawn) for _ in range(n_blocks)])
    return np.stack([np.concatenate(block) for block in zip(*by_size, strict=True)])


def _draw(rng: np.random.Generator, d: int, size: int, n: int, drawn: set[bytes]) -> Booleans:
    """`n` coalitions `[n, d]` of `size` players, all players in them about equally often, none of them in `drawn`."""
    used = np.zeros(d)
    masks: list[Booleans] = []
    futile = 0
    while len(masks) < n:
        # The least used players first, at random among equals; at random altogether if that gave nothing new.
        order = np.argsort(rng.random(d) + (used if futile == 0 else 0))
        mask = np.zeros(d, np.bool_)
        mask[order[:size]] = True
        if {mask.tobytes(), (~mask).tobytes()} & drawn and futile < FUTILE_DRAWS:
            futile += 1
            continue
        futile = 0
        drawn.add(mask.tobytes())
        used += mask
        masks.append(mask)
    return np.stack(masks)


def _merge(blocks: Booleans, counts: Integers) -> Booleans:
    """Four blocks `[4, h, d]` as two halves `[2, 2h, d]`, again by size."""
    sizes = np.tile(np.repeat(np.arange(len(counts)), counts), 2)
    order = np.argsort(sizes, kind="stable")
    return blocks.reshape(2, -1, blocks.shape[-1])[:, order]


def _regressors(masks: Booleans) -> tuple[Floats, Floats]:
    """Columns of the fit for `masks` `[n, d]`: those of phi `[n, d]`, and those of the nuisance `[n, d + sizes]`."""
    d = masks.shape[1]
    sizes = masks.sum(1)
    centred = 2 * (masks - sizes[:, None] / d)
    curve = (2 * np.arange(1, d) / d - 1) ** 2
    g = (2 * sizes / d - 1) ** 2 - curve.mean()
    return centred, np.concatenate([centred * g[:, None], sizes[:, None] == np.unique(sizes)], axis=1)


def _residual(masks: Booleans, weights: Floats) -> tuple[Floats, Floats]:
    """What the nuisance leaves of phi's columns, times sqrt(weight): `[n, d]`; and sqrt(weight) `[n, 1]`."""
    root = np.sqrt(weights)[:, None]
    columns, nuisance = (part * root for part in _regressors(masks))
    # By an orthonormal basis: the nuisance columns are dependent, as the centred ones sum to 0.
    basis, singular, _ = np.linalg.svd(nuisance, full_matrices=False)
    basis = basis[:, singular > singular[0] * 1e-10]
    return columns - basis @ (basis.T @ columns), root


def _condition(masks: Booleans, weights: Floats) -> float:
    columns, _ = _residual(masks, weights)
    # Ascending; the first eigenvalue, of the ones vector, is 0.
    spectrum = np.linalg.eigvalsh(columns.T @ columns)
    return float(spectrum[-1] / spectrum[1]) if spectrum[1] > 0 else np.inf


def _solve(masks: Booleans, weights: Floats) -> Floats:
    """The map `[n, d]` from o `[n]` to phi. Never by a pseudo-inverse of the singular matrix: that loses efficiency."""
    d = masks.shape[1]
    columns, root = _residual(masks, weights)
    gram = columns.T @ columns
    solved = np.linalg.solve(gram / np.trace(gram) + np.ones((d, d)) / d, columns.T / np.trace(gram)).T * root
    balanced: Floats = solved - solved.mean(1, keepdims=True)
    return balanced
