"""Counts from the records -> tables by group, one for each sensitive feature and intersection. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.manifest import Manifest
from service.monitor.counters import SCORE_BINS, explained_class
from service.monitor.groups import GroupSet, JointGroups

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


# (groups as JSON, predicted, actual or None, score bin, n, sum of the n scores): predictions that are alike.
CellCount = tuple[str, str, str | None, int, int, float]
# (groups as JSON, rows, sum of margins, sums of SHAP values `(d,)`): explained rows, added up.
AttributionSum = tuple[str, int, float, Sequence[float]]
# (group of each part, predicted, actual or None, score bin): what predictions that are alike have in common.
Combination = tuple[tuple[int, ...], int, int | None, int]


@dataclass(frozen=True, slots=True)
class GroupTable:
    """Everything counted about the G groups of one sensitive feature; K classes, d features."""

    made: GroupSet
    predicted: Counts  # (G, K)
    cells: Counts  # (G, K, K) predicted, actual; rows with an outcome
    score_sum: Floats  # (G, K) by actual
    bins: Counts  # (G, SCORE_BINS, K, K) predicted, actual; rows with an outcome
    bin_score_sum: Floats  # (G, SCORE_BINS), rows with an outcome
    combinations: Counter[Combination]  # an intersection's, finer than its groups: each part with its reserved groups
    explained: Counts  # (G,)
    margin_sum: Floats  # (G,)
    attribution_sum: Floats  # (G, d)

    @property
    def n(self) -> Counts:
        """Predictions of each group `(G,)`."""
        made: Counts = self.predicted.sum(axis=1)
        return made

    @property
    def labelled(self) -> Counts:
        """Those with an outcome `(G,)`."""
        made: Counts = self.cells.sum(axis=(1, 2))
        return made

    @property
    def unlabelled(self) -> Counts:
        """Those without, by predicted class `(G, K)`."""
        made: Counts = self.predicted - self.cells.sum(axis=2)
        return made


def tally(
    manifest: Manifest, counts: Iterable[CellCount], attributions: Iterable[AttributionSum] = ()
) -> list[GroupTable]:
    """One table for each sensitive feature and intersection of `manifest`, in that order.

    Groups and classes that this manifest does not declare count as `other`, and not at all.
    """
    joint = JointGroups(manifest)
    classes = {str(label): index for index, label in enumerate(manifest.classes)}
    K, d = len(classes), len(manifest.features)
    tables = [
        GroupTable(
            made,
            np.zeros((G, K), np.int64),
            np.zeros((G, K, K), np.int64),
            np.zeros((G, K)),
            np.zeros((G, SCORE_BINS, K, K), np.int64),
            np.zeros((G, SCORE_BINS)),
            Counter(),
            np.zeros(G, np.int64),
            np.zeros(G),
            np.zeros((G, d)),
        )
        for made in joint.sets
        for G in [len(made.groups)]
    ]
    places = {feature.name: place for place, feature in enumerate(manifest.sensitive_features)}
    intersections = [
        (table, [places[part] for part in table.made.parts]) for table in tables if table.made.is_intersection
    ]
    for groups, predicted_label, actual_label, number, n, score_sum in counts:
        predicted = classes.get(predicted_label)
        if predicted is None:
            continue
        actual = classes.get(actual_label) if actual_label is not None else None
        codes = joint.of_text(groups).codes
        for table, parts in intersections:
            table.combinations[tuple(codes[part] for part in parts), predicted, actual, number] += n
        for table, group in zip(tables, codes, strict=True):
            table.predicted[group, predicted] += n
            if actual is not None:
                table.cells[group, predicted, actual] += n
                table.score_sum[group, actual] += score_sum
                table.bins[group, number, predicted, actual] += n
                table.bin_score_sum[group, number] += score_sum
    if explained_class(manifest) is not None:
        for groups, n, margin_sum, sums in attributions:
            if len(sums) != d:
                continue
            for table, group in zip(tables, joint.of_text(groups).codes, strict=True):
                table.explained[group] += n
                table.margin_sum[group] += margin_sum
                table.attribution_sum[group] += np.array(sums)
    return tables
