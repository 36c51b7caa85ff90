"""Which bins of a distribution are shown, and compared, together.

Hiding small counts by adding bins up leaves nothing to be worked out: what is shown then is all there is to know.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from service.monitor.bins import Bins, Integers
from service.monitor.suppression import is_small

POOLED = "pooled"
CELL = "cell"  # bins that are compared as one, whatever they hold


@dataclass(frozen=True)
class Pool:
    """Numbers of bins that are one, and how many rows they have now and in the reference."""

    members: tuple[int, ...]
    count: int
    reference: int

    def with_(self, other: "Pool") -> "Pool":
        """The two as one."""
        return Pool((*self.members, *other.members), self.count + other.count, self.reference + other.reference)

    def words(self, bins: Bins) -> str:
        """What it is called."""
        return " or ".join(bins.words[member] for member in self.members)

    def kind(self, bins: Bins) -> str:
        """That of its only bin, `cell`, or `pooled` where several cells are one."""
        if len(self.members) == 1:
            return bins.kinds[self.members[0]]
        return CELL if len({int(bins.cell_of[member]) for member in self.members}) == 1 else POOLED


def each_bin(counts: Integers, bins: Bins) -> list[Pool]:
    """Every bin by itself."""
    return _pools(counts, bins, ((member,) for member in range(len(bins))))


def each_cell(counts: Integers, bins: Bins) -> list[Pool]:
    """The cells that are compared."""
    cells = range(len(bins.cells))
    return _pools(counts, bins, (tuple(np.flatnonzero(bins.cell_of == cell).tolist()) for cell in cells))


def without_small_counts(counts: Integers, bins: Bins) -> list[Pool]:
    """Cells, and pools of neighbouring cells, in which no count is small; missing values are the last.

    A small count joins a neighbour that makes it none, rather values than missing ones, and rather the smaller; if
    there is no such, a neighbour all the same, and so on. Only a total that is small itself remains.
    """
    pools = sorted(each_cell(counts, bins), key=lambda made: bins.missing in made.members)
    while len(pools) > 1:
        small = np.flatnonzero(is_small(np.array([made.count for made in pools])))
        if not len(small):
            break
        place = int(small[0])
        near = min(
            (near for near in (place - 1, place + 1) if 0 <= near < len(pools)),
            key=lambda near: (
                bool(is_small(np.array(pools[place].count + pools[near].count))),
                bins.missing in pools[near].members,
                pools[near].count,
            ),
        )
        first = min(place, near)
        pools[first : first + 2] = [pools[first].with_(pools[first + 1])]
    return pools


def in_order(pools: Iterable[Pool], missing: int | None) -> list[Pool] | None:
    """Pools of values, not of missing ones; those that interleave are one. None where missing ones are among values."""
    ordered: list[Pool] = []
    for made in sorted(pools, key=lambda made: min(made.members)):
        if made.members == (missing,):
            continue
        if missing in made.members:
            return None
        if ordered and min(made.members) < max(ordered[-1].members):
            ordered[-1] = ordered[-1].with_(made)
        else:
            ordered.append(made)
    return ordered


def leaves_small_count(counts: Integers, pools: Sequence[Pool], shown: Iterable[int]) -> bool:
    """Whether the count of the bins `shown`, beside those of `pools` without small ones, tells a small one.

    Less the pools that it holds whole, it is that of its bins in pools that it has a part of; what these hold besides
    follows too.
    """
    mine = set(shown)
    parted = {
        member
        for made in pools
        if mine & set(made.members) and not mine.issuperset(made.members)
        for member in made.members
    }
    told = [counts[list(part)].sum() for part in (parted & mine, parted - mine)]
    return bool(is_small(np.array(told)).any())


def _pools(counts: Integers, bins: Bins, members: Iterable[tuple[int, ...]]) -> list[Pool]:
    return [Pool(found, int(counts[list(found)].sum()), int(bins.reference[list(found)].sum())) for found in members]
