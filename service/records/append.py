"""Recording predictions: many rows in one statement, and the earlier record where an id was used before."""

import sqlite3
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Insert, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from service.errors import InvalidRequest
from service.records.tables import packages, parts, predictions

log = structlog.get_logger(__name__)

COLUMNS = (
    "model_name",
    "id",
    "package",
    "predicted_at",
    "predicted",
    "score",
    "groups",
    "probabilities",
    "features",
    "explanation",
)
Row = tuple[Any, ...]  # in the order of COLUMNS
_ID = COLUMNS.index("id")
_KEY = itemgetter(COLUMNS.index("model_name"), _ID)
# By how much a batch or a device may move the score of one instance.
RETRY_TOLERANCE = 1e-3


class Recorded(NamedTuple):
    """What was answered when this id was first used, and the manifest (JSON) of the package that decided."""

    package: str
    predicted: str
    score: float
    probabilities: str | None
    manifest: str


class Append:
    """Work: record the rows of one request.

    Its result is `{row: Recorded}` of those whose id was recorded before, or InvalidRequest, and then nothing of it is
    recorded, if an id belongs to another instance.
    """

    __slots__ = ("answered", "callers_ids", "data")

    def __init__(self, data: Sequence[Row], *, callers_ids: bool, answered: bool = False) -> None:
        """`callers_ids`: ids of ours are never used twice. `answered`: it is too late to refuse anything."""
        self.answered = answered
        self.data = data
        self.callers_ids = callers_ids

    @property
    def rows(self) -> int:
        """Rows to record."""
        return len(self.data)


class Appender:
    """The statements of one database."""

    def __init__(self, dialect_name: str) -> None:
        self._insert = _insert(dialect_name)
        self._has_many_writers = dialect_name == "postgresql"
        # A dialect whose parameters are in order, so that rows go to the driver as they are.
        dialect = postgresql.dialect(paramstyle="format") if dialect_name == "postgresql" else sqlite.dialect()  # type: ignore[no-untyped-call]
        self._text = str(self._insert.compile(dialect=dialect, column_keys=COLUMNS))

    def all_new(self, connection: Connection, appends: Sequence[Append]) -> bool:
        """Record everything at once; False if an id was used before, and then the caller rolls back."""
        rows = [row for append in appends for row in append.data]
        if self._has_many_writers:  # those of the same rows wait for each other, not in a circle
            rows.sort(key=_KEY)
        return not rows or connection.exec_driver_sql(self._text, rows).rowcount == len(rows)

    def commit_new(self, connection: sqlite3.Connection, appends: Sequence[Append]) -> bool:
        """`all_new` as a transaction of its own, past SQLAlchemy, which takes longer than SQLite for a single row.

        If it raises or is False, nothing was recorded.
        """
        rows = [row for append in appends for row in append.data]
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.executemany(self._text, rows).rowcount != len(rows):
                return False
            connection.commit()
        finally:
            connection.rollback()
        return True

    def append(self, connection: Connection, append: Append) -> dict[int, Recorded] | InvalidRequest:
        """Record what is new of one request, and look up the rest."""
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in sorted(append.data, key=_KEY)]
        new = set(connection.execute(self._insert.returning(predictions.c.id), rows).scalars())
        if len(new) == len(append.data) or not append.callers_ids:
            return {}
        old = {row[_ID]: number for number, row in enumerate(append.data) if row[_ID] not in new}
        table = predictions.c
        of_model = table.model_name == append.data[0][0]
        columns = table.id, table.package, table.predicted, table.score, table.probabilities, packages.c.manifest
        lookup = select(*columns).join(packages, packages.c.package == table.package).where(of_model)
        recorded = {
            old[id_]: Recorded(*rest)
            for ids in parts(list(old))
            for id_, *rest in connection.execute(lookup.where(table.id.in_(ids)))
        }
        for row, before in recorded.items():
            if _may_be_the_same(append.data[row], before):
                continue
            if append.answered:
                log.warning("an id was used for another instance; the first one stays", model=append.data[row][0])
            else:
                # Nothing of a request that is refused stays.
                for ids in parts(list(new)):
                    connection.execute(delete(predictions).where(of_model, table.id.in_(ids)))
                return InvalidRequest(
                    f"ids[{row}]", "this id was used for another instance; only a retry may repeat one"
                )
        return recorded


def _may_be_the_same(row: Row, before: Recorded) -> bool:
    """Whether the instance is the one recorded before, as far as its score tells: the same package answers the same."""
    _, _, package, _, predicted, score, _, probabilities, *_ = row
    if package != before.package:
        return True
    # The score of a binary model tells more than its label, which turns at the threshold by the last digit.
    same_label = probabilities is None or predicted == before.predicted
    return bool(same_label and abs(score - before.score) <= RETRY_TOLERANCE)


def _insert(dialect_name: str) -> Insert:
    if dialect_name == "postgresql":
        return postgresql.insert(predictions).on_conflict_do_nothing()
    return sqlite.insert(predictions).on_conflict_do_nothing()
