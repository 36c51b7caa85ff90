"""From served predictions to explanations in the response: which rows, by when, how precise, and whether to be trusted.

An explanation never fails its prediction: what is late, unwanted, refused or wrong becomes an entry that says so, and
is counted.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from service.api.explanations import ExplainOptions, encode, explained_output, not_explained
from service.errors import QueueFull
from service.manifest import ExplainerInfo
from service.monitor.metrics import Metrics
from service.runtime.explainer import Attribution
from service.runtime.limiter import Limiter
from service.runtime.repository import Model

log = structlog.get_logger(__name__)

Floats = NDArray[np.float32]
Entry = dict[str, Any]

# Largest additivity residual and difference to the served margin, times max(1, |margin|) (DESIGN: CPU 1e-5, GPU 1e-3).
ADDITIVITY_TOLERANCE = {"cpu": 1e-5, "cuda": 1e-3}


class Explaining:
    """Explains rows of any model, behind one limiter for all of them."""

    def __init__(self, limiter: Limiter, metrics: Metrics) -> None:
        self._limiter = limiter
        self._metrics = metrics

    async def explain(
        self,
        model: Model,
        options: ExplainOptions,
        *,
        X: Floats,
        margin: Floats,
        labels: Sequence[object],
        timeout_seconds: float,
    ) -> list[Entry]:
        """One entry per row of `X` `(n, d)`, in order. `margin` `(n, C)` and `labels` are what was predicted."""
        manifest = model.manifest
        wanted = [index for index, label in enumerate(labels) if options.wants(label, manifest)]
        entries = [not_explained("skipped", "filter") for _ in labels]
        if options.deadline_ms is not None:
            timeout_seconds = min(timeout_seconds, options.deadline_ms / 1000)

        def one(index: int) -> Entry:
            output = explained_output(manifest, labels[index])
            return self._one(model, options, X[index : index + 1], margin[index], output)

        try:
            answers = await self._limiter.map(one, wanted, timeout_seconds=timeout_seconds)
        except QueueFull:
            answers = [not_explained("skipped", "busy")] * len(wanted)
        for index, answer in zip(wanted, answers, strict=True):
            entries[index] = _entry(answer)
        for entry in entries:
            self._metrics.explanations.labels(manifest.name, manifest.version, entry["status"]).inc()
        return entries

    def _one(self, model: Model, options: ExplainOptions, X: Floats, margin: Floats, output: int) -> Entry:
        """Runs in the limiter's thread: attribution, check, encoding of one row `X` `(1, d)`."""
        assert model.explainer is not None
        assert model.manifest.explainer is not None
        info: ExplainerInfo = model.manifest.explainer
        labels = model.manifest.name, model.manifest.version
        start = time.perf_counter()
        attribution = model.explainer.explain(X)
        if model.doubled is not None and info.doubled is not None and not options.satisfied_by(attribution, output):
            attribution = model.doubled.explain(X)
            info = info.model_copy(update=info.doubled.model_dump())
        self._metrics.explanation_latency.labels(*labels, info.algorithm).observe(time.perf_counter() - start)
        self._metrics.additivity_residual.labels(*labels).observe(attribution.additivity_residual)
        if not trustworthy(attribution, margin, model.session.device):
            log.error("explanation refused", model=model.key, residual=attribution.additivity_residual)
            return not_explained("failed", "additivity")
        return encode(model.manifest, info, X[0], attribution, output=output, options=options)


def trustworthy(attribution: Attribution, margin: Floats, device: str) -> bool:
    """Whether `attribution` adds up, and to `margin` `(C,)`, as closely as `device` computes."""
    return attribution.agrees_with(margin, tolerance=ADDITIVITY_TOLERANCE[device.partition(":")[0]])


def _entry(answer: Entry | Exception | None) -> Entry:
    if answer is None:
        return not_explained("skipped", "deadline")
    if isinstance(answer, Exception):
        log.error("explanation failed", error=type(answer).__name__)  # its message may quote values
        return not_explained("failed", "error")
    return answer
