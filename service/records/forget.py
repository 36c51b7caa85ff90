"""Forgetting: records past their retention, and records of people who asked to be forgotten."""

import math
import secrets
from collections.abc import Sequence

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.engine import Connection

from service.records.tables import attributions, drift_counts, packages, parts, predictions

# One transaction deletes so many, so that predictions need not wait long.
PRUNED_TOGETHER = 2000
HOUR = 3600
ERASED = "erased:"


class Prune:
    """Work: delete predictions older than `not_before`, PRUNED_TOGETHER at most. Its result is how many."""

    rows = 1
    may_be_given_up = True

    def __init__(self, not_before: float) -> None:
        self.not_before = not_before

    def run(self, connection: Connection) -> int:
        """Delete; fewer than PRUNED_TOGETHER means that none is left."""
        key = (predictions.c.model_name, predictions.c.id)
        names = select(packages.c.model_name).distinct()
        old: list[tuple[str, str]] = []
        for name in connection.execute(names).scalars().all():
            found = (
                select(*key)
                .where(predictions.c.model_name == name, predictions.c.predicted_at < self.not_before)
                .limit(PRUNED_TOGETHER - len(old))
            )
            old += [(row.model_name, row.id) for row in connection.execute(found)]
        if old:
            connection.execute(delete(predictions).where(tuple_(*key).in_(old)))
        connection.execute(delete(attributions).where(attributions.c.day < self.not_before - 24 * HOUR))
        connection.execute(delete(drift_counts).where(drift_counts.c.slot < self.not_before))
        return len(old)


class Erase:
    """Work: forget who the predictions with these ids were about. Its result is how many there were.

    What remains still counts in every report: group, decision and outcome, under a random id. Features, explanation and
    probabilities go; the score keeps two decimals and the times the hour, so that nobody finds the row by them.
    """

    may_be_given_up = True

    def __init__(self, model_name: str, ids: Sequence[str]) -> None:
        self.model_name = model_name
        self.ids = ids

    @property
    def rows(self) -> int:
        """Ids to erase."""
        return len(self.ids)

    def run(self, connection: Connection) -> int:
        """Erase."""
        return sum(self._erase(connection, ids) for ids in parts(sorted(self.ids)))

    def _erase(self, connection: Connection, ids: Sequence[str]) -> int:
        table = predictions.c
        of_model = table.model_name == self.model_name
        found = connection.execute(
            select(table.id, table.score, table.predicted_at, table.outcome_at)
            .where(of_model, table.id.in_(ids))
            .order_by(table.id)  # as joins do, so that neither waits for the other in a circle
            .with_for_update()
        ).all()
        for row in found:
            connection.execute(
                update(predictions)
                .where(of_model, table.id == row.id)
                .values(
                    id=ERASED + secrets.token_hex(16),
                    score=math.floor(row.score * 100) / 100,
                    predicted_at=row.predicted_at // HOUR * HOUR,
                    outcome_at=None if row.outcome_at is None else row.outcome_at // HOUR * HOUR,
                    probabilities=None,
                    features=None,
                    explanation=None,
                )
            )
        return len(found)
