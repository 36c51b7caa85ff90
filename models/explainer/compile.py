"""From a served model to `explainer.onnx`: the cheapest rung that is exact, else the stratified plan, calibrated.

linear          the graph is affine in its inputs             closed form
tree            affine -> tree ensembles -> affine            lookups
enumeration     at most 10 features                           all coalitions
stratified_wls  8 to 64 features                              an estimate with error bars, and its doubled plan
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from models.explainer import reference
from models.explainer.background import Background, herd
from models.explainer.calibrate import ROWS, explain_rows, figure, measure
from models.explainer.exact import MAX_PLAYERS, coalitions
from models.explainer.graph import Builder
from models.explainer.linear import add_linear, read_slope
from models.explainer.plan import make_plan
from models.explainer.reference import Reference, Values
from models.explainer.sampled import add_enumeration, add_plan
from models.explainer.served import Served, load_served, run_single_threaded
from models.explainer.tree_graph import MAX_FILE_BYTES, MAX_PATTERN_WORK, add_trees, read_trees
from models.task import FloatMatrix
from service.errors import PackageError
from service.manifest import (
    BACKGROUND_FILE,
    DOUBLED_EXPLAINER_FILE,
    EXPLAINER_FILE,
    ExplainerInfo,
    Feature,
    Plan,
    digest_bytes,
)

BACKGROUND_ROWS = 50
# Closed forms answer as fast over many rows as over few.
CLOSED_FORM_ROWS = 500
HALF_PAIRS_PER_FEATURE = 5
DEFAULT_TOLERANCE = 0.05
ROUNDING_TOLERANCE = 1e-5

Algorithm = Literal["linear", "tree", "enumeration", "stratified_wls"]


@dataclass(frozen=True)
class Graph:
    """The bytes of one explainer file. `n_evals`: model rows asked to explain an instance, besides its own."""

    content: bytes
    plan_id: str
    n_evals: int
    calibration: dict[str, Any]


@dataclass(frozen=True)
class Compiled:
    """What a package gains. `doubled`, of an estimate only, keeps the same contract with a plan twice as large."""

    algorithm: Algorithm
    explainer: Graph
    doubled: Graph | None
    background: Background
    tolerance: float

    def info(self) -> ExplainerInfo:
        """What the manifest says about the explainer."""
        background = self.background
        calibration: dict[str, Any] = {
            "tolerance": self.tolerance,
            **self.explainer.calibration,
            "discrepancy": figure(background.discrepancy),
            "random_discrepancy": figure(background.random_discrepancy),
        }
        if self.doubled:
            calibration["doubled"] = self.doubled.calibration
        return ExplainerInfo(
            algorithm=self.algorithm,
            plan_id=self.explainer.plan_id,
            n_evals=self.explainer.n_evals,
            background_rows=len(background.rows),
            background_id=background.id,
            doubled=Plan(plan_id=self.doubled.plan_id, n_evals=self.doubled.n_evals) if self.doubled else None,
            calibration=calibration,
        )

    def files(self) -> dict[str, bytes]:
        """What the package gains, by file name."""
        background = io.BytesIO()
        np.save(background, self.background.rows, allow_pickle=False)
        files = {EXPLAINER_FILE: self.explainer.content, BACKGROUND_FILE: background.getvalue()}
        return files | ({DOUBLED_EXPLAINER_FILE: self.doubled.content} if self.doubled else {})


@dataclass(frozen=True)
class _Task:
    served: Served
    features: Sequence[Feature]
    population: FloatMatrix
    rows: FloatMatrix
    seed: int
    tolerance: float

    def background(self, n_rows: int) -> Background:
        return herd(self.population, self.features, n_rows, self.seed)

    @property
    def splits(self) -> bool:
        """Whether the first layer may be split: 0 times a missing value is missing, so not where one may come."""
        return not any(feature.nullable for feature in self.features)


def compile_explainer(
    model: bytes,
    features: Sequence[Feature],
    *,
    population: FloatMatrix,
    held_out: FloatMatrix,
    seed: int,
    tolerance: float = DEFAULT_TOLERANCE,
) -> Compiled:
    """Compile and calibrate the explainer of `model` for rows `X` `(n, d)` of `features`.

    `population` `(n, d)` are the rows that the background stands for (the training split); `held_out` judge. The same
    arguments give the same bytes. Raises PackageError, saying why, if the model cannot be explained or if the error on
    held-out rows exceeds `tolerance` of the largest attribution at twice the usual plan.
    """
    population, held_out = (np.ascontiguousarray(rows, np.float32) for rows in (population, held_out))
    sample = np.random.default_rng([seed, len(held_out)]).permutation(len(held_out))[:ROWS]
    served = load_served(model, population)
    task = _Task(served, features, population, held_out[np.sort(sample)], seed, tolerance)
    # The last bits of a product may depend on the number of threads, and small ones are no faster on several.
    with threadpool_limits(1):
        return _linear(task) or _trees(task) or _enumeration(task) or _stratified(task)


def _linear(task: _Task) -> Compiled | None:
    slope = read_slope(task.served, task.rows)
    if slope is None:
        return None
    background = task.background(CLOSED_FORM_ROWS)
    builder = add_linear(task.served, background.rows, slope)
    expected = reference.linear(background.rows, slope)
    return _exact(task, "linear", background, builder, 0, expected)


def _trees(task: _Task) -> Compiled | None:
    trees = read_trees(task.served, task.rows)
    if trees is None:
        return None
    # Deep leaves that fit no table take time per background row.
    for n_rows, max_pattern_work in ((CLOSED_FORM_ROWS, 0), (BACKGROUND_ROWS, MAX_PATTERN_WORK)):
        background = task.background(n_rows)
        builder = add_trees(task.served, background.rows, trees, max_pattern_work=max_pattern_work)
        if builder is not None:
            expected = reference.trees(task.served, background.rows, trees)
            return _exact(task, "tree", background, builder, 0, expected)
    return None


def _enumeration(task: _Task) -> Compiled | None:
    d = task.served.n_features
    if d > MAX_PLAYERS:
        return None
    background = task.background(BACKGROUND_ROWS)
    builder = add_enumeration(task.served, background.rows, split=task.splits)
    n_evals = 2 * len(coalitions(d)) * len(background.rows)
    expected = reference.enumeration(task.served, background.rows)
    return _exact(task, "enumeration", background, builder, n_evals, expected)


def _exact(
    task: _Task, algorithm: Algorithm, background: Background, builder: Builder, n_evals: int, expected: Reference
) -> Compiled:
    graph = _finish(task, algorithm, background, builder, n_evals, expected)
    error = graph.calibration["error_max"]
    if not error <= ROUNDING_TOLERANCE:
        raise PackageError(f"the {algorithm} explainer is off by {error:g} of the largest value")
    return Compiled(algorithm, graph, None, background, task.tolerance)


def _stratified(task: _Task) -> Compiled:
    d, background = task.served.n_features, task.background(BACKGROUND_ROWS)
    sampled = reference.sampled(task.served, background.rows, HALF_PAIRS_PER_FEATURE * d, task.seed)
    # By far the longest part: after the first file has turned out to be small enough, and once for all.
    known: list[Values] = []

    def expected(X: FloatMatrix) -> Values:
        if not known:
            known.append(sampled(X))
        return known[0]

    def graph(half_pairs: int, *, doubled: bool) -> Graph:
        plan = make_plan(d, len(background.rows), half_pairs, task.seed, doubled=doubled)
        builder = add_plan(task.served, background.rows, plan, split=task.splits)
        return _finish(task, "stratified_wls", background, builder, plan.n_evals, expected)

    for half_pairs in (HALF_PAIRS_PER_FEATURE * d, 2 * HALF_PAIRS_PER_FEATURE * d):
        default = graph(half_pairs, doubled=False)
        if default.calibration["error_p95"] <= task.tolerance:
            return Compiled("stratified_wls", default, graph(half_pairs, doubled=True), background, task.tolerance)
    raise PackageError(
        f"explanations of held-out rows are off by {default.calibration['error_p95']:.1%} of the largest value (95th "
        f"percentile) with {default.n_evals} model rows each; at most {task.tolerance:.1%} is allowed"
    )


def _finish(
    task: _Task, algorithm: Algorithm, background: Background, builder: Builder, n_evals: int, expected: Reference
) -> Graph:
    """The file, named by its own content, and measured. PackageError if it is too large or not locally accurate."""
    # All that decides the numbers stands in the graph: the model, the background's part, coalitions and weights.
    plan_id = digest_bytes(builder.finish({}).SerializeToString(deterministic=True))
    facts = {
        "algorithm": algorithm,
        "background_id": background.id,
        "background_rows": str(len(background.rows)),
        "n_evals": str(n_evals),
        "plan_id": plan_id,
    }
    content = builder.finish(facts).SerializeToString(deterministic=True)
    if len(content) > MAX_FILE_BYTES:
        raise PackageError(f"the explainer takes {len(content)} bytes; at most {MAX_FILE_BYTES} are allowed")
    calibration = measure(explain_rows(run_single_threaded(content), task.rows), expected(task.rows))
    if not calibration["additivity_residual_max"] <= ROUNDING_TOLERANCE:
        raise PackageError(f"values miss the margin by {calibration['additivity_residual_max']:g} of it")
    return Graph(content, plan_id, n_evals, calibration)
