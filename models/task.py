"""What a model is asked and from which rows it learns: the declaration, the rows, the splits.

Knows no learning library and no ONNX. Rows of all three models have one form: raw features in the caller's units,
categories as indices, missing values as NaN, exactly as they enter the served graph.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.manifest import Feature, SensitiveFeature

FloatMatrix = NDArray[np.float32]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Strings = NDArray[np.str_]


@dataclass(frozen=True)
class Declaration:
    """What is decided, from which features, and for which groups it is watched. All of it is declared by hand.

    `classes` holds two names, the positive class second: column 1 of `probability` and label 1 of `Rows.y`.
    """

    name: str
    description: str
    classes: tuple[str, str]
    favourable_outcome: str
    features: Sequence[Feature]
    sensitive_features: Sequence[SensitiveFeature] = ()
    intersections: Sequence[Sequence[str]] = ()

    @property
    def positive_class(self) -> str:
        """The class that `margin` and `threshold` are about."""
        return self.classes[1]

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns of `X`, in order."""
        return [feature.name for feature in self.features]


@dataclass(frozen=True)
class Rows:
    """Labelled rows. `X` `(n, d)` float32 as the graph takes it; `y` `(n,)` 1 for the positive class, else 0.

    `groups` holds, per sensitive feature, the group of each row `(n,)`; it is empty where the data knows none.
    """

    X: FloatMatrix
    y: Integers
    groups: dict[str, Strings] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many rows."""
        return len(self.y)

    def take(self, index: Integers | Booleans) -> "Rows":
        """The rows at `index` (positions, or a mask `(n,)`), in that order."""
        return Rows(self.X[index], self.y[index], {name: group[index] for name, group in self.groups.items()})


@dataclass(frozen=True)
class Splits:
    """Training rows fit the weights; validation rows stop the training and set the threshold; held-out rows judge."""

    training: Rows
    validation: Rows
    held_out: Rows

    @property
    def unseen(self) -> Rows:
        """Validation and held-out rows together: whatever did not fit the weights."""
        both = (self.validation, self.held_out)
        groups = {name: np.concatenate([rows.groups[name] for rows in both]) for name in self.held_out.groups}
        X, y = np.concatenate([rows.X for rows in both]), np.concatenate([rows.y for rows in both])
        return Rows(X, y, groups)

    def fingerprint(self) -> str:
        """SHA-256 over the bytes of every row, label and group, in split order: changes when any of them does."""
        return fingerprint(self.training, self.validation, self.held_out)


def fingerprint(*parts: Rows) -> str:
    """SHA-256 over the bytes of every row, label and group of `parts`, in order."""
    digest = hashlib.sha256()
    for rows in parts:
        digest.update(np.ascontiguousarray(rows.X, "<f4").tobytes())
        digest.update(np.ascontiguousarray(rows.y, "<i8").tobytes())
        for name in sorted(rows.groups):
            digest.update("\0".join([name, *rows.groups[name].tolist()]).encode())
    return f"sha256:{digest.hexdigest()}"


def stratified_splits(rows: Rows, *, fractions: tuple[float, float, float], seed: int) -> Splits:
    """Shuffle within each class and cut into training, validation and held-out by `fractions` (they sum to 1)."""
    rng = np.random.default_rng(seed)
    parts: tuple[list[Integers], ...] = ([], [], [])
    for label in (0, 1):
        index = rng.permutation(np.flatnonzero(rows.y == label))
        cuts = np.round(np.cumsum(fractions[:2]) * len(index)).astype(int)
        for part, chunk in zip(parts, np.split(index, cuts), strict=True):
            part.append(chunk)
    training, validation, held_out = (rng.permutation(np.concatenate(part)) for part in parts)
    return Splits(rows.take(training), rows.take(validation), rows.take(held_out))
