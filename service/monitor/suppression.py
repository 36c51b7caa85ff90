"""Small cells: which groups of a report must be hidden so that no count of 1 to 10 stands in it or follows from it.

The rule is that of the US Centers for Medicare & Medicaid Services: no count of 1 to 10, and nothing from which one can
be derived, may leave the house; 0 may (ResDAC, "CMS Cell Size Suppression Policy", 2024). Counts are hidden by whole
groups and in *levels*, each a table of groups by kinds of cell: decisions, outcomes, scores.

- A group with a small cell is hidden. So are more groups, the smallest first, until what the hidden ones add up to
  holds no small cell either: anyone may know the total, from a sensitive feature where nothing is hidden.
- Intersections add up to their parts, in as many ways as they have parts. One that has a small cell, or a part of which
  is hidden, is hidden whole, and with it those that share a part.

A cell that is hidden then follows only if it is 0 or larger than 10. That holds within one report: two reports of
overlapping windows can be subtracted from each other, and whoever may ask at any time has to be trusted.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.monitor.groups import GroupSet

SMALLEST_SHOWN = 11

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]


def is_small(counts: Counts) -> Mask:
    """Which counts must not be shown."""
    return (counts > 0) & (counts < SMALLEST_SHOWN)


def hidden_groups(cells: Counts, hidden: Mask) -> Mask:
    """`cells` `(G, C)` of one level -> which of the G groups to hide, those that are `hidden` already among them."""
    hidden = hidden | is_small(cells).any(axis=1)
    size = cells.sum(axis=1)
    shown = [int(group) for group in np.argsort(size, kind="stable") if size[group] > 0 and not hidden[group]]
    while hidden.any() and shown and not _safe(cells, hidden):
        hidden[shown.pop(0)] = True
    return hidden


def _safe(cells: Counts, hidden: Mask) -> bool:
    """Whether at least two groups that are not empty are hidden, and all of them together have no small cell."""
    return bool((cells[hidden].sum(axis=1) > 0).sum() >= 2 and not is_small(cells[hidden].sum(axis=0)).any())


def hide(sets: Sequence[GroupSet], cells: Sequence[Counts], above: Sequence[Mask] | None = None) -> list[Mask]:
    """One level of all sensitive features: `cells[i]` `(G_i, C)` of `sets[i]`, groups to hide for each.

    `above` are those of the level before: who is hidden there is hidden here.
    """
    before = above or [np.zeros(len(table), np.bool_) for table in cells]
    masks = [
        mask.copy() if made.is_intersection else hidden_groups(table, mask)
        for made, table, mask in zip(sets, cells, before, strict=True)
    ]
    intersections = {index for index, made in enumerate(sets) if made.is_intersection}
    # An intersection is hidden whole; what is hidden then spreads over the parts it shares with others.
    hidden = {index for index in intersections if masks[index].any() or is_small(cells[index]).any()}
    parts = {part for index, made in enumerate(sets) if index in hidden or masks[index].any() for part in made.parts}
    while more := {index for index in intersections - hidden if parts & set(sets[index].parts)}:
        hidden |= more
        parts |= {part for index in more for part in sets[index].parts}
    for index in hidden:
        masks[index][:] = True
    return masks
