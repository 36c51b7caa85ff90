"""Where things stand on the plots of the pages: axes, and marks with their intervals.

Positions are percentages of a plot's width, in [0, 100], so that a plot fills whatever width it is given while dots and
text keep their size. The templates draw; nothing here knows HTML.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from service.api.page.cell import Cell

MARGIN_PERCENT = 4.0  # room for a dot at either end
# For labels that do not touch where the plot is as narrow as on a telephone.
LEAST_PERCENT_TICK_DISTANCE = 22.0
LEAST_RATIO_TICK_DISTANCE = 14.0
RATIO_LIMITS = (0.05, 20.0)  # what lies beyond is drawn at the edge, with an arrow
RATIO_TICKS = (0.8, 1.0, 0.5, 2.0, 0.2, 5.0, 0.1, 10.0, 1.25, 0.05, 20.0)  # the first come first


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, linear or logarithmic, with labelled ticks."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...] = ()
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The position of a value; one outside the axis stands at its edge."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return round(MARGIN_PERCENT + (100 - 2 * MARGIN_PERCENT) * (value - low) / (high - low), 2)

    def holds(self, value: float) -> bool:
        """Whether the value lies on the axis."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Row:
    """One group on a plot. Without a number there is no mark, and `words` say why."""

    group: str
    state: str
    n: int | None = None
    words: str = ""  # the number, or why there is none
    described: str = ""  # number, interval and counts in words
    at: float | None = None
    low: float | None = None
    high: float | None = None
    also_at: float | None = None  # a second mark, to compare with the first
    beyond: str = ""  # "left" or "right", where the number lies outside the axis


@dataclass(frozen=True)
class Plot:
    """Rows on one axis, with a dashed line at the reference and a solid one at the limit, if there is one."""

    title: str
    about: str  # what the number is, and of which n
    axis: Axis
    rows: tuple[Row, ...]
    value_is: str
    reference_at: float | None = None
    limit_at: float | None = None


def rate_axis(values: Iterable[float]) -> Axis:
    """Around shares in [0, 1], from a round percentage to a round one; 0 to 100% where there are none."""
    values = list(values)
    if not values:
        values = [0.0, 1.0]
    low, high = min(values), max(values)
    step = _round_step(max(high - low, 0.02) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        first, last = max(first - 1, 0), min(last + 1, round(1 / step))
    decimals = max(0, -math.floor(math.log10(100 * step) + 1e-9))
    low, high = first * step, min(last * step, 1.0)
    ticks = [(tick * step, f"{100 * tick * step:.{decimals}f}%") for tick in range(first, last + 1) if tick * step <= 1]
    return _with_ticks(Axis(low, high), ticks, LEAST_PERCENT_TICK_DISTANCE)


def ratio_axis(values: Iterable[float]) -> Axis:
    """Logarithmic, around 0.8 and 1 and the ratios given, within RATIO_LIMITS."""
    least, most = RATIO_LIMITS
    kept = [min(max(value, least), most) for value in values]
    low, high = min([0.7, *kept]), max([1.15, *kept])
    low, high = max(low / 1.05, least), min(high * 1.05, most)
    axis = Axis(low, high, logarithmic=True)
    return _with_ticks(axis, [(tick, f"{tick:g}") for tick in RATIO_TICKS], LEAST_RATIO_TICK_DISTANCE)


def difference_axis(values: Iterable[float]) -> Axis:
    """From the least to the greatest of the values and 0, for bars that start at 0; no ticks."""
    values = [0.0, *values]
    low, high = min(values), max(values)
    return Axis(low, high if high > low else low + 1.0)


def _with_ticks(axis: Axis, ticks: Sequence[tuple[float, str]], least_distance: float) -> Axis:
    """The axis with those ticks on it that do not come too near to an earlier one, as (position, label)."""
    kept: list[tuple[float, str]] = []
    for value, label in ticks:
        position = axis.at(value)
        on_axis = axis.low - 1e-9 <= value <= axis.high + 1e-9
        if on_axis and all(abs(position - other) >= least_distance for other, _ in kept):
            kept.append((position, label))
    return replace(axis, ticks=tuple(sorted(kept)))


def _round_step(least: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is at least `least`."""
    power = 10 ** math.floor(math.log10(least))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9)))


@dataclass(frozen=True)
class Pair:
    """Two bars that start at 0, the reference's above the present one's; None where a share is unknown."""

    name: str
    note: str  # what kind of row it is, where its name does not tell
    reference: float | None
    now: float | None
    reference_words: str
    now_words: str
    described: str
    cell: Cell | None = None  # a third number, such as the difference
    state: str = ""


def bar_widths(pairs: Sequence[tuple[float | None, float | None]]) -> list[tuple[float | None, float | None]]:
    """Widths in percent of the plot, the longest bar of all filling it."""
    most = max((share for pair in pairs for share in pair if share is not None), default=0.0) or 1.0
    return [
        (
            None if reference is None else round(100 * reference / most, 2),
            None if now is None else round(100 * now / most, 2),
        )
        for reference, now in pairs
    ]
