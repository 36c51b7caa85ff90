"""ADWIN on the errors of a model: has the share of wrong predictions changed? The only place that imports river, an
extra.
"""

from collections.abc import Sequence

import numpy as np
import orjson
from numpy.typing import NDArray
from river.drift import ADWIN

from service.driftjob.verdicts import LEAST_OUTCOMES, LEAST_SIDE_OUTCOMES, Change, Concept, Stream, Unjudged
from service.manifest import Manifest
from service.records.samples import Arrival

Floats = NDArray[np.float64]

ALL = "all"


def concept(manifest: Manifest, arrivals: Sequence[Arrival], *, delta: float) -> Concept | Unjudged:
    """Every stream of at least LEAST_OUTCOMES outcomes: all of them, then each declared group."""
    if len(arrivals) < LEAST_OUTCOMES:
        return Unjudged("insufficient", f"fewer than {LEAST_OUTCOMES} outcomes arrived in the window")
    errors = np.array([arrival.error for arrival in arrivals], np.float64)
    times = np.array([arrival.at for arrival in arrivals])
    members = {("", ALL): np.ones(len(arrivals), np.bool_)} | _members(manifest, arrivals)
    large = {name: rows for name, rows in members.items() if rows.sum() >= LEAST_OUTCOMES}
    each = delta / len(large)
    streams = [stream(*name, errors[rows], times[rows], delta=each) for name, rows in large.items()]
    return Concept(len(arrivals), each, streams)


def stream(sensitive_feature: str, group: str, errors: Floats, times: Floats, *, delta: float) -> Stream:
    """What ADWIN finds in `errors` `(n,)`, 0 or 1, at `times` `(n,)`.

    river forgets everything at a change. ADWIN keeps what came after it, so the new detector is told that again.
    """
    changes: list[Change] = []
    start = now = 0
    detector = _detector(delta)
    values = errors.tolist()
    while now < len(values):
        detector.update(values[now])
        now += 1
        if not detector.drift_detected:
            continue
        cut = start + split(errors[start:now])
        before, after = errors[start:cut], errors[cut:now]
        found, began = float(times[now - 1]), float(times[cut])
        changes.append(Change(found, began, float(before.mean()), float(after.mean()), len(before), len(after)))
        start = now = cut
        detector = _detector(delta)
    window = errors[start:]
    return Stream(sensitive_feature, group, len(errors), len(window), float(window.mean()), changes)


def split(errors: Floats) -> int:
    """Where the means of both sides differ most for their sizes, at least LEAST_SIDE_OUTCOMES from either end.

    ADWIN says that there is a change; its own cut runs along buckets that grow with age, and leaves old errors in.
    """
    n = len(errors)
    left = np.arange(LEAST_SIDE_OUTCOMES, n - LEAST_SIDE_OUTCOMES + 1)
    sums = np.cumsum(errors)
    before = sums[left - 1] / left
    after = (sums[-1] - sums[left - 1]) / (n - left)
    return int(left[np.argmax(np.abs(before - after) * np.sqrt(left * (n - left)))])


def _detector(delta: float) -> ADWIN:
    return ADWIN(delta=delta, min_window_length=LEAST_SIDE_OUTCOMES, grace_period=2 * LEAST_SIDE_OUTCOMES)


def _members(manifest: Manifest, arrivals: Sequence[Arrival]) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """(sensitive feature, declared group) -> which arrivals `(n,)` are its."""
    texts, combination = np.unique([arrival.groups for arrival in arrivals], return_inverse=True)
    combinations = [orjson.loads(str(text)) for text in texts]
    return {
        (feature.name, group): np.array([found.get(feature.name) == group for found in combinations])[combination]
        for feature in manifest.sensitive_features
        for group in feature.groups
    }
