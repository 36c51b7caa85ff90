"""Counts for drift by slots of time, so that any replica can report a window exactly, and after a restart."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import Engine, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from service.records.counts import reading
from service.records.tables import drift_counts

ROWS_TOGETHER = 500


class SlotCounts(NamedTuple):
    """What one replica has counted for a package since the slot's first second."""

    package: str
    slot: int
    counts: Sequence[float]


class SaveDriftCounts:
    """Work: replace what this replica saved before of these slots. Doing it twice changes nothing."""

    may_be_given_up = True

    def __init__(self, replica: str, data: Sequence[SlotCounts]) -> None:
        self.replica = replica
        self.data = data

    @property
    def rows(self) -> int:
        """Rows to write."""
        return len(self.data)

    def run(self, connection: Connection) -> None:
        """Write them all."""
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        made = dialect.insert(drift_counts)
        statement = made.on_conflict_do_update(
            index_elements=["package", "slot", "replica"], set_={"counts": made.excluded.counts}
        )
        connection.execute(
            statement,
            [
                {
                    "package": row.package,
                    "slot": row.slot,
                    "replica": self.replica,
                    "counts": orjson.dumps(list(row.counts)).decode(),
                }
                for row in self.data
            ],
        )


def drift_sums(
    engine: Engine, package: str, *, size: int, since: float, until: float = math.inf
) -> NDArray[np.float64]:
    """Sums over replicas and over the slots that begin at `since` or later and before `until`, `(size,)`.

    Lists of another length are those of a release that counted other things; they are left out.
    """
    table = drift_counts.c
    total = np.zeros(size)
    with reading(engine) as connection:
        # Not all at once: a long window of several replicas is some hundred megabytes of text.
        statement = select(table.counts, table.slot).where(table.package == package, table.slot >= since)
        for text, slot in connection.execution_options(yield_per=ROWS_TOGETHER).execute(statement):
            if slot >= until:
                continue
            counts = orjson.loads(text)
            if len(counts) == size:
                total += np.array(counts)
    return total
