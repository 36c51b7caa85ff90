"""SHAP values added up by day and combination of groups, so that any replica can report what drives a gap.

A sum over one person is that person's: the records are confidential, this table too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from service.records.replace import Replace
from service.records.tables import attributions


class DailyAttribution(NamedTuple):
    """What one replica has added up for one combination of groups (JSON) since the day's first second `day`."""

    package: str
    day: int
    groups: str
    rows: int
    margin_sum: float
    sums: Sequence[float]


class SaveAttributions(Replace):
    """Work: replace what this replica saved before."""

    def __init__(self, replica: str, data: Sequence[DailyAttribution]) -> None:
        rows = [row._asdict() | {"replica": replica, "sums": orjson.dumps(list(row.sums)).decode()} for row in data]
        super().__init__(attributions, rows)
