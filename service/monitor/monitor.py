"""The fairness monitor: takes finished inferences, counts them later and in bulk, and never fails a request.

Knows models by their manifest only. A prediction that is being recorded counts once its record is committed; one that
was recorded before, a retry, does not count again.
"""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import structlog
from numpy.typing import NDArray

from service.manifest import Manifest
from service.monitor.counters import AttributionTotal, Counters, Explained, JoinedOutcome, explained_class
from service.monitor.drift_counters import DriftCounters, Floats
from service.monitor.groups import JointGroup
from service.reference import Reference

log = structlog.get_logger(__name__)

Floats32 = NDArray[np.float32]

# Counting costs some 100 us and then 1 to 2 us a row: it waits for company, but not longer than this, and not for so
# much that requests would notice.
FLUSH_SECONDS = 0.25
FLUSH_ROWS = 512
# Where an endpoint leaves its inference in the request's ASGI scope.
INFERENCE = "plumbline.inference"


class Recording(Protocol):
    """What becomes of the records of an inference."""

    @property
    def settled(self) -> bool:
        """Whether the records are committed or given up."""

    @property
    def failed(self) -> bool:
        """Whether they were given up."""

    @property
    def repeated(self) -> Collection[int]:
        """Rows whose id was recorded before."""


@dataclass(slots=True)
class Inference:
    """n answered rows: the groups, the index of the predicted class and the score of each.

    `explanations` are the entries of the response, where they may be counted: those of a filtered request are a
    selection by outcome and would bend the means.
    """

    counters: Counters
    groups: Sequence[JointGroup]
    predicted: Sequence[int]
    scores: Sequence[float]
    explanations: Sequence[dict[str, Any]] = ()
    recording: Recording | None = None
    X: Floats32 | None = None  # (n, d), with `probability` (n, K): for drift, where the package has a reference
    probability: Floats32 | None = None
    model: Any = None  # stays until this is counted


@dataclass(eq=False)
class FairnessMonitor:
    """Counters of every model, and the inferences that wait to be counted. `take` belongs to the event loop."""

    failures: int = 0
    last_success_seconds: float = field(default_factory=time.time)
    _counters: WeakKeyDictionary[Any, Counters] = field(default_factory=WeakKeyDictionary)
    _waiting: list[Inference] = field(default_factory=list)
    _waiting_rows: int = 0
    _failing: bool = False
    _timer: asyncio.TimerHandle | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, model: Any, manifest: Manifest, reference: Reference | None = None) -> Counters:
        """The counters of `model`, which live as long as it does."""
        with self._lock:  # a scrape may be the first to ask, at the same time as a request
            counters = self._counters.get(model)
            if counters is None:
                counters = self._counters[model] = Counters(manifest, reference)
            return counters

    def take(self, inference: Inference) -> None:
        """Count `inference` soon."""
        self._waiting.append(inference)
        self._waiting_rows += len(inference.groups)
        if self._waiting_rows >= FLUSH_ROWS:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Count what waits, except what is still being recorded. Failures are counted and logged, never raised."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting, self._waiting_rows = self._waiting, [], 0
        failed = 0
        ready: dict[Counters, list[Inference]] = defaultdict(list)
        for inference in waiting:
            recording = inference.recording
            if recording is None:
                ready[inference.counters].append(inference)
            elif not recording.settled:
                self._waiting.append(inference)
            elif not recording.failed:
                ready[inference.counters].append(inference)
        for counters, inferences in ready.items():
            try:
                with self._lock:
                    count(counters, inferences)
            except Exception as error:  # noqa: BLE001 - the monitor must never fail a prediction
                failed += len(inferences)
                log.error("inferences not counted", error=type(error).__name__)
            for inference in inferences:  # a row that waits to be explained must not keep a large request
                inference.X = inference.probability = None
        self.failures += failed
        if ready:  # with nothing to count, it is as before
            self._failing = failed > 0
        if not self._failing:
            self.last_success_seconds = time.time()
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def take_outcomes(self, counters: Counters, joined: Sequence[JoinedOutcome]) -> None:
        """Count outcomes that the records accepted. Fails as `flush` does."""
        with self._noting_failure("outcomes not counted"), self._lock:
            counters.add_outcomes(joined)

    def take_explained(self, counters: Counters, explained: Sequence[Explained]) -> None:
        """Count rows that were explained for the monitor alone. Fails as `flush` does."""
        with self._noting_failure("explanations not counted"), self._lock:
            counters.add_explained(explained)

    @contextmanager
    def _noting_failure(self, event: str) -> Iterator[None]:
        """Whoever counts goes on: the writer of the records and the sampler would end with an exception."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the monitor must never fail its callers
            self.failures += 1
            log.error(event, error=type(error).__name__)

    def changed_attributions(self, counters: Counters) -> dict[tuple[int, str], AttributionTotal]:
        """Copies of the sums that have grown since they were saved."""
        with self._lock:
            return {
                key: replace(total, sums=total.sums.copy())
                for key, total in counters.daily.items()
                if total.rows != total.saved
            }

    def attributions_saved(self, counters: Counters, rows: dict[tuple[int, str], int]) -> None:
        """Note how many rows of each sum are in the records, and let go of past days."""
        with self._lock:
            for key, number in rows.items():
                if key in counters.daily:  # else somebody saved at the same time, and a day has ended
                    counters.daily[key].saved = number
            newest = max(day for day, _ in counters.daily)
            for key, total in list(counters.daily.items()):
                if key[0] < newest and total.saved == total.rows:
                    del counters.daily[key]

    def changed_slots(self, drift: DriftCounters) -> dict[int, Floats]:
        """What was added for drift by slots, of those that have grown since they were saved."""
        with self._lock:
            return drift.slots.changed(drift.values)

    def slots_saved(self, drift: DriftCounters, slots: dict[int, Floats]) -> None:
        """Note what the records have."""
        with self._lock:
            drift.slots.saved(slots)

    def snapshot(
        self, models: Iterable[tuple[Any, Manifest, Reference | None]], also: Iterable[Counters] = ()
    ) -> list[Counters]:
        """Copies of the counters of these models, and of the others, all of one moment."""
        watched = [*(self.watch(*model) for model in models), *also]
        with self._lock:
            return [counters.copy() for counters in watched]

    def close(self) -> None:
        """Count what waits and stop."""
        self.flush()
        if self._timer is not None:
            self._timer.cancel()


def explained_rows(
    manifest: Manifest, groups: Sequence[JointGroup], explanations: Sequence[dict[str, Any]]
) -> list[Explained]:
    """The rows with values among the entries of a response."""
    column = explained_class(manifest)
    if column is None:
        return []
    return [
        Explained(group, [value[column] for value in entry["values"]], entry["fx"][column])
        for group, entry in zip(groups, explanations, strict=True)
        if "values" in entry
    ]


def count(counters: Counters, inferences: Sequence[Inference]) -> None:
    """Count inferences of one model whose records are committed, leaving out rows that were recorded before."""
    new = [
        inference
        if inference.recording is None or not inference.recording.repeated
        else _without(inference, set(inference.recording.repeated))
        for inference in inferences
    ]
    joint = np.array([group.number for inference in new for group in inference.groups], np.int64)
    predicted = np.array([index for inference in new for index in inference.predicted], np.int64)
    scores = np.array([score for inference in new for score in inference.scores], np.float64)
    counters.add_predictions(joint, predicted, scores)  # first: what fails for drift is no reason to lose these
    if counters.drift is not None and len(joint):
        counters.drift.add(
            np.concatenate([inference.X for inference in new if inference.X is not None]),
            np.concatenate([inference.probability for inference in new if inference.probability is not None]),
            joint,
            predicted,
        )
    for inference in new:
        if inference.explanations:
            counters.add_explained(explained_rows(counters.manifest, inference.groups, inference.explanations))


def _without(inference: Inference, rows: set[int]) -> Inference:
    kept = [row for row in range(len(inference.groups)) if row not in rows]
    return Inference(
        inference.counters,
        [inference.groups[row] for row in kept],
        [inference.predicted[row] for row in kept],
        [inference.scores[row] for row in kept],
        [inference.explanations[row] for row in kept] if inference.explanations else (),
        X=None if inference.X is None else inference.X[kept],
        probability=None if inference.probability is None else inference.probability[kept],
    )
