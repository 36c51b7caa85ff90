"""What the job says of one model version."""

from dataclasses import dataclass, field
from typing import Literal

# Fewer rows tell nothing, and few outcomes are people.
LEAST_CURRENT_ROWS = 200
LEAST_REFERENCE_ROWS = 100
LEAST_OUTCOMES = 300
# Neither side of a change is smaller.
LEAST_SIDE_OUTCOMES = 30


@dataclass(frozen=True, slots=True)
class Unjudged:
    """Nothing can be said, and why."""

    state: Literal["insufficient", "unavailable"]
    reason: str


@dataclass(frozen=True, slots=True)
class Importance:
    """By how much the AUC falls, on average, when this feature's held-out values change places."""

    feature: str
    auc_drop: float


@dataclass(frozen=True, slots=True)
class Separation:
    """How well a classifier tells recent rows from the reference: 0.5 not at all, 1 always.

    `auc` is that of `held_out_rows` it did not learn from, `p_value` the chance of one as high if nothing had changed.
    `recorded_rows` is what `current_rows` were drawn from.
    """

    state: Literal["computed"] = field(default="computed", init=False)
    auc: float
    p_value: float
    reference_rows: int
    current_rows: int
    recorded_rows: int
    held_out_rows: int
    features: list[Importance]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the error rate: when it was found, where it seems to have begun (times of outcomes, seconds)."""

    found_at: float
    began_at: float
    error_before: float
    error_after: float
    n_before: int
    n_after: int


@dataclass(frozen=True, slots=True)
class Stream:
    """The errors of one group (of all: no sensitive feature) in the order of their outcomes.

    `error_ratio` is the mean of the last `window_n`, since the last change.
    """

    sensitive_feature: str
    group: str
    n: int
    window_n: int
    error_ratio: float
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class Concept:
    """The streams of a model version, each judged at `delta`, which is the job's divided by how many they are."""

    state: Literal["computed"] = field(default="computed", init=False)
    outcomes: int
    delta: float
    streams: list[Stream]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Both questions about one model version."""

    model_name: str
    model_version: str
    domain_classifier: Separation | Unjudged
    concept_drift: Concept | Unjudged
