"""The counts of all models as Prometheus series, computed at scrape time: a model that is gone has none.

Every label set of a model exists, at 0, from its first scrape on: a series first seen at 5 has an increase of 0. Label
values come from the manifest alone. What is exported is additive over replicas; ratios are made by the rules.
A person stands in one group of *each* sensitive feature: sums over `sensitive_feature` count people several times.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from weakref import WeakKeyDictionary

from service.errors import PackageError
from service.manifest import RESERVED_GROUPS, Manifest
from service.monitor import drift_exposition, fairness_exposition
from service.monitor.counters import Counters, bytes_per_combination
from service.monitor.groups import JointGroups, group_sets
from service.monitor.series import Column, text
from service.reference import Reference

# What the tables of one model may take where callers send every combination of groups.
MOST_BYTES = 512 * 2**20
# The service's own default, PLUMBLINE_MAX_SERIES.
MOST_SERIES = 5000
FAMILIES = (*fairness_exposition.FAMILIES, *drift_exposition.FAMILIES)


def columns(counters: Counters) -> Iterator[Column[Counters]]:
    """All series of one model version."""
    yield from fairness_exposition.columns(counters)
    if counters.drift is not None:
        yield from drift_exposition.columns(counters.drift.layout)


def check_series(manifest: Manifest, reference: Reference | None, *, most: int) -> None:
    """Raise PackageError if a model would export more than `most` series, or needs more memory than a monitor should.

    Also if two groups of an intersection would have one name.
    """
    combinations = math.prod(len(feature.groups) + len(RESERVED_GROUPS) for feature in manifest.sensitive_features)
    if combinations * bytes_per_combination(manifest) > MOST_BYTES:
        raise PackageError(
            f"its sensitive features have {combinations} combinations of groups, too many to count each: declare fewer "
            "features or groups"
        )
    for made in group_sets(manifest):
        if len(set(made.groups)) != len(made.groups):
            raise PackageError(f"sensitive feature {made.name}: two of its groups have the same name")
    found = sum(map(len, columns(Counters(manifest, reference))))
    if found > most:
        raise PackageError(
            f"its groups and features make {found} series, PLUMBLINE_MAX_SERIES allows {most}: declare fewer groups or "
            "intersections, or raise the setting"
        )


class MonitorExposition:
    """The text of what is loaded now."""

    def __init__(self, counters: Callable[[], Iterable[Counters]]) -> None:
        """`counters` gives copies, all of one moment."""
        self._counters = counters
        # The groups are what all copies of a model's counters share.
        self._columns: WeakKeyDictionary[JointGroups, list[Column[Counters]]] = WeakKeyDictionary()

    def text(self) -> str:
        """All families, also without a model."""
        found = []
        for counters in self._counters():
            made = self._columns.get(counters.groups)
            if made is None:
                made = self._columns[counters.groups] = list(columns(counters))
            found += [(column, counters) for column in made]
        return text(FAMILIES, found)
