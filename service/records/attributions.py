"""SHAP values added up by day and combination of groups, so that any replica can report what drives a gap.

A sum over one person is that person's: the records are confidential, this table too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import orjson
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from service.records.tables import attributions


class DailyAttribution(NamedTuple):
    """What one replica has added up for one combination of groups (JSON) since the day's first second `day`."""

    package: str
    day: int
    groups: str
    rows: int
    margin_sum: float
    sums: Sequence[float]


class SaveAttributions:
    """Work: replace what this replica saved before. Doing it twice changes nothing."""

    may_be_given_up = True

    def __init__(self, replica: str, data: Sequence[DailyAttribution]) -> None:
        self.replica = replica
        self.data = data

    @property
    def rows(self) -> int:
        """Rows to write."""
        return len(self.data)

    def run(self, connection: Connection) -> None:
        """Write them all."""
        made = (
            postgresql.insert(attributions) if connection.dialect.name == "postgresql" else sqlite.insert(attributions)
        )
        statement = made.on_conflict_do_update(
            index_elements=["package", "day", "replica", "groups"],
            set_={name: made.excluded[name] for name in ("rows", "margin_sum", "sums")},
        )
        connection.execute(
            statement,
            [
                row._asdict() | {"replica": self.replica, "sums": orjson.dumps(list(row.sums)).decode()}
                for row in self.data
            ],
        )
