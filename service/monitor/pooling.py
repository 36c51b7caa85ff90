"""Hiding small counts of a distribution by adding bins up: what is shown then is all there is to know."""

from dataclasses import dataclass

import numpy as np

from service.monitor.bins import Bins, Integers
from service.monitor.suppression import is_small

POOLED = "pooled"


@dataclass(frozen=True)
class _Pool:
    words: tuple[str, ...]
    kind: str
    count: int
    reference: int

    def with_(self, other: "_Pool") -> "_Pool":
        return _Pool((*self.words, *other.words), POOLED, self.count + other.count, self.reference + other.reference)


def pool(counts: Integers, bins: Bins) -> tuple[Integers, Bins]:
    """Counts `(P,)` and bins in which no count is small, each pool made of neighbours; P <= B.

    A small count joins the smaller of its neighbours until the two together are none. Only a total that is small
    itself remains.
    """
    pools = [
        _Pool((words,), kind, int(count), int(reference))
        for words, kind, count, reference in zip(bins.words, bins.kinds, counts, bins.reference, strict=True)
    ]
    while len(pools) > 1:
        small = np.flatnonzero(is_small(np.array([made.count for made in pools])))
        if not len(small):
            break
        place = int(small[0])
        neighbours = [near for near in (place - 1, place + 1) if 0 <= near < len(pools)]
        first = min(place, min(neighbours, key=lambda near: pools[near].count))
        pools[first : first + 2] = [pools[first].with_(pools[first + 1])]
    return np.array([made.count for made in pools], np.int64), Bins(
        tuple(" or ".join(made.words) for made in pools),
        tuple(made.kind for made in pools),
        np.array([made.reference for made in pools], np.int64),
        bins.edges,
        bins.places,
    )
