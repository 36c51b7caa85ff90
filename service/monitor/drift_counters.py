"""What one model version is counted for to see drift: features, scores, estimated performance, explanations.

All counts stand in one array, so that a copy, a difference or a sum of two moments is one operation, and so that the
records keep them as one list. Additive, and never falling.
"""

import time

import numpy as np
from numpy.typing import NDArray

from service.manifest import Manifest
from service.monitor.bins import Bins, Table, feature_bins, score_bins, with_reference
from service.monitor.groups import GroupSet, JointGroups, group_sets
from service.monitor.slots import Slots
from service.reference import Calibrators, Reference, reference_id

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

# Beyond this a |SHAP value| says nothing of anybody else.
LARGEST_MAGNITUDE = 1e9


class DriftLayout:
    """Which number of the array counts what. Depends on the package alone: d features, K classes, G groups of a set."""

    def __init__(self, manifest: Manifest, reference: Reference) -> None:
        self.manifest = manifest
        self.reference = reference
        self.id = reference_id(manifest)
        self.table = Table([feature_bins(*pair) for pair in zip(manifest.features, reference.features, strict=True)])
        # label -> its column of the probabilities, and its bins
        self.scores: dict[str, tuple[int, Bins]] = {
            str(score.label): (manifest.classes.index(score.label), score_bins(score)) for score in reference.scores
        }
        # The declared sensitive features, without intersections, and their places among all sets.
        self.sets: list[tuple[int, GroupSet]] = [
            (place, made) for place, made in enumerate(group_sets(manifest)) if not made.is_intersection
        ]
        positive = None if manifest.positive_class is None else str(manifest.positive_class)
        self.positive: str | None = positive if positive in self.scores else None
        self.calibrators: Calibrators | None = reference.calibrators if self.positive is not None else None
        self.attributed = reference.attributions is not None
        self._slices: dict[str, tuple[slice, tuple[int, ...]]] = {}
        self.size = 0
        self._arrange()

    def _arrange(self) -> None:
        K = len(self.manifest.classes)
        self._add("features", self.table.size)
        for label, (_, bins) in self.scores.items():
            self._add(f"score {label}", len(bins))
        for _, made in self.sets:
            G = len(made.groups)
            if self.positive is not None:
                self._add(f"group score {made.name}", G, len(self.scores[self.positive][1]))
            if self.calibrators is not None:
                for name in ("predictions", "calibrated", "variance"):
                    self._add(f"{name} {made.name}", G, K)
        if self.attributed:
            self._add("magnitude", len(self.manifest.features))
            self._add("magnitude rows", 1)

    def _add(self, name: str, *shape: int) -> None:
        end = self.size + int(np.prod(shape))
        self._slices[name] = slice(self.size, end), shape
        self.size = end

    def view(self, values: Floats, name: str) -> Floats:
        """The part of `values` `(size,)` called `name`, in its shape."""
        part, shape = self._slices[name]
        return values[part].reshape(shape)

    def of_feature(self, values: Floats, number: int) -> Floats:
        """The counts of one feature `(B,)`."""
        starts = self.table.starts
        return self.view(values, "features")[starts[number] : starts[number + 1]]

    def group_bins(self, made: GroupSet) -> dict[str, Bins]:
        """The score bins of the groups whose scores the reference counted, by group."""
        if self.positive is None:
            return {}
        bins = self.scores[self.positive][1]
        known = self.reference.groups.get(made.name, {})
        return {
            group: with_reference(bins, scores)
            for group in made.declared
            if group in known and (scores := known[group].scores) is not None
        }


class DriftCounters:
    """The counts of a layout since the start, and by slots of time. Not thread-safe: `FairnessMonitor` has the lock."""

    def __init__(self, layout: DriftLayout, groups: JointGroups) -> None:
        self.layout = layout
        self.values: Floats = np.zeros(layout.size)
        self.slots = Slots(layout.size)
        self._groups = groups
        self._codes: Integers = np.zeros((0, len(layout.sets)), np.int64)
        self._curves = [] if layout.calibrators is None else [_curve(layout.calibrators, s) for _, s in layout.sets]

    def add(
        self, X: NDArray[np.float32], probability: NDArray[np.float32], joint: Integers, predicted: Integers
    ) -> None:
        """Count n rows: `X` `(n, d)`, `probability` `(n, K)`, numbers of their combinations and predicted class."""
        if not len(X) == len(probability) == len(joint) == len(predicted):
            raise ValueError("features, scores, groups and predictions of the same rows are expected")
        layout, K = self.layout, len(self.layout.manifest.classes)
        added = np.zeros(layout.size)
        layout.view(added, "features")[:] = layout.table.count(X)
        bin_of: dict[str, Integers] = {}
        for label, (column, bins) in layout.scores.items():
            bin_of[label] = bins.index(probability[:, column])
            layout.view(added, f"score {label}")[:] = np.bincount(bin_of[label], minlength=len(bins))
        if layout.positive is not None:
            column, bins = layout.scores[layout.positive]
            score = probability[:, column].astype(np.float64)
            codes = self._codes_of(joint)
            for place, (_, made) in enumerate(layout.sets):
                group = codes[:, place]
                of_group = layout.view(added, f"group score {made.name}")
                index = group * len(bins) + bin_of[layout.positive]
                of_group[:] = np.bincount(index, minlength=of_group.size).reshape(of_group.shape)
                if layout.calibrators is not None:
                    p = np.interp(score + 2 * group, *self._curves[place])
                    index = group * K + predicted
                    for name, weights in (("predictions", None), ("calibrated", p), ("variance", p * (1 - p))):
                        cells = layout.view(added, f"{name} {made.name}")
                        cells[:] = np.bincount(index, weights, cells.size).reshape(cells.shape)
        self.slots.begin(self.values, time.time())
        self.values += added

    def add_explained(self, values: Floats) -> None:
        """Add the SHAP values `(n, d)` of rows that were explained.

        Rows whose values would drown all others in a sum of floats, or are no numbers, are left out.
        """
        values = np.abs(values)
        values = values[(values <= LARGEST_MAGNITUDE).all(axis=1)]
        if self.layout.attributed and len(values):
            self.slots.begin(self.values, time.time())
            self.layout.view(self.values, "magnitude")[:] += values.sum(axis=0)
            self.layout.view(self.values, "magnitude rows")[:] += len(values)

    def _codes_of(self, joint: Integers) -> Integers:
        """The group of each row `(n,)` in each set `(n, S)`."""
        combinations = self._groups.all
        if len(self._codes) < len(combinations):
            places = [place for place, _ in self.layout.sets]
            self._codes = np.array([[made.codes[place] for place in places] for made in combinations], np.int64)
            self._codes = self._codes.reshape(len(combinations), len(places))
        return self._codes[joint]


def _curve(calibrators: Calibrators, made: GroupSet) -> tuple[Floats, Floats]:
    """The calibration curves of all groups as one, that of group g on [2g, 2g + 1]; groups without one, the pooled."""
    own = calibrators.groups.get(made.name, {})
    x, y = [], []
    for number, group in enumerate(made.groups):
        curve = own.get(group, calibrators.pooled)
        # Constant beyond the outermost points.
        x += [2.0 * number, *(2 * number + np.array(curve.scores)).tolist(), 2 * number + 1.0]
        y += [curve.probabilities[0], *curve.probabilities, curve.probabilities[-1]]
    return np.array(x), np.array(y)
