"""Writing what a replica has added up over what it wrote before, on SQLite and PostgreSQL alike."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert that may say what to do about rows that are there."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


class Replace:
    """Work: write rows over those with the same primary key. Doing it twice changes nothing."""

    may_be_given_up = True

    def __init__(self, table: Table, data: Sequence[dict[str, Any]]) -> None:
        """`data` has every column of `table`."""
        self.table = table
        self.data = data

    @property
    def rows(self) -> int:
        """Rows to write."""
        return len(self.data)

    def run(self, connection: Connection) -> None:
        """Write them all."""
        made = insert_into(connection, self.table)
        written = {column.name: made.excluded[column.name] for column in self.table.columns if not column.primary_key}
        keys = list(self.table.primary_key.columns)
        connection.execute(made.on_conflict_do_update(index_elements=keys, set_=written), self.data)
