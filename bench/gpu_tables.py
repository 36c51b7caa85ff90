"""The figures of `bench gpu` as tables: a line for each contender, with its ratios."""

from rich.box import MARKDOWN
from rich.table import Table

from bench.gpu_runs import SHAP, Measured


def predict_table(measured: list[Measured]) -> Table:
    """Predictions: how many times the rows per second of the CPU, for each model and batch."""
    table = _table("predictions, one run", "model", "rows", "device", ratios=("x CPU",))
    speeds = {(row.model, row.rows, row.device): row.figures.rows_per_second for row in measured}
    for row in measured:
        base = speeds.get((row.model, row.rows, "cpu"))
        table.add_row(row.model, str(row.rows), row.device, *_figures(row), _times(row, base))
    return table


def explain_table(measured: list[Measured]) -> Table:
    """Explanations: how many times as fast as the same on the CPU, and as shap on the same device."""
    names = ("model", "explainer", "evaluations", "device")
    table = _table("explanations, one row", *names, ratios=("x CPU", "x shap"))
    speeds = {(row.model, row.contender, row.device): row.figures.rows_per_second for row in measured}
    for row in measured:
        on_cpu, shap = speeds.get((row.model, row.contender, "cpu")), speeds.get((row.model, SHAP, row.device))
        evaluations = "" if row.evaluations is None else str(row.evaluations)
        cells = (*_figures(row), _times(row, on_cpu), _times(row, shap))
        table.add_row(row.model, row.contender, evaluations, row.device, *cells)
    return table


def _table(title: str, *names: str, ratios: tuple[str, ...]) -> Table:
    table = Table(title=title, box=MARKDOWN)
    for name in names:
        table.add_column(name, justify="right" if name in ("rows", "evaluations") else "left", no_wrap=True)
    for name in ("p50 ms", "p99 ms", "rows/s", *ratios):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _figures(row: Measured) -> tuple[str, str, str]:
    figures = row.figures
    return f"{1e3 * figures.p50_seconds:.3f}", f"{1e3 * figures.p99_seconds:.3f}", _number(figures.rows_per_second)


def _times(row: Measured, base: float | None) -> str:
    return "" if base is None else _number(row.figures.rows_per_second / base)


def _number(value: float) -> str:
    """Three digits, and all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
