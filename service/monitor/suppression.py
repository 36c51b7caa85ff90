"""Small cells: which groups of a report must be hidden so that no count of 1 to 10 stands in it or follows from it.

The rule is that of the US Centers for Medicare & Medicaid Services: no count of 1 to 10, and nothing from which one can
be derived, may leave the house; 0 may (ResDAC, "CMS Cell Size Suppression Policy", 2024). Counts are hidden by whole
groups and in *levels*, each with finer cells than the one before: decisions, outcomes, scores.

- A group with a small cell is hidden. So are more groups, the smallest first, until what the hidden ones add up to
  holds no small cell either: anyone may know the total, from a sensitive feature where nothing is hidden.
- Intersections add up to their parts, in as many ways as they have parts. One is shown whole or hidden whole, in
  decisions and outcomes alike: decisions of the combinations beside outcomes of the parts can give away a cell. It is
  hidden if it has a small cell or a part of it is hidden, and with it are those that share a part. What counts are
  combinations with `unknown`, `declined` and `other` too, as a group less its shown combinations is a count of those.
- Scores of the parts of an intersection that is shown are all shown or all hidden, by the same rule.

A cell that is hidden then follows only if it is 0 or larger than 10. That holds within one report: two reports of
overlapping windows can be subtracted from each other, and whoever may ask at any time has to be trusted.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.monitor.tally import GroupTable

SMALLEST_SHOWN = 11

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Hidden:
    """Which groups `(G,)` are hidden in decisions, in outcomes and in scores; each contains the one before."""

    decisions: Mask
    outcomes: Mask
    scores: Mask


def everything(table: GroupTable, hidden: bool) -> Hidden:
    """All groups of `table`, hidden or shown."""
    mask = np.full(len(table.n), hidden)
    return Hidden(mask, mask, mask)


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


def hide(tables: Sequence[GroupTable]) -> list[Hidden]:
    """What to hide of each of `tables`, which are all sensitive features and intersections of one model."""
    made = [everything(table, False) if table.made.is_intersection else _hide_alone(table) for table in tables]
    alone = {table.made.name: hidden for table, hidden in zip(tables, made, strict=True) if len(table.made.parts) == 1}
    parts = {index: table.made.parts for index, table in enumerate(tables) if table.made.is_intersection}
    closed = _spread(
        parts,
        (
            index
            for index, names in parts.items()
            if _has_small(tables[index]) or any(alone[name].outcomes.any() for name in names)
        ),
    )
    shown = {index: names for index, names in parts.items() if index not in closed}
    without_scores = _spread(
        shown,
        (
            index
            for index, names in shown.items()
            if _has_small(tables[index], by_score=True) or any(alone[name].scores.any() for name in names)
        ),
    )
    blurred = {name for index in without_scores for name in shown[index]}
    for index, table in enumerate(tables):
        if index in closed:
            made[index] = everything(table, True)
        elif table.made.name in blurred:
            made[index] = replace(made[index], scores=np.ones(len(table.n), np.bool_))
    return made


def _hide_alone(table: GroupTable) -> Hidden:
    """What to hide of a sensitive feature because of its own cells."""
    G = len(table.n)
    decisions = hidden_groups(table.predicted, np.zeros(G, np.bool_))
    outcomes = hidden_groups(np.concatenate([table.cells.reshape(G, -1), table.unlabelled], axis=1), decisions)
    return Hidden(decisions, outcomes, hidden_groups(table.bins.reshape(G, -1), outcomes))


def _has_small(table: GroupTable, *, by_score: bool = False) -> bool:
    """Whether a combination of the parts' groups, reserved ones too, has a small cell of outcomes, or of scores."""
    cells: Counter[tuple[object, ...]] = Counter()
    for (groups, predicted, actual, score_bin), n in table.combinations.items():
        cells[groups, predicted, actual, score_bin if by_score and actual is not None else None] += n
    return any(0 < n < SMALLEST_SHOWN for n in cells.values())


def _spread(parts: dict[int, tuple[str, ...]], first: Iterable[int]) -> set[int]:
    """`first` of the intersections, and all that share a part with one of them, directly or over others."""
    found = set(first)
    names = {name for index in found for name in parts[index]}
    while more := {index for index in parts.keys() - found if names & set(parts[index])}:
        found |= more
        names |= {name for index in more for name in parts[index]}
    return found
