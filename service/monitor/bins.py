"""The bins in which one feature or score is counted, frozen with the package: what they are called, who falls where.

Distributions are compared in cells, which are bins with reference rows enough: values beyond the outermost edges belong
to the outermost bins, and bins that few reference rows fell into make one cell. In sparser ones PSI exceeds its
chi-squared quantile several times as often as it should.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.manifest import Feature
from service.reference import BinCounts, FeatureReference, ScoreReference

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

UNDERFLOW, BIN, UNSEEN, OVERFLOW, OTHER, MISSING = "underflow", "bin", "unseen", "overflow", "other", "missing"
# What counts toward each share that is judged by itself.
SHARES = {"missing": (MISSING,), "out_of_range": (UNDERFLOW, OVERFLOW), "unseen": (UNSEEN, OTHER)}
# A bin with fewer reference rows, or a smaller share of them, is rare: 200 rows hardly show it by chance.
LEAST_REFERENCE_ROWS = 5
LEAST_REFERENCE_SHARE = 0.025
RARE = "rare"


@dataclass(frozen=True, eq=False)
class Bins:
    """B bins of one feature or score.

    `words` name them for people, `kinds` say what they are; `reference` `(B,)` counts the m reference rows. `places`
    `(k+2,)` says which bin a value is in that stands behind j of the `edges` `(k+1,)`; category i is the value i.
    Bin b belongs to the cell `cells[cell_of[b]]`.
    """

    words: tuple[str, ...]
    kinds: tuple[str, ...]
    reference: Integers
    edges: NDArray[np.float32]
    places: Integers
    cells: tuple[str, ...]
    cell_of: Integers

    def __len__(self) -> int:
        """How many bins."""
        return len(self.kinds)

    @property
    def names(self) -> tuple[str, ...]:
        """What the `bin` label says: a number that sorts, and words."""
        return tuple(f"{digits} {words}" for digits, words in zip(_digits(len(self)), self.words, strict=True))

    @property
    def m(self) -> int:
        """Reference rows."""
        return int(self.reference.sum())

    def in_cells(self, counts: Integers) -> Integers:
        """Counts by bin `(B,)` -> by cell `(C,)`."""
        made: Integers = np.bincount(self.cell_of, counts, len(self.cells)).astype(np.int64)
        return made

    @property
    def missing(self) -> int | None:
        """The bin of missing values, if they are allowed."""
        return len(self) - 1 if self.kinds[-1] == MISSING else None

    def index(self, values: NDArray[np.float32]) -> Integers:
        """The bin of each of `values` `(n,)`, NaN where missing."""
        found = self.places[np.searchsorted(self.edges, values, side="right")]  # NaN sorts behind every edge
        if self.missing is not None:
            found[np.isnan(values)] = self.missing
        return found


class Table:
    """The bins of d features side by side: T in all, those of feature i from `starts[i]` on."""

    def __init__(self, columns: Sequence[Bins]) -> None:
        self.columns = columns
        self.starts = np.cumsum([0, *map(len, columns)])
        self.size = int(self.starts[-1])
        insertions = [len(bins.places) for bins in columns]
        self._first = np.cumsum([0, *insertions[:-1]])[:, None]
        self._place = np.concatenate([bins.places + start for bins, start in zip(columns, self.starts, strict=False)])
        self._nullable = [i for i, bins in enumerate(columns) if bins.missing is not None]

    def count(self, X: NDArray[np.float32]) -> Integers:
        """How many of the rows `X` `(n, d)` fall into each bin `(T,)`; every row into one of each feature."""
        columns = np.ascontiguousarray(X.T)
        found = np.empty(columns.shape, np.int64)
        for i, bins in enumerate(self.columns):
            found[i] = bins.edges.searchsorted(columns[i], side="right")
        found = self._place[found + self._first]
        for i in self._nullable:
            found[i, np.isnan(columns[i])] = self.starts[i + 1] - 1
        return np.bincount(found.ravel(), minlength=self.size)


def feature_bins(feature: Feature, reference: FeatureReference) -> Bins:
    """Those of a feature: missing values have a bin where they are allowed."""
    counts = reference.counts
    missing = [(MISSING, MISSING, counts.missing)] if feature.nullable else []
    if reference.edges is not None:
        return _made([*_numeric(reference.edges, counts, whole=feature.kind == "integer"), *missing], reference.edges)
    names = reference.categories or []
    cells = [(name, BIN if n else UNSEEN, n) for name, n in zip(names, counts.bins, strict=True)]
    K = len(names)
    if feature.kind == "categorical":
        cells.append((OTHER, OTHER, counts.other))
        outside = K, K
    else:  # a binary value is one of the two
        outside = 0, K - 1
    return _made([*cells, *missing], list(range(K + 1)), np.array([outside[0], *range(K), outside[1]]))


def score_bins(reference: ScoreReference) -> Bins:
    """Those of a class's probability."""
    return _made(_numeric(reference.edges, reference.counts), reference.edges)


def with_reference(bins: Bins, counts: BinCounts) -> Bins:
    """The same bins of scores with other reference rows, and so with cells of their own."""
    reference = np.array([counts.underflow, *counts.bins, counts.overflow], np.int64)
    return replace(bins, reference=reference, **_cells(bins.kinds, reference))


def _numeric(edges: list[float], counts: BinCounts, *, whole: bool = False) -> list[tuple[str, str, int]]:
    if whole:
        first, last = math.ceil(edges[0]), math.ceil(edges[-1]) - 1
        ranges = [_integers(math.ceil(low), math.ceil(high) - 1) for low, high in itertools.pairwise(edges)]
        return [
            (f"below {first}", UNDERFLOW, counts.underflow),
            *((words, BIN, n) for words, n in zip(ranges, counts.bins, strict=True)),
            (f"above {last}", OVERFLOW, counts.overflow),
        ]
    texts = _apart(edges)
    return [
        (f"below {texts[0]}", UNDERFLOW, counts.underflow),
        *((f"{low} to {high}", BIN, n) for (low, high), n in zip(itertools.pairwise(texts), counts.bins, strict=True)),
        (f"from {texts[-1]}", OVERFLOW, counts.overflow),
    ]


def _integers(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _apart(edges: list[float]) -> list[str]:
    """Edges with as few digits as tell them apart, four at least."""
    for digits in range(4, 17):
        texts = [f"{edge:.{digits}g}" for edge in edges]
        if len(set(texts)) == len(texts):
            break
    return texts


def _made(cells: list[tuple[str, str, int]], edges: Sequence[float], places: Integers | None = None) -> Bins:
    words, kinds, counts = zip(*cells, strict=True)
    if places is None:
        places = np.arange(len(edges) + 1)
    reference = np.array(counts, np.int64)
    return Bins(words, kinds, reference, np.array(edges, np.float32), places, **_cells(kinds, reference))


def _cells(kinds: Sequence[str], reference: Integers) -> dict[str, Any]:
    """`cells` and `cell_of`; the cell of rare bins is the last."""
    step = {UNDERFLOW: 1, OVERFLOW: -1}
    main = np.array([number + step.get(kind, 0) for number, kind in enumerate(kinds)])
    rows = np.bincount(main, reference, len(kinds))
    rare = rows[main] < max(LEAST_REFERENCE_ROWS, LEAST_REFERENCE_SHARE * reference.sum())
    digits = _digits(len(kinds))
    names = [RARE if is_rare else digits[number] for number, is_rare in zip(main, rare, strict=True)]
    made = tuple(sorted(set(names)))  # digits come before letters
    return {"cells": made, "cell_of": np.array([made.index(name) for name in names])}


def _digits(B: int) -> list[str]:
    """Numbers of the bins as text that sorts as they do."""
    width = max(2, len(str(B - 1)))
    return [f"{number:0{width}d}" for number in range(B)]
