"""The counts of one model version: how many, by combination of groups, were predicted what, and turned out how.

Kept per combination of groups (`JointGroup`), so that a row is added once however many sensitive features there are;
`exposition` adds them up for each feature. Additive, and never falling: float sums are of numbers from 0 up.
"""

import bisect
import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.manifest import Manifest
from service.monitor.drift_counters import DriftCounters, DriftLayout
from service.monitor.groups import JointGroup, JointGroups
from service.reference import Reference

# Of width 0.1; 1.0 belongs to the last.
SCORE_BINS = 10
SECONDS_PER_DAY = 86_400
# Seconds from a prediction to its outcome; an hour, a day, a week, a month, a quarter are among them.
DELAY_BUCKETS = (60, 600, 3600, 6 * 3600, 86400, 3 * 86400, 7 * 86400, 14 * 86400, 30 * 86400, 60 * 86400, 90 * 86400)

TABLES = (
    "predictions",
    "score_sum",
    "outcomes",
    "corrections",
    "outcome_score_sum",
    "outcome_score_bins",
    "attribution_rows",
    "attribution_sum",
    "margin_sum",
)

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


class Explained(NamedTuple):
    """SHAP values `(d,)` and the margin of one row, for the class that the monitor explains."""

    group: JointGroup
    values: Sequence[float]
    margin: float


class JoinedOutcome(NamedTuple):
    """The outcome of one recorded prediction. `corrected_from` is the class it was thought to be before, if any."""

    group: JointGroup
    predicted: int
    actual: int
    score: float
    delay_seconds: float
    corrected_from: int | None = None


@dataclass(slots=True)
class AttributionTotal:
    """SHAP values `(d,)` and margins of one day and combination of groups; `saved` of the rows are in the records."""

    sums: Floats
    rows: int = 0
    margin_sum: float = 0.0
    saved: int = 0


class Counters:
    """J combinations seen so far, K classes, d features. Not thread-safe: `FairnessMonitor` holds the lock."""

    def __init__(self, manifest: Manifest, reference: Reference | None = None) -> None:
        """Without a reference there is nothing to see drift against."""
        self.manifest = manifest
        self.groups = JointGroups(manifest)
        self.drift = None if reference is None else DriftCounters(DriftLayout(manifest, reference), self.groups)
        self.class_names = [str(label) for label in manifest.classes]
        self.class_index = {name: index for index, name in enumerate(self.class_names)}
        K, d = len(manifest.classes), len(manifest.features)
        self.predictions: Counts = np.zeros((0, K), np.int64)
        self.score_sum: Floats = np.zeros((0, K))
        self.outcomes: Counts = np.zeros((0, K, K), np.int64)  # predicted, actual
        self.corrections: Counts = np.zeros((0, K, K, K), np.int64)  # predicted, from, to
        self.outcome_score_sum: Floats = np.zeros((0, K))  # actual
        self.outcome_score_bins: Counts = np.zeros((0, SCORE_BINS, K), np.int64)
        self.attribution_rows: Counts = np.zeros(0, np.int64)
        self.attribution_sum: Floats = np.zeros((0, d, 2))  # sums of the positive and of the negated negative values
        self.margin_sum: Floats = np.zeros((0, 2))
        self.delay_counts: Counts = np.zeros(len(DELAY_BUCKETS) + 1, np.int64)
        self.delay_sum = 0.0
        # (first second of the day, JointGroup.text) -> what the records are told; past days go when they are saved.
        self.daily: dict[tuple[int, str], AttributionTotal] = {}
        self._make_room()

    def add_predictions(self, joint: Counts, predicted: Counts, scores: Floats) -> None:
        """Count n rows: numbers of their combinations, indices of the predicted class and scores, each `(n,)`."""
        self._make_room()
        tables = (
            (self.predictions, predicted, None),
            (self.score_sum, predicted, scores),
        )
        # In the order of rows, so that a float sum never falls by another order of adding; all or nothing.
        added = [np.bincount(joint * table.shape[1] + index, weights, table.size) for table, index, weights in tables]
        for (table, _, _), numbers in zip(tables, added, strict=True):
            table += numbers.reshape(table.shape).astype(table.dtype)

    def add_outcomes(self, joined: Sequence[JoinedOutcome]) -> None:
        """Count outcomes that were accepted, each once."""
        self._make_room()
        for outcome in joined:
            number, predicted, actual = outcome.group.number, outcome.predicted, outcome.actual
            if outcome.corrected_from is not None:
                self.corrections[number, predicted, outcome.corrected_from, actual] += 1
                continue
            self.outcomes[number, predicted, actual] += 1
            self.outcome_score_sum[number, actual] += outcome.score
            self.outcome_score_bins[number, min(int(outcome.score * SCORE_BINS), SCORE_BINS - 1), actual] += 1
            delay = max(0.0, outcome.delay_seconds)
            self.delay_counts[bisect.bisect_left(DELAY_BUCKETS, delay)] += 1
            self.delay_sum += delay

    def add_explained(self, explained: Sequence[Explained]) -> None:
        """Add the SHAP values of rows that were explained."""
        self._make_room()
        if self.drift is not None and explained:
            self.drift.add_explained(np.array([row.values for row in explained]))
        day = int(time.time() // SECONDS_PER_DAY * SECONDS_PER_DAY)
        for row in explained:
            values = np.array(row.values)
            total = self.daily.setdefault((day, row.group.text), AttributionTotal(np.zeros(len(values))))
            total.sums += values
            total.margin_sum += row.margin
            total.rows += 1
            self.attribution_rows[row.group.number] += 1
            self.attribution_sum[row.group.number] += np.stack([np.maximum(values, 0), np.maximum(-values, 0)], axis=1)
            self.margin_sum[row.group.number] += (max(row.margin, 0.0), max(-row.margin, 0.0))

    def copy(self) -> "Counters":
        """The same counts, which stay as they are."""
        made = copy.copy(self)
        for name in (*TABLES, "delay_counts"):
            setattr(made, name, getattr(self, name).copy())
        made.drift = copy.copy(self.drift)
        if made.drift is not None:
            made.drift.values = made.drift.values.copy()
        return made

    def by_group(self, table: NDArray[np.generic], set_index: int) -> NDArray[np.generic]:
        """`table` `(J, ...)` -> `(G, ...)`: added up for each group of `groups.sets[set_index]`."""
        made = np.zeros((len(self.groups.sets[set_index].groups), *table.shape[1:]), table.dtype)
        codes = [group.codes[set_index] for group in self.groups.all[: len(table)]]
        np.add.at(made, codes, table)
        return made

    def _make_room(self) -> None:
        """Rows for combinations that were seen since."""
        missing = len(self.groups.all) - len(self.predictions)
        if missing:
            for name in TABLES:
                table = getattr(self, name)
                setattr(self, name, np.concatenate([table, np.zeros((missing, *table.shape[1:]), table.dtype)]))


def bytes_per_combination(manifest: Manifest) -> int:
    """What one more combination of groups takes in memory."""
    counters = Counters(manifest)  # knows one combination, that of nobody
    return int(sum(getattr(counters, name).nbytes for name in TABLES)) // len(counters.groups.all)


def explained_class(manifest: Manifest) -> int | None:
    """The column of SHAP values that the monitor adds up: of the positive class, else of the favourable one."""
    if manifest.task == "binary":
        return 0
    label = manifest.positive_class if manifest.positive_class is not None else manifest.favourable_outcome
    return None if label is None else manifest.classes.index(label)
