"""The verdict on every model version: what the packages and the records hold, put to both questions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from sqlalchemy import Engine

from service.driftjob.classifier import Matrix, separation
from service.driftjob.concept import concept
from service.driftjob.verdicts import (
    LEAST_CURRENT_ROWS,
    LEAST_OUTCOMES,
    LEAST_REFERENCE_ROWS,
    Concept,
    Separation,
    Unjudged,
    Verdict,
)
from service.errors import PackageError
from service.manifest import REPLAY_FILE, Feature, Manifest, read_manifest, verify_digests
from service.records.counts import versions
from service.records.database import package_key
from service.records.samples import arrivals, model_names, sample_features
from service.runtime.repository import find_packages


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to look at. Outcomes from `since` and predictions from `recent_since` on, both until `until`, in seconds.

    At most so many `rows` and `outcomes`; `horizon_seconds` is how long an outcome may follow its prediction.
    """

    since: float
    recent_since: float
    until: float
    horizon_seconds: float
    rows: int
    outcomes: int
    permutations: int
    delta: float
    seed: int


def verdicts(engine: Engine, repository: Path, question: Question) -> Iterator[Verdict]:
    """One for each version in the repository, and for others whose outcomes still arrive.

    Raises PackageError without a repository, RecordsUnavailable if the database does not answer.
    """
    folders = {(folder.parent.name, folder.name): folder for folder in find_packages(repository)}
    recorded = {
        (name, version): made for name in model_names(engine) for version, made in versions(engine, name).items()
    }
    for name, version in sorted(folders.keys() | recorded.keys(), key=lambda key: (key[0], int(key[1]))):
        folder = folders.get((name, version))
        errors = _concept(engine, name, recorded.get((name, version), []), question)
        if folder is None and isinstance(errors, Unjudged):
            continue
        yield Verdict(name, version, _separation(engine, folder, question), errors)


def _concept(engine: Engine, name: str, packages: Sequence[tuple[str, str]], question: Question) -> Concept | Unjudged:
    if not packages:
        return Unjudged("insufficient", f"fewer than {LEAST_OUTCOMES} outcomes arrived in the window")
    found = arrivals(
        engine,
        name,
        [package for package, _ in packages],
        since=question.since,
        until=question.until,
        horizon_seconds=question.horizon_seconds,
        most=question.outcomes,
    )
    newest = Manifest.model_validate_json(packages[-1][1])
    return concept(newest, found, delta=question.delta)


def _separation(engine: Engine, folder: Path | None, question: Question) -> Separation | Unjudged:
    if folder is None:
        return Unjudged("unavailable", "the repository does not hold this version")
    try:
        manifest = read_manifest(folder)
        reference = _reference(folder, manifest)
    except PackageError as error:
        return Unjudged("unavailable", str(error))
    sample = sample_features(
        engine,
        manifest.name,
        package_key(manifest),
        since=question.recent_since,
        until=question.until,
        size=question.rows,
        seed=question.seed,
    )
    if sample.predictions and not sample.recorded:
        reason = "the predictions are recorded without their features; PLUMBLINE_RECORD_FEATURES=true keeps them"
        return Unjudged("unavailable", reason)
    if len(sample.instances) < LEAST_CURRENT_ROWS:
        return Unjudged("insufficient", f"fewer than {LEAST_CURRENT_ROWS} recent predictions with features")
    if len(reference) < LEAST_REFERENCE_ROWS:
        return Unjudged("insufficient", f"fewer than {LEAST_REFERENCE_ROWS} rows in {REPLAY_FILE}")
    return separation(
        reference,
        rows_of(manifest.features, sample.instances),
        manifest.feature_names,
        recorded=sample.recorded,
        permutations=question.permutations,
        seed=question.seed,
    )


def _reference(folder: Path, manifest: Manifest) -> Matrix:
    """The rows that the model has not learned from. Raises PackageError without them."""
    replay = verify_digests(folder, manifest).get(REPLAY_FILE)
    if replay is None:
        raise PackageError(f"the package has no {REPLAY_FILE}")
    try:
        return rows_of(manifest.features, [orjson.loads(line)["instance"] for line in replay.splitlines()])
    except (ValueError, TypeError, KeyError) as error:
        raise PackageError(f"{REPLAY_FILE} does not hold instances of the model") from error


def rows_of(features: Sequence[Feature], instances: Sequence[dict[str, Any]]) -> Matrix:
    """Instances as posted -> `(n, d)`: categories by their index, NaN where a value is missing."""
    columns = [[_number(feature, instance.get(feature.name)) for instance in instances] for feature in features]
    return np.array(columns, np.float32).T.copy()


def _number(feature: Feature, value: Any) -> float:
    if value is None:
        return np.nan
    if feature.categories is not None:
        return feature.categories.index(value) if value in feature.categories else np.nan
    return float(value)
