"""Which rung a model gets, what its files hold, and that compiling again gives the same bytes."""

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import ensembles
import games
import numpy as np
import onnx
import pytest

from models.explainer.calibrate import explain_rows
from models.explainer.card import card
from models.explainer.compile import compile_explainer
from models.explainer.served import run_single_threaded
from models.progression import data as progression
from models.transaction import data as transaction
from service.manifest import Feature

CHECKOUT = Path(__file__).parents[2]


def numeric(d, **options):
    """`d` features of numbers."""
    return [Feature(name=f"x{i}", kind="numeric", **options) for i in range(d)]


def normal(n, d):
    """`n` rows of `d` random numbers."""
    return np.random.default_rng(d).normal(size=(n, d)).astype(np.float32)


def compiled(model, d, **options):
    """Compile `model` of `d` numeric features on random rows."""
    return compile_explainer(model, numeric(d, **options), population=normal(120, d), held_out=normal(40, d), seed=1)


def tree_model():
    """A small ensemble over eight features."""
    return ensembles.sklearn_boosting()[0]


@pytest.mark.parametrize(
    ("algorithm", "model", "d"),
    [
        ("linear", games.additive(12)[0], 12),
        ("tree", tree_model(), 8),
        ("enumeration", games.network(10), 10),
        ("stratified_wls", games.network(11, hidden=4), 11),
        ("stratified_wls", games.network(12, outputs=3, hidden=4), 12),
    ],
)
def test_every_model_gets_the_cheapest_rung_that_serves_it(algorithm, model, d):
    """Exact if a closed form, trees or enumeration allow it; every file within 4 MB."""
    result = compiled(model, d)
    info = result.info()
    assert info.algorithm == algorithm
    assert info.exact == (result.doubled is None)
    assert info.calibration["error_p95"] <= (1e-5 if info.exact else 0.05)
    assert info.calibration["additivity_residual_max"] <= 1e-5
    assert all(len(content) <= 4_000_000 for content in result.files().values())


@pytest.mark.parametrize("d", [1, 2, 3])
def test_models_of_few_features_are_enumerated(d):
    """Down to a single one, which takes the whole gain."""
    axis = "axis = Constant<value_ints = [1]>()"
    result = compiled(games.graph(f"{axis} bent = Tanh(X) margin = ReduceSum(bent, axis)", d), d)
    assert result.algorithm == "enumeration"
    assert result.explainer.calibration["error_max"] <= 1e-6


def test_missing_values_of_nullable_features_are_explained():
    """A network that replaces them by 2: exact for 5 features, an estimate for 12."""
    for d in (5, 12):
        rng = np.random.default_rng(d)
        W = games.floats(rng.normal(size=(d, 3)))
        body = f"""two = Constant<value_float = 2.0>() W = {W} axis = Constant<value_ints = [1]>()
        missing = IsNaN(X) filled = Where(missing, two, X)
        layer = MatMul(filled, W) active = Tanh(layer) margin = ReduceSum(active, axis)"""
        X = normal(120, d)
        X[rng.random(X.shape) < 0.2] = np.nan
        result = compile_explainer(games.graph(body, d), numeric(d, nullable=True), population=X, held_out=X, seed=1)
        explained = explain_rows(run_single_threaded(result.explainer.content), X[:5])
        assert np.isfinite(explained.values).all()
        assert explained.residual.max() <= 1e-5


def test_the_graph_tells_its_plan_and_nothing_of_the_machine_that_made_it():
    """Metadata are ours; no documentation strings, paths or node names."""
    result = compiled(games.network(11, hidden=4), 11)
    for graph in (result.explainer, result.doubled):
        model = onnx.load_from_string(graph.content)
        facts = {entry.key: entry.value for entry in model.metadata_props}
        assert facts == {
            "algorithm": "stratified_wls",
            "plan_id": graph.plan_id,
            "n_evals": str(graph.n_evals),
            "background_id": result.background.id,
            "background_rows": "50",
        }
        assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
        assert str(CHECKOUT).encode() not in graph.content


def test_the_files_are_those_of_the_package_contract():
    """Outputs by name and shape for any number of rows; the background as float32 with its digest."""
    result = compiled(games.network(12, outputs=3, hidden=4), 12)
    files = result.files()
    assert set(files) == {"explainer.onnx", "explainer-doubled.onnx", "background.npy"}
    background = np.load(io.BytesIO(files["background.npy"]))
    assert background.dtype == np.float32
    assert f"sha256:{hashlib.sha256(background.tobytes()).hexdigest()}" == result.info().background_id
    session = run_single_threaded(files["explainer.onnx"])
    for n in (1, 3):
        shapes = [
            array.shape for array in session.run(["values", "base_values", "error_std", "fx"], {"X": normal(n, 12)})
        ]
        assert shapes == [(n, 12, 3), (3,), (n, 12, 3), (n, 3)]


@pytest.mark.parametrize("d", [4, 12])
def test_the_plan_id_changes_with_seed_model_and_background(d):
    """Everything that decides the numbers."""
    features, X = numeric(d), normal(120, d)

    model = games.network(d, hidden=4)

    def plan_id(model=model, rows=X, seed=1):
        options = {"population": rows, "held_out": X, "seed": seed, "tolerance": 1.0}
        return compile_explainer(model, features, **options).explainer.plan_id

    assert plan_id() == plan_id()
    changed = [plan_id(model=games.network(d, hidden=4, seed=1)), plan_id(rows=X[:60])]
    # Enumeration has no plan to draw.
    changed += [plan_id(seed=2)] if d > 10 else []
    assert len({plan_id(), *changed}) == len(changed) + 1


SCRIPT = """
import hashlib, sys
import numpy as np
from models.explainer.compile import compile_explainer
from service.manifest import Feature
d = 12
X = np.random.default_rng(0).normal(size=(300, d)).astype(np.float32)
features = [Feature(name=f"x{i}", kind="numeric") for i in range(d)]
result = compile_explainer(sys.stdin.buffer.read(), features, population=X, held_out=X[:40], seed=7)
for name, content in sorted(result.files().items()):
    print(name, hashlib.sha256(content).hexdigest())
print(result.info().model_dump_json())
"""


def test_compiling_again_gives_the_same_bytes():
    """In another process, folder, hash seed and number of threads."""

    def output(cwd, hash_seed, threads):
        environment = {
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONHASHSEED": hash_seed,
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        }
        command = [sys.executable, "-c", SCRIPT]
        model = games.network(12, hidden=4)
        return subprocess.run(command, cwd=cwd, env=environment, input=model, capture_output=True, check=True).stdout

    first = output(CHECKOUT, "1", "1")
    assert first == output("/", "2", "2")
    assert first.count(b"\n") == 4


def test_progression_is_enumerated_and_transaction_read_as_trees(packages):
    """Exactly, in float32."""
    splits = progression.load_splits()
    result = compile_explainer(
        packages["progression"],
        progression.DECLARATION.features,
        population=splits.training.X,
        held_out=splits.held_out.X,
        seed=7,
    )
    assert result.algorithm == "enumeration"
    assert result.explainer.n_evals == 50 * (2**10 - 2)
    assert result.explainer.calibration["error_max"] <= 1e-6

    splits = transaction.load_splits()
    result = compile_explainer(
        packages["transaction"],
        transaction.DECLARATION.features,
        population=splits.training.X[:5000],
        held_out=splits.held_out.X[:1000],
        seed=7,
    )
    assert result.algorithm == "tree"
    assert len(result.background.rows) == 500
    assert result.explainer.calibration["error_max"] <= 1e-6


@pytest.mark.parametrize(("model", "d"), [(games.network(10), 10), (games.network(11, hidden=4), 11)])
def test_the_card_says_how_wrong_explanations_are(model, d):
    """In words, with the calibration's figures."""
    result = compiled(model, d)
    text = card(result.info(), numeric(d))
    if result.doubled is None:
        assert "The values are exact" in text
    else:
        assert f"{result.explainer.n_evals:,} model rows" in text
        assert f"{100 * result.explainer.calibration['error_p95']:.3g} %" in text
    assert "50 training rows" in text
    assert max(map(len, text.splitlines())) <= 120
