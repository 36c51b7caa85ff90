"""`bench explain`: what a compiled explanation costs beside shap's, on the same session, rows and background.

One thread, one process, in turns row by row: what slows the machine down for a while hits both. Errors are a row's
largest one in percent of its largest value, against a plan of 16 times the coalitions; trees against every leaf and
background row in float64. Kernel is `shap.KernelExplainer(l1_reg=0)`: its default drops 20 of 30 features. The trees
are handed to shap as the served graph holds them.
"""

import importlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.box import MARKDOWN
from rich.console import Console, Group
from rich.progress import track
from rich.table import Table

from bench.errors import BenchError, Unsuitable
from bench.explained import served
from bench.machine import ROOT, description
from service.manifest import (
    BACKGROUND_FILE,
    DOUBLED_EXPLAINER_FILE,
    EXPLAINER_FILE,
    MODEL_FILE,
    read_manifest,
    verify_digests,
)

REPOSITORY = ROOT / "models" / "repository"
OUTPUTS = ("values", "base_values", "error_std", "fx")
# What shap keeps of a longer background unless told otherwise.
FEWER_TREE_ROWS = 100
# shap needs milliseconds for a row; the others are asked several times in that.
TIMES_PER_ROW = 5
TABLE_WIDTH = 100

# Relative errors below this are float32's, and their ratio says nothing.
ROUNDING = 1e-5

Matrix = NDArray[np.float32]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Package:
    """What is measured: the graphs of one package by file name, its background, and rows to explain."""

    contents: dict[str, bytes]
    background: Matrix
    population: Matrix
    rows: Matrix
    seed: int


@dataclass
class Runs:
    """What one contender answered and how long each row took (median of its times, seconds)."""

    values: list[Values]
    seconds: list[float]

    @property
    def median_seconds(self) -> float:
        """The median over rows."""
        return statistics.median(self.seconds)


def explain(
    rows: Annotated[int, typer.Option(min=1, max=1000, help="Held-out rows to explain.")] = 24,
    repository: Annotated[Path, typer.Option(help="Folder of the model packages.", file_okay=False)] = REPOSITORY,
    seconds: Annotated[int, typer.Option(min=1, max=600, help="Length of one run of wrk.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Runs of wrk of each kind.")] = 3,
) -> None:
    """Measure compiled explanations: beside shap's KernelExplainer and TreeExplainer, and in responses over HTTP."""
    console = Console(width=TABLE_WIDTH)
    try:
        shap, limits = _library("shap"), _library("threadpoolctl")
        console.print(description(), highlight=False)
        console.print(f"shap: {shap.__version__}; {rows} rows, one thread, medians", highlight=False)
        with limits.threadpool_limits(1):
            console.print(_sampled(shap, _package(repository, "diagnosis", rows)))
            console.print(_trees(shap, _package(repository, "transaction", rows)))
        with TemporaryDirectory(prefix="plumbline-bench-") as folder:
            console.print(served(Path(folder), seconds=seconds, rounds=rounds))
    except BenchError as error:
        typer.echo(f"bench explain: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unsuitable(f"{name} is needed and not installed") from error


def _package(repository: Path, name: str, n_rows: int) -> Package:
    folder = repository / name / "1"
    manifest = read_manifest(folder)
    contents = verify_digests(folder, manifest)
    if manifest.explainer is None:
        raise Unsuitable(f"{name} has no explainer; `python -m models train {name}` compiles one")
    splits = importlib.import_module(f"models.{name}.data").load_splits()
    background = np.load(folder / BACKGROUND_FILE, allow_pickle=False)
    return Package(contents, background, splits.training.X, splits.held_out.X[:n_rows], manifest.provenance.seed)


def _sampled(shap: Any, package: Package) -> Table:
    """The stratified plan and its double against KernelExplainer, with errors."""
    from models.explainer.compile import HALF_PAIRS_PER_FEATURE
    from models.explainer.reference import sampled
    from models.explainer.served import load_served

    served = load_served(package.contents[MODEL_FILE], package.population)
    kernel = shap.KernelExplainer(lambda X: served.margin(X)[:, 0], package.background)
    runs = _in_turns(
        package.rows,
        {
            "KernelExplainer(l1_reg=0)": lambda X: kernel.shap_values(X, silent=True, l1_reg=0)[0],
            "stratified": _compiled(package.contents[EXPLAINER_FILE]),
            "stratified, doubled": _compiled(package.contents[DOUBLED_EXPLAINER_FILE]),
        },
    )
    half_pairs = HALF_PAIRS_PER_FEATURE * served.n_features
    # A seed that neither the plan nor its calibration has.
    expected = sampled(served, package.background, half_pairs, package.seed + 1000)(package.rows)[:, :, 0]
    return _table("diagnosis: 30 features, 50 background rows", runs, expected)


def _trees(shap: Any, package: Package) -> Group:
    """The tables against shap's interventional TreeExplainer, over all background rows and over 100 of them."""
    from models.explainer.reference import trees
    from models.explainer.served import load_served
    from models.explainer.tree_graph import add_trees, read_trees

    served = load_served(package.contents[MODEL_FILE], package.population)
    read = read_trees(served, package.rows)
    if read is None or len(served.nodes) != 1:
        raise Unsuitable("transaction is not one tree ensemble")
    (node,) = served.nodes

    def tree_explainer(background: Matrix) -> Callable[[Matrix], Values]:
        # Without a masker of its own, shap keeps 100 rows of the background, silently.
        masker = shap.maskers.Independent(background, max_samples=len(background))
        explainer = shap.TreeExplainer(_for_shap(node), masker, feature_perturbation="interventional")
        return lambda X: explainer.shap_values(X, check_additivity=False)[0]

    tables = []
    for background in (package.background, package.background[:FEWER_TREE_ROWS]):
        builder = add_trees(served, background, read)
        if builder is None:
            raise Unsuitable("the trees of transaction fit no tables")
        runs = _in_turns(
            package.rows,
            {
                "shap TreeExplainer": tree_explainer(background),
                "tables": _compiled(builder.finish({}).SerializeToString()),
            },
        )
        expected = trees(served, background, read)(package.rows)[:, :, 0]
        tables.append(_table(f"transaction: 100 trees, 19 features, {len(background)} background rows", runs, expected))
    return Group(*tables)


def _for_shap(node: Any) -> dict[str, Any]:
    """A TreeEnsembleRegressor of one target in the form of a dictionary that shap reads."""
    from models.explainer.affine import attributes

    options = attributes(node)
    places = zip(options["target_treeids"], options["target_nodeids"], strict=True)
    weights = dict(zip(places, options["target_weights"], strict=True))
    tree_of = np.array(options["nodes_treeids"])
    trees = []
    for tree in np.unique(tree_of):
        index = np.flatnonzero(tree_of == tree)
        ids = [options["nodes_nodeids"][i] for i in index]
        place = {node_id: position for position, node_id in enumerate(ids)}
        leaf = np.array([options["nodes_modes"][i] == b"LEAF" for i in index])

        def column(name: str, index: NDArray[np.int64] = index) -> NDArray[Any]:
            return np.array([options[f"nodes_{name}"][i] for i in index])

        left, right = (
            np.where(leaf, -1, [place.get(child, -1) for child in column(name)])
            for name in ("truenodeids", "falsenodeids")
        )
        trees.append(
            {
                "children_left": left,
                "children_right": right,
                "children_default": np.where(column("missing_value_tracks_true") == 1, left, right),
                "features": np.where(leaf, -2, column("featureids")),
                "thresholds": column("values").astype(np.float64),
                "values": np.array([[weights.get((tree, node_id), 0.0)] for node_id in ids]),
                "node_sample_weight": np.ones(len(ids)),
            }
        )
    return {"trees": trees, "base_offset": options["base_values"][0], "input_dtype": np.float32}


def _compiled(graph: bytes) -> Callable[[Matrix], Values]:
    from models.explainer.served import run_single_threaded

    session = run_single_threaded(graph)

    def values(X: Matrix) -> Values:
        found: Values = session.run(OUTPUTS, {"X": X})[0][0, :, 0]
        return found

    return values


def _in_turns(rows: Matrix, contenders: dict[str, Callable[[Matrix], Any]]) -> dict[str, Runs]:
    """Every contender on every row, one row at a time; the first, against which the others count, once a row."""
    runs = {name: Runs([], []) for name in contenders}
    for explain_row in contenders.values():
        explain_row(rows[:1])
    for i in track(range(len(rows)), description="rows", console=Console(stderr=True), transient=True):
        for position, (name, explain_row) in enumerate(contenders.items()):
            seconds = []
            for _ in range(TIMES_PER_ROW if position else 1):
                start = time.perf_counter()
                values = explain_row(rows[i : i + 1])
                seconds.append(time.perf_counter() - start)
            runs[name].values.append(np.asarray(values, np.float64))
            runs[name].seconds.append(statistics.median(seconds))
    return runs


def _table(title: str, runs: dict[str, Runs], expected: Values) -> Table:
    table = Table(title=title, box=MARKDOWN)
    table.add_column("explainer")
    for heading in ("ms / row", "times faster", "mean error", "p95 error", "error ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    errors = {
        name: [np.abs(v - e).max() / np.abs(e).max() for v, e in zip(run.values, expected, strict=True)]
        for name, run in runs.items()
    }
    (first, base), *_ = runs.items()
    for name, run in runs.items():
        mean = float(np.mean(errors[name]))
        table.add_row(
            name,
            f"{1000 * run.median_seconds:.3f}",
            f"{base.median_seconds / run.median_seconds:.1f}",
            f"{100 * mean:.3g} %",
            f"{100 * np.quantile(errors[name], 0.95):.3g} %",
            f"{mean / np.mean(errors[first]):.2f}" if mean > ROUNDING else "",
        )
    return table
