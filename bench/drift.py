"""`bench drift`: how often drift alerts are false and how often they miss, and what counting for them costs.

Windows are drawn, seeded, and judged with the very functions of the report. A reference is drawn for each window too,
for a small one is a source of chance of its own. Beside it the bare rule PSI > 0.1, which asks for no size. The cost is
that of the monitor's own counting, with and without a reference.
"""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from bench.machine import description
from bench.watched import BATCH_ROWS, FEATURES, counters, inferences
from service.manifest import Feature
from service.monitor import drift as rule
from service.monitor.bins import Bins, feature_bins
from service.monitor.counters import Counters
from service.monitor.exposition import MonitorExposition
from service.monitor.monitor import count
from service.reference import BinCounts, FeatureReference

SIZES = (100, 200, 1000)
REFERENCE_ROWS = (228, 1000, 10_000, 83_086)
NUMERIC_BINS = 10
# What share of the rows has each category of a feature that is not numeric.
CATEGORIES = np.array([0.5, 0.3, 0.1, 0.05, 0.03, 0.01, 0.005, 0.003, 0.0015, 0.0005])
NUMERIC_FEATURES = 20  # of FEATURES; the rest are categorical
NUMERIC = Feature(name="x", kind="numeric")
CATEGORICAL = Feature(name="x", kind="categorical", categories=list(map(str, range(len(CATEGORIES)))))
TRUE_PSI = 0.25
TABLE_WIDTH = 110
MODELS = 3

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def drift(
    windows: Annotated[int, typer.Option(min=1, max=100_000, help="Windows drawn for each figure.")] = 2000,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Runs of the costs, of which the median counts.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same figures.")] = 7,
) -> None:
    """Measure how often drift alerts are false or missing, and what they cost."""
    console = Console(width=TABLE_WIDTH)
    console.print(description(), highlight=False)
    console.print(
        f"{FEATURES} features, {NUMERIC_FEATURES} of them numeric in {NUMERIC_BINS} bins; {windows} windows a figure, "
        f"each with its own reference; seed {seed}",
        highlight=False,
    )
    console.print(_chances(windows, np.random.default_rng(seed)))
    console.print(_costs(rounds))


def _chances(windows: int, dice: np.random.Generator) -> Table:
    table = Table(box=MARKDOWN)
    for heading in ("reference rows", "rows", "no drift: alarm", "no drift: PSI > 0.1", "PSI 0.25: alarm"):
        table.add_column(heading, justify="right", no_wrap=True)
    for m in REFERENCE_ROWS:
        for n in SIZES:
            alarm, bare = np.mean([no_drift(m, n, dice) for _ in range(windows)], axis=0).tolist()
            power = np.mean([one_drifts(m, n, dice) for _ in range(windows)])
            table.add_row(str(m), str(n), *(f"{100 * share:.2f} %" for share in (alarm, bare, power)))
    return table


def no_drift(m: int, n: int, dice: np.random.Generator) -> tuple[bool, bool]:
    """Whether any feature of a window of n rows alarms, and whether the PSI of any exceeds the floor."""
    found = []
    for number in range(FEATURES):
        bins, true = numeric(m, dice) if number < NUMERIC_FEATURES else categorical(m, dice)
        psi = compared(dice.multinomial(n, true), bins)
        found.append((rule.psi_state(psi, n) == "drift", psi is not None and psi.value > rule.LEAST_PSI))
    alarm, bare = np.any(found, axis=0).tolist()
    return alarm, bare


def one_drifts(m: int, n: int, dice: np.random.Generator) -> bool:
    """Whether a numeric feature alarms that has moved by a PSI of 0.25."""
    bins, true = numeric(m, dice)
    return rule.psi_state(compared(dice.multinomial(n, moved(true)), bins), n) == "drift"


def compared(counts: Integers, bins: Bins) -> rule.Psi | None:
    """As the report compares one of FEATURES features."""
    return rule.psi(bins.in_cells(counts), bins.in_cells(bins.reference), comparisons=FEATURES)


def numeric(m: int, dice: np.random.Generator) -> tuple[Bins, Floats]:
    """Bins at the quantiles of m rows of a continuous feature, and the true share of rows in each `(B,)`.

    The shares between order statistics are Dirichlet, whatever the distribution: one part below the smallest row and
    one above the largest, which hold no reference row.
    """
    counts = np.full(NUMERIC_BINS, m // NUMERIC_BINS)
    counts[: m % NUMERIC_BINS] += 1
    true = dice.dirichlet([1, *counts[:-1], counts[-1] - 1, 1])
    edges = list(map(float, range(NUMERIC_BINS + 1)))
    made = FeatureReference(name="x", kind="numeric", edges=edges, counts=BinCounts(bins=counts.tolist()))
    return feature_bins(NUMERIC, made), true


def categorical(m: int, dice: np.random.Generator) -> tuple[Bins, Floats]:
    """Rare and common categories, counted in m rows, and their true shares `(B,)`; nothing is of another category."""
    names = list(map(str, range(len(CATEGORIES))))
    counts = BinCounts(bins=dice.multinomial(m, CATEGORIES).tolist())
    made = FeatureReference(name="x", kind="categorical", categories=names, counts=counts)
    return feature_bins(CATEGORICAL, made), np.append(CATEGORIES, 0)


def moved(true: Floats) -> Floats:
    """The shares tilted along the bins until their PSI is TRUE_PSI."""
    low, high = 0.0, 5.0
    for _ in range(60):
        tilt = (low + high) / 2
        tilted = true * np.exp(tilt * np.linspace(-1, 1, len(true)))
        tilted /= tilted.sum()
        psi = ((tilted - true) * np.log(tilted / true)).sum()
        low, high = (tilt, high) if psi < TRUE_PSI else (low, tilt)
    return tilted


def _costs(rounds: int) -> Table:
    table = Table(box=MARKDOWN)
    for heading in ("cost", "median", "(range)"):
        table.add_column(heading, justify="right", no_wrap=True)
    with_drift, without = counters(drift=True), counters(drift=False)
    waiting = [inferences(found) for found in (with_drift, without)]
    rows = len(waiting[0]) * BATCH_ROWS
    fairness, both = [], []
    for _ in range(rounds):
        both.append(1e6 * _seconds(lambda: count(with_drift, waiting[0])) / rows)
        fairness.append(1e6 * _seconds(lambda: count(without, waiting[1])) / rows)
    exposition = MonitorExposition(lambda: models)
    models: list[Counters] = [counters(drift=True, name=f"model-{number}") for number in range(MODELS)]
    exposition.text()
    renders = [1e3 * _seconds(exposition.text) for _ in range(rounds)]
    lines = exposition.text().count("\n")
    for name, figures in (
        (f"counting fairness and drift, {BATCH_ROWS}-row batches, us a row", both),
        ("fairness alone, us a row", fairness),
        (f"/metrics of {MODELS} models, {lines} lines, ms", renders),
    ):
        table.add_row(name, f"{statistics.median(figures):.2f}", f"{min(figures):.2f}-{max(figures):.2f}")
    return table


def _seconds(work: Callable[[], Any]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
