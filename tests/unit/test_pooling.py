"""Pooling: no small count stays beside others, nothing is lost, and neighbours stay together."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.monitor.bins import Bins
from service.monitor.pooling import POOLED, each_bin, each_cell, leaves_small_count, without_small_counts
from service.monitor.suppression import is_small

cells = st.lists(st.tuples(st.integers(0, 30) | st.integers(0, 10**6), st.integers(0, 1000)), min_size=1, max_size=15)


def bins_of(reference, kinds=None, cells=None):
    """Bins `a`, `b`, ..., each a cell unless the `cells` say otherwise."""
    B = len(reference)
    names = cells or [f"{number:02d}" for number in range(B)]
    made = tuple(sorted(set(names)))
    return Bins(
        tuple("abcdefghijklmnop"[:B]),
        tuple(kinds or ["bin"] * B),
        np.array(reference, np.int64),
        np.arange(B + 1, dtype=np.float32),
        np.arange(B + 2),
        made,
        np.array([made.index(name) for name in names]),
    )


def pooled(*counts, **changes):
    """{words: count}."""
    bins = bins_of([100] * len(counts), **changes)
    return {made.words(bins): made.count for made in without_small_counts(np.array(counts), bins)}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([50, 0, 11], {"a": 50, "b": 0, "c": 11}),
        ([5, 40, 50], {"a or b": 45, "c": 50}),
        ([40, 5, 30], {"a": 40, "b or c": 35}),
        ([30, 5, 40], {"a or b": 35, "c": 40}),
        ([40, 30, 5], {"a": 40, "b or c": 35}),
        ([40, 5, 5, 60], {"a or b or c": 50, "d": 60}),
        ([40, 6, 5, 40], {"a": 40, "b or c": 11, "d": 40}),
        ([0, 3, 0, 90], {"a or b or c or d": 93}),
        ([50, 3, 0], {"a or b": 53, "c": 0}),
        ([0, 3, 0], {"a or b or c": 3}),
        ([1, 2], {"a or b": 3}),
        ([7], {"a": 7}),
        ([0, 0], {"a": 0, "b": 0}),
    ],
)
def test_a_small_count_joins_the_smaller_neighbour_that_is_company_enough(counts, expected):
    """Where there is one; zeros may be shown."""
    assert pooled(*counts) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([90, 70, 3, 15], [90, 73, 15]),  # not 18: values join values
        ([0, 90, 3, 15], [0, 93, 15]),
        ([3, 0, 0, 15], [18]),  # no other way
        ([90, 70, 20, 3], [90, 70, 23]),
    ],
)
def test_values_join_missing_ones_only_where_they_must(counts, expected):
    """The last bin is that of missing values: of no order, and a share of its own."""
    assert list(pooled(*counts, kinds=["underflow", "bin", "overflow", "missing"]).values()) == expected


VALUES = ["bin", "bin", "unseen", "other", "missing"]


@pytest.mark.parametrize(
    ("counts", "cells", "expected"),
    [
        # Rare bins are small together or not at all.
        ([50, 60, 3, 8, 70], ["00", "01", "rare", "rare", "04"], {"a": 50, "b": 60, "c or d": 11, "e": 70}),
        # They join values, though the number of missing ones is nearer.
        ([50, 60, 3, 4, 70], ["00", "01", "rare", "rare", "04"], {"a": 50, "b or c or d": 67, "e": 70}),
        ([50, 60, 3, 4, 40], ["00", "01", "rare", "rare", "rare"], {"a": 50, "b": 60, "c or d or e": 47}),
        ([50, 60, 3, 4, 3], ["00", "01", "rare", "rare", "rare"], {"a": 50, "b or c or d or e": 70}),
        ([5, 6, 70, 0, 0], ["rare", "rare", "02", "03", "04"], {"c": 70, "d": 0, "a or b": 11, "e": 0}),
    ],
)
def test_cells_are_pooled_whole(counts, cells, expected):
    """Bins of a cell are never shown apart."""
    assert pooled(*counts, kinds=VALUES, cells=cells) == expected


def test_kinds_stay_where_nothing_was_pooled():
    """A pool is of no kind: not even of the kind of missing values."""
    bins = bins_of([1, 2, 3], ["underflow", "bin", "missing"])
    low, high = without_small_counts(np.array([50, 60, 3]), bins)
    assert (low.kind(bins), high.kind(bins)) == ("underflow", POOLED)
    assert [(made.count, made.reference) for made in (low, high)] == [(50, 1), (63, 5)]
    assert [made.kind(bins) for made in without_small_counts(np.array([50, 60, 30]), bins)] == list(bins.kinds)


def test_without_pooling_there_are_bins_or_cells():
    """As they are counted, and as they are compared."""
    counts, bins = np.array([5, 40, 50, 1]), bins_of([1, 2, 3, 4], cells=["01", "01", "rare", "rare"])
    assert [(made.members, made.count, made.reference) for made in each_bin(counts, bins)] == [
        ((0,), 5, 1),
        ((1,), 40, 2),
        ((2,), 50, 3),
        ((3,), 1, 4),
    ]
    assert [(made.members, made.count, made.reference) for made in each_cell(counts, bins)] == [
        ((0, 1), 45, 3),
        ((2, 3), 51, 7),
    ]


@settings(deadline=None)
@given(cells, st.booleans(), st.data())
@example([(10, 0)] * 15, True, None)
@example([(1, 5), (0, 0), (0, 0), (0, 3), (2, 1)], False, None)
def test_no_small_count_remains_and_nothing_is_lost(cells, nullable, data):
    """Unless all rows together are few; every bin is in one pool, with the others of its cell."""
    B, counts, reference = len(cells), np.array([n for n, _ in cells]), [m for _, m in cells]
    kinds = ["bin"] * (B - 1) + ["missing" if nullable else "overflow"]
    names = [f"{number:02d}" for number in range(B)]
    if data is not None:
        names = [data.draw(st.sampled_from([name, "rare"])) for name in names]
    bins = bins_of(reference, kinds, names)
    found = without_small_counts(counts, bins)
    assert not is_small(np.array([made.count for made in found])).any() or (len(found) == 1 and is_small(counts.sum()))
    assert sorted(member for made in found for member in made.members) == list(range(B))
    for made in found:
        mine = list(made.members)
        assert (made.count, made.reference) == (counts[mine].sum(), bins.reference[mine].sum())
        assert {bins.cell_of[member] for member in mine}.isdisjoint(np.delete(bins.cell_of, mine))
    if not is_small(counts).any() and len(set(names)) == B:
        assert len(found) == B


def test_what_is_given_stays_as_it_is():
    """The bins of a package are shared by all reports."""
    counts, bins = np.array([5, 40, 50]), bins_of([1, 2, 3])
    without_small_counts(counts, bins)
    assert (counts.tolist(), bins.reference.tolist(), bins.words) == ([5, 40, 50], [1, 2, 3], ("a", "b", "c"))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([12, 100, 90, 11], False),
        ([12, 100, 90, 3], True),  # 15 beside the 12 of the first would tell of 3 in the last
        ([3, 100, 90, 12], True),
        ([12, 5, 90, 12], True),  # 24 of 29, in a pool of 17 and by itself: the rest are 5
        ([12, 30, 5, 40], False),
        ([4, 90, 5, 2], True),  # 6 of 101
        ([60, 4, 3, 80], True),  # 7 others
        ([0, 100, 90, 0], False),
        ([0, 5, 40, 0], False),
        ([1, 0, 0, 0], True),
    ],
)
def test_a_sum_of_bins_tells_a_small_count_of_its_part_of_pools_or_of_the_rest(counts, expected):
    """Here that of the first and the last."""
    counts, bins = np.array(counts), bins_of([1] * 4)
    assert leaves_small_count(counts, without_small_counts(counts, bins), [0, 3]) == expected
