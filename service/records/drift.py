"""Counts for drift by slots of time, so that any replica can report a window exactly, and after a restart."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from service.records.counts import reading
from service.records.replace import Replace
from service.records.tables import drift_counts

ROWS_TOGETHER = 500


class SlotCounts(NamedTuple):
    """What one replica has counted for a package since the slot's first second."""

    package: str
    slot: int
    counts: Sequence[float]


class SaveDriftCounts(Replace):
    """Work: replace what this replica saved before of these slots."""

    def __init__(self, replica: str, data: Sequence[SlotCounts]) -> None:
        rows = [row._asdict() | {"replica": replica, "counts": orjson.dumps(list(row.counts)).decode()} for row in data]
        super().__init__(drift_counts, rows)


def drift_sums(
    engine: Engine, package: str, *, size: int, since: float, until: float | None = None
) -> NDArray[np.float64]:
    """Sums over replicas and over the slots that begin at `since` or later and before `until`, `(size,)`.

    Lists of another length are those of a release that counted other things; they are left out.
    """
    table = drift_counts.c
    total = np.zeros(size)
    with reading(engine) as connection:
        # Not all at once: a long window of several replicas is some hundred megabytes of text.
        statement = select(table.counts).where(table.package == package, table.slot >= since)
        if until is not None:
            statement = statement.where(table.slot < until)
        for text in connection.execution_options(yield_per=ROWS_TOGETHER).execute(statement).scalars():
            counts = orjson.loads(text)
            if len(counts) == size:
                total += np.array(counts)
    return total
