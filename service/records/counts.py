"""Reading counts of the audit log: how many predictions of one package, by group, decision, outcome and score."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import orjson
from sqlalchemy import Engine, Integer, cast, func, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from service.records.database import unavailable
from service.records.tables import attributions, packages, predictions

SCORE_BINS = 10
SECONDS_PER_DAY = 86_400


class CellCount(NamedTuple):
    """n predictions that are alike; `groups` is JSON, `actual` None without an outcome, `score_sum` over the n."""

    groups: str
    predicted: str
    actual: str | None
    bin: int
    n: int
    score_sum: float


class AttributionSum(NamedTuple):
    """SHAP values `(d,)` and margins of n explained rows of one combination of groups, added up."""

    groups: str
    n: int
    margin_sum: float
    sums: list[float]


def versions(engine: Engine, model_name: str) -> dict[str, list[tuple[str, str]]]:
    """model_version -> [(package, manifest as JSON)] of everything that ever ran under this name, oldest first."""
    found: dict[str, list[tuple[str, str]]] = {}
    with reading(engine) as connection:
        columns = packages.c.model_version, packages.c.package, packages.c.manifest
        for version, package, manifest in connection.execute(
            select(*columns).where(packages.c.model_name == model_name)
        ):
            found.setdefault(version, []).append((package, manifest))
    for made in found.values():
        made.sort(key=lambda pair: str(orjson.loads(pair[1])["created_at"]))
    return found


def cell_counts(
    engine: Engine, model_name: str, package_keys: Sequence[str], *, since: float, until: float
) -> list[CellCount]:
    """Counts of predictions made from `since` to `until` (seconds since 1970), with the outcomes known now."""
    table = predictions.c
    tenth = table.score * SCORE_BINS
    # A cast cuts off in SQLite and rounds in PostgreSQL.
    number = cast(tenth if engine.dialect.name == "sqlite" else func.floor(tenth), Integer)
    keys = (table.groups, table.predicted, table.actual, number)
    statement = (
        select(*keys, func.count(), func.sum(table.score))
        .where(
            table.model_name == model_name,
            table.package.in_(package_keys),
            table.predicted_at >= since,
            table.predicted_at < until,
        )
        .group_by(*keys)
    )
    with reading(engine) as connection:
        return [
            CellCount(groups, predicted, actual, min(bin_, SCORE_BINS - 1), n, score_sum)
            for groups, predicted, actual, bin_, n, score_sum in connection.execute(statement)
        ]


def attribution_sums(engine: Engine, package_keys: Sequence[str], *, since: float) -> list[AttributionSum]:
    """Sums of explained rows, of the UTC days that have not ended before `since`."""
    table = attributions.c
    statement = select(table.groups, table.rows, table.margin_sum, table.sums).where(
        table.package.in_(package_keys), table.day > since - SECONDS_PER_DAY
    )
    with reading(engine) as connection:
        return [
            AttributionSum(groups, rows, margin_sum, orjson.loads(sums))
            for groups, rows, margin_sum, sums in connection.execute(statement)
        ]


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection to read from. Raises RecordsUnavailable where the database does not answer."""
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise unavailable(error) from error
