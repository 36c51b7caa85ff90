"""`bench alerts`: how often a breach is called where groups are alike, and where one is selected less often.

Draws windows of six groups, seeded, and judges them with the very functions of the fairness report: a breach of any
kind, in any group. Beside it the bare four-fifths rule, lowest selection rate / highest < 0.8, which asks for no size.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from service.manifest import RESERVED_GROUPS
from service.monitor.comparison import compare
from service.monitor.fairness import LEAST_IMPACT_RATIO, Cells, Rate, ratio
from service.monitor.groups import GroupSet

SIZES = (100, 200, 500, 2000)
SELECTION_RATES = (0.1, 0.3, 0.5)
GROUPS = tuple("abcdef")  # the last one is the reference group
# Of one group's selection rate to that of the others, where they differ.
TRUE_RATIO = 0.6
POSITIVES = 0.5
LABELLED = 0.8
TABLE_WIDTH = 100

Window = dict[str, dict[str, Rate]]  # group -> name of the rate -> rate


def alerts(
    runs: Annotated[int, typer.Option(min=1, max=1_000_000, help="Windows drawn for each row and column.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same figures.")] = 7,
) -> None:
    """Measure how often alerts are false, and how often they are missing."""
    console = Console(width=TABLE_WIDTH)
    console.print(
        f"{len(GROUPS)} groups, {runs} windows each; predicted favourable at the selection rate whatever the outcome, "
        f"{LABELLED:.0%} with an outcome; seed {seed}",
        highlight=False,
    )
    table = Table(box=MARKDOWN)
    for heading in ("rows a group", "selection rate", "alike: breach", "alike: 4/5", "0.6: breach", "0.6: 4/5"):
        table.add_column(heading, justify="right", no_wrap=True)
    dice = np.random.default_rng(seed)
    for n in SIZES:
        for rate in SELECTION_RATES:
            alike, unlike = [rate] * len(GROUPS), [TRUE_RATIO * rate, *[rate] * (len(GROUPS) - 1)]
            figures = [figure for selected in (alike, unlike) for figure in shares(windows(selected, n, runs, dice))]
            table.add_row(str(n), f"{rate:.0%}", *(f"{100 * figure:.2f} %" for figure in figures))
    console.print(table)


def windows(selection_rates: Sequence[float], n: int, runs: int, dice: np.random.Generator) -> Iterator[Window]:
    """`runs` windows of n predictions in each group; true and false positive rates are the selection rate too."""
    size = (runs, len(selection_rates))
    labelled = dice.binomial(n, LABELLED, size)
    positives = dice.binomial(labelled, POSITIVES)
    true_positives = dice.binomial(positives, selection_rates)
    false_positives = dice.binomial(labelled - positives, selection_rates)
    others = dice.binomial(n - labelled, selection_rates)
    # (runs, groups, 5)
    drawn = np.stack([labelled, positives, true_positives, false_positives, others], axis=-1).tolist()
    for groups in drawn:
        yield {group: _rates(n, *counts) for group, counts in zip(GROUPS, groups, strict=True)}


def _rates(
    n: int, labelled: int, positives: int, true_positive: int, false_positive: int, others: int
) -> dict[str, Rate]:
    cells = Cells(true_positive, false_positive, positives - true_positive, labelled - positives - false_positive)
    return cells.rates(positive_is_favourable=True) | {
        "selection_rate": Rate(true_positive + false_positive + others, n),
        "label_coverage": Rate(labelled, n),
    }


def shares(drawn: Iterator[Window]) -> tuple[float, float]:
    """The shares of windows with a breach, and with one by the four-fifths rule."""
    found = [(bool(breaches(window)), below_four_fifths(window)) for window in drawn]
    breach, four_fifths = np.mean(found, axis=0).tolist()
    return breach, four_fifths


def breaches(window: Window) -> set[tuple[str, str]]:
    """(group, comparison) of everything that would alert."""
    *compared, reference = window
    made = GroupSet("drawn", (*window, *RESERVED_GROUPS), reference, ("drawn",))
    return {
        (group, name)
        for group in compared
        for name, found in compare(
            window[group], window[reference], z=made.simultaneous_z, difference_z=made.simultaneous_difference_z
        ).items()
        if found.get("state") == "breach"
    }


def below_four_fifths(window: Window) -> bool:
    """Whether the lowest selection rate is less than four fifths of the highest."""
    lowest = ratio({group: rates["selection_rate"] for group, rates in window.items()})
    return lowest is not None and lowest.value < LEAST_IMPACT_RATIO
