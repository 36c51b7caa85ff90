"""From answered predictions to audit records and to the monitor, and the same answer for an id that was used before.

Sensitive features enter here as declared groups; features and explanations are recorded only where a setting asks.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import orjson

from service.api import codec
from service.api.codec import Decisions, Floats
from service.api.explanations import not_explained
from service.api.schema import PredictRequest
from service.manifest import Manifest
from service.monitor.counters import Counters
from service.monitor.monitor import FairnessMonitor, Inference
from service.records.append import Append, Recorded
from service.records.database import package_key
from service.records.records import Records
from service.records.writer import Job
from service.runtime.repository import Model


@dataclass(frozen=True, slots=True)
class Watched:
    """What recording a model's predictions takes.

    `source` names these counters in the records: a package that comes again begins to count anew, beside the old sums.
    """

    counters: Counters
    package: str
    class_names: list[str]
    source: str


class Recorder:
    """Hands answers to the records, if there are any, and prepares them for the monitor."""

    def __init__(
        self,
        records: Records | None,
        monitor: FairnessMonitor | None,
        *,
        features: bool = False,
        explanations: bool = False,
    ) -> None:
        """Without a monitor, and then without records, nothing is done: what both cost can be measured."""
        assert monitor is not None or records is None
        self.records = records
        self._monitor = monitor
        self._features = features
        self._explanations = explanations
        self._watched: WeakKeyDictionary[Model, Watched] = WeakKeyDictionary()

    def watched(self, model: Model) -> Watched:
        """What is known of `model` here."""
        found = self._watched.get(model)
        if found is None:
            manifest = model.manifest
            assert self._monitor is not None
            counters = self._monitor.watch(model, manifest, model.reference)
            found = self._watched[model] = Watched(
                counters, package_key(manifest), counters.class_names, uuid.uuid4().hex
            )
        return found

    def inference(
        self, model: Model, request: PredictRequest, decisions: Decisions, probability: Floats
    ) -> Inference | None:
        """What the monitor will count, when the response has left; None without a monitor."""
        if self._monitor is None:
            return None
        counters = self.watched(model).counters
        if request.sensitive_features is None:
            groups = [counters.groups.nobody] * len(request.X)
        else:
            groups = list(map(counters.groups.of, request.sensitive_features))
        inference = Inference(counters, groups, decisions.predicted, decisions.scores, model=model)
        if counters.drift is not None:
            inference.X, inference.probability = request.X, probability
        return inference

    def submit(
        self,
        model: Model,
        request: PredictRequest,
        ids: Sequence[str],
        inference: Inference,
        probability: Floats,
        explanations: Sequence[dict[str, Any]],
    ) -> Job | None:
        """Have the rows recorded; None where nothing is. Raises QueueFull."""
        if self.records is None:
            return None
        watched, name, now = self.watched(model), model.manifest.name, time.time()
        multiclass = model.manifest.task == "multiclass"
        keeps_features, keeps_explanations = self._features, self._explanations and len(explanations) > 0
        rows = [
            (
                name,
                ids[row],
                watched.package,
                now,
                watched.class_names[inference.predicted[row]],
                inference.scores[row],
                inference.groups[row].text,
                orjson.dumps(probability[row].tolist()).decode() if multiclass else None,
                _features(model.manifest, request.X[row]) if keeps_features else None,
                _explanation(explanations[row], keeps_features) if keeps_explanations else None,
            )
            for row in range(len(ids))
        ]
        inference.recording = job = self.records.submit(
            Append(rows, callers_ids=request.ids is not None, answered=not self.records.awaited)
        )
        return job

    async def settle(self, job: Job | None, model: Model, content: dict[str, Any], deadline: float) -> None:
        """Wait for the commit where the response must, and answer as before where an id was used before.

        Raises RecordsUnavailable, DeadlineExceeded, or InvalidRequest if an id was used for another instance.
        """
        if job is None or self.records is None or not self.records.awaited:
            return
        repeated: dict[int, Recorded] = await job.answer(deadline)
        for row, recorded in repeated.items():
            self._restore(row, recorded, model, content)

    def _restore(self, row: int, recorded: Recorded, model: Model, content: dict[str, Any]) -> None:
        now = content["predictions"][row]
        manifest = model.manifest
        same = recorded.package == self.watched(model).package
        if not same:
            manifest = _manifest(recorded.manifest)
        predicted = [str(label) for label in manifest.classes].index(recorded.predicted)
        probabilities = orjson.loads(recorded.probabilities) if recorded.probabilities is not None else []
        before = codec.prediction(manifest, now["id"], predicted, recorded.score, probabilities)
        if not same:
            before["model_version"] = manifest.version
            if "explanations" in content:
                content["explanations"][row] = not_explained("skipped", "retry")
        content["predictions"][row] = before


@lru_cache(maxsize=8)
def _manifest(text: str) -> Manifest:
    """Read once for all rows of a retried request."""
    return Manifest.model_validate_json(text)


def _explanation(entry: dict[str, Any], keeps_features: bool) -> str:
    """The entry of the response; without the values of features where those are not to be kept."""
    kept = entry if keeps_features else {key: value for key, value in entry.items() if key not in ("data", "reasons")}
    return orjson.dumps(kept).decode()


def _features(manifest: Manifest, row: Floats) -> str:
    return orjson.dumps(dict(zip(manifest.feature_names, codec.posted(manifest.features, row), strict=True))).decode()
