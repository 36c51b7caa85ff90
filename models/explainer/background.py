"""The background: real rows that stand for the population, picked by kernel herding, with the discrepancy they leave.

Greedy herding (Chen, Welling and Smola, UAI 2010) with a Gaussian kernel, bandwidth by the median heuristic, on
standardised numbers. Fewer such rows leave the error that two to three times as many random ones do.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.task import FloatMatrix, Floats, Integers
from service.manifest import Feature

# The kernel matrix of more rows than this takes seconds; a random sample of the population stands for it then.
MAX_POPULATION = 2_000


@dataclass(frozen=True)
class Background:
    """`rows` `(b, d)` float32 of the population, and how far they are from it.

    `discrepancy` is the maximum mean discrepancy to the population (0 if equal, kernel units); `random_discrepancy` is
    what as many random rows leave, the median of 20 draws.
    """

    rows: FloatMatrix
    discrepancy: float
    random_discrepancy: float

    @property
    def id(self) -> str:
        """SHA-256 of the rows, as little-endian float32 in row order."""
        return f"sha256:{hashlib.sha256(np.ascontiguousarray(self.rows, '<f4').tobytes()).hexdigest()}"


def herd(population: FloatMatrix, features: Sequence[Feature], n_rows: int, seed: int) -> Background:
    """Pick `n_rows` different rows of `population` `(n, d)`, the most telling first.

    The first b of them are what `n_rows=b` picks. Cost: the square of min(n, 2000) kernel values.
    """
    rng = np.random.default_rng(seed)
    if len(population) > MAX_POPULATION:
        population = population[np.sort(rng.choice(len(population), MAX_POPULATION, replace=False))]
    n_rows = min(n_rows, len(population))
    kernel = _kernel(_standardised(population, features))
    picked = _herd(kernel, n_rows)
    draws = [rng.choice(len(population), n_rows, replace=False) for _ in range(20)]
    random = float(np.median([_discrepancy(kernel, draw) for draw in draws]))
    return Background(population[picked], _discrepancy(kernel, picked), random)


def _standardised(population: FloatMatrix, features: Sequence[Feature]) -> Floats:
    """Columns in which a distance of 1 means about as much everywhere: numbers by their standard deviation, binary
    ones as they are, a categorical one as an indicator per category, a missing value as the mean plus an indicator.
    """
    columns: list[Floats] = []
    for column, feature in zip(population.T.astype(np.float64), features, strict=True):
        missing = np.isnan(column)
        if feature.categories is not None:
            # Two different categories are at distance 1.
            columns += [(column == i) / np.sqrt(2) for i in range(len(feature.categories))]
        elif feature.kind == "binary":
            columns.append(np.where(missing, 0.5, column))
        elif not missing.all():
            known = column[~missing]
            columns.append(np.where(missing, 0, (column - known.mean()) / (known.std() or 1.0)))
        if missing.any():
            columns.append(missing.astype(np.float64))
    return np.stack(columns, axis=1)


def _kernel(Z: Floats) -> Floats:
    """Gaussian kernel `[n, n]` with the median squared distance as its bandwidth."""
    squares = (Z**2).sum(1)
    distances = np.maximum(squares[:, None] + squares - 2 * Z @ Z.T, 0)
    positive = distances[distances > 0]
    kernel: Floats = np.exp(-distances / (np.median(positive) if positive.size else 1.0))
    return kernel


def _herd(kernel: Floats, n_rows: int) -> Integers:
    mean = kernel.mean(1)
    total = np.zeros(len(kernel))
    picked: list[int] = []
    for count in range(1, n_rows + 1):
        score = mean - total / count
        score[picked] = -np.inf
        picked.append(int(score.argmax()))
        total += kernel[picked[-1]]
    return np.array(picked)


def _discrepancy(kernel: Floats, picked: Integers) -> float:
    squared = kernel.mean() - 2 * kernel[picked].mean() + kernel[np.ix_(picked, picked)].mean()
    return float(np.sqrt(max(squared, 0.0)))
