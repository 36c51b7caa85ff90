"""What the drift job reads of the audit log: features of some predictions, outcomes in the order in which they came."""

import heapq
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Engine, func, select

from service.records.counts import reading
from service.records.tables import packages, parts, predictions

ROWS_TOGETHER = 10_000


class FeatureSample(NamedTuple):
    """Instances as posted, drawn from `recorded` predictions with features; there were `predictions` in all."""

    predictions: int
    recorded: int
    instances: list[dict[str, Any]]


class Arrival(NamedTuple):
    """One outcome: when it came (seconds since 1970), whether the prediction was wrong, of whom (JSON of groups)."""

    at: float
    error: bool
    groups: str


def model_names(engine: Engine) -> list[str]:
    """Every model that ever ran."""
    with reading(engine) as connection:
        return sorted(connection.execute(select(packages.c.model_name).distinct()).scalars())


def sample_features(
    engine: Engine, model_name: str, package: str, *, since: float, until: float, size: int, seed: int
) -> FeatureSample:
    """A uniform sample without replacement of what was recorded from `since` to `until`, `size` rows at most.

    Those whose ids have the smallest keyed hash: the same rows whatever order the database gives them in.
    """
    table = predictions.c
    wanted = (
        table.model_name == model_name,
        table.predicted_at >= since,
        table.predicted_at < until,
        table.package == package,
    )
    key = seed.to_bytes(8, "big")

    def rank(id_: str) -> bytes:
        return blake2b(id_.encode(), digest_size=8, key=key).digest()

    with reading(engine) as connection:
        counted = connection.execute(select(func.count(), func.count(table.features)).where(*wanted)).one()
        ids = select(table.id).where(*wanted, table.features.is_not(None))
        streamed = connection.execute(ids, execution_options={"yield_per": ROWS_TOGETHER}).scalars()
        drawn = heapq.nsmallest(size, streamed, key=rank)
        found: dict[str, str] = {}
        for some in parts(drawn):
            of_some = (table.model_name == model_name, table.id.in_(some), table.features.is_not(None))
            found.update(
                (id_, text) for id_, text in connection.execute(select(table.id, table.features).where(*of_some))
            )
    # One may have been erased in between.
    return FeatureSample(counted[0], counted[1], [orjson.loads(found[id_]) for id_ in drawn if id_ in found])


def arrivals(
    engine: Engine,
    model_name: str,
    package_keys: Sequence[str],
    *,
    since: float,
    until: float,
    horizon_seconds: float,
    most: int,
) -> list[Arrival]:
    """Outcomes that came from `since` to `until`, the newest `most` of them, oldest first; at one time by their id.

    `horizon_seconds` is how long an outcome may follow its prediction: it bounds the search.
    """
    table = predictions.c
    # Databases sort text by their locale; SQLite by bytes.
    id_ = table.id.collate("C") if engine.dialect.name == "postgresql" else table.id
    statement = (
        select(table.outcome_at, table.predicted, table.actual, table.groups)
        .where(
            table.model_name == model_name,
            table.predicted_at >= since - horizon_seconds,
            table.package.in_(package_keys),
            table.actual.is_not(None),
            table.outcome_at >= since,
            table.outcome_at < until,
        )
        .order_by(table.outcome_at.desc(), id_.desc())
        .limit(most)
    )
    with reading(engine) as connection:
        rows = connection.execute(statement)
        found = [Arrival(at, predicted != actual, groups) for at, predicted, actual, groups in rows]
    return found[::-1]
