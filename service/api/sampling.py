"""Explains a share of all predictions for the monitor alone, when nobody waits for an explanation.

So that what drives a gap between groups can be seen where nobody asks for explanations, and from rows that were not
selected by outcome.
"""

import asyncio
import math
import random
from collections import deque
from typing import NamedTuple

from service.api.codec import Floats
from service.api.explaining import trustworthy
from service.errors import QueueFull
from service.monitor.counters import Explained, explained_class
from service.monitor.metrics import Metrics
from service.monitor.monitor import FairnessMonitor, Inference
from service.runtime.explainer import Attribution
from service.runtime.limiter import Limiter
from service.runtime.repository import Model

# Rows that may wait; more are dropped, and counted.
MOST_WAITING = 256
PAUSE_SECONDS = 0.02
TIMEOUT_SECONDS = 10.0


class _Sample(NamedTuple):
    model: Model
    X: Floats  # (1, d)
    inference: Inference
    row: int  # of the inference

    @property
    def settled(self) -> bool:
        """Whether it is known if this row counts."""
        return self.inference.recording is None or self.inference.recording.settled

    @property
    def counts(self) -> bool:
        """Whether this row is recorded, and was not before."""
        recording = self.inference.recording
        return recording is None or not (recording.failed or self.row in recording.repeated)


class Sampler:
    """Draws rows at random, independent of what was decided, and explains them one at a time."""

    def __init__(self, ratio: float, limiter: Limiter, monitor: FairnessMonitor, metrics: Metrics) -> None:
        self._ratio = ratio
        self._limiter = limiter
        self._monitor = monitor
        self._metrics = metrics
        self._waiting: deque[_Sample] = deque()
        self._rows_to_next = self._draw()
        self._task: asyncio.Task[None] | None = None

    def offer(self, model: Model, X: Floats, inference: Inference) -> None:
        """Consider the rows `X` `(n, d)` of a finished inference; cheap where none is drawn."""
        self._rows_to_next -= len(X)
        while self._rows_to_next < 0:
            self._take(model, X, inference, int(len(X) + self._rows_to_next))
            self._rows_to_next += 1 + self._draw()

    def _draw(self) -> float:
        """Rows to pass over before the next one that is drawn: geometric, as if each row were drawn by itself."""
        if self._ratio == 0:
            return math.inf
        if self._ratio == 1:
            return 0
        return math.floor(math.log(1 - random.random()) / math.log(1 - self._ratio))

    def _take(self, model: Model, X: Floats, inference: Inference, row: int) -> None:
        explained = inference.explanations and "values" in inference.explanations[row]
        if model.explainer is None or explained or explained_class(model.manifest) is None:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._count(model, "dropped")
            return
        # A copy: the row must not keep a large request alive.
        self._waiting.append(_Sample(model, X[row : row + 1].copy(), inference, row))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._waiting:
            sample = self._waiting.popleft()
            while self._limiter.waiting_rows or not sample.settled:
                await asyncio.sleep(PAUSE_SECONDS)
            explainer = sample.model.explainer
            assert explainer is not None
            if not sample.counts:
                continue
            try:
                [answer] = await self._limiter.map(explainer.explain, [sample.X], timeout_seconds=TIMEOUT_SECONDS)
            except QueueFull:  # somebody asked for many explanations just now
                self._count(sample.model, "dropped")
                continue
            if isinstance(answer, Attribution) and trustworthy(answer, answer.fx, sample.model.session.device):
                self._add(sample, answer)
                self._count(sample.model, "explained")
            else:
                self._count(sample.model, "failed")
        self._task = None

    def _add(self, sample: _Sample, attribution: Attribution) -> None:
        column = explained_class(sample.model.manifest)
        assert column is not None
        group = sample.inference.groups[sample.row]
        explained = Explained(group, attribution.values[:, column].tolist(), float(attribution.fx[column]))
        self._monitor.take_explained(sample.inference.counters, [explained])

    def _count(self, model: Model, result: str) -> None:
        self._metrics.explanation_samples.labels(model.manifest.name, model.manifest.version, result).inc()

    def close(self) -> None:
        """Drop what waits."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
