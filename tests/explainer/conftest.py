"""What the explainer tests share: the committed packages' models, and diagnosis compiled once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from models.diagnosis import data as diagnosis
from models.explainer.calibrate import Explained, explain_rows
from models.explainer.compile import HALF_PAIRS_PER_FEATURE, Compiled, compile_explainer
from models.explainer.plan import make_plan
from models.explainer.sampled import add_plan
from models.explainer.served import load_served, run_single_threaded

REPOSITORY = Path(__file__).parents[2] / "models" / "repository"
ROWS = 500


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Products are small here, and threads that wait for each other take longer."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def packages():
    """The committed packages' model files, by name."""
    return {path.parents[1].name: path.read_bytes() for path in REPOSITORY.glob("*/1/model.onnx")}


@dataclass(frozen=True)
class Diagnosis:
    """Diagnosis compiled, and 500 rows explained by the default plan, the doubled one and a reference."""

    compiled: Compiled
    rows: np.ndarray
    default: Explained
    doubled: Explained
    reference: np.ndarray


@pytest.fixture(scope="session")
def diagnosis_explained(packages):
    """The 113 held-out rows, and 387 more around them: each measurement moved by 5 % of its spread."""
    splits = diagnosis.load_splits()
    features = diagnosis.DECLARATION.features
    held_out = splits.held_out.X
    compiled = compile_explainer(
        packages["diagnosis"], features, population=splits.training.X, held_out=held_out, seed=diagnosis.SEED
    )
    rng = np.random.default_rng(0)
    near = held_out[rng.integers(0, len(held_out), ROWS - len(held_out))]
    noise = 0.05 * splits.training.X.std(0) * rng.normal(size=near.shape)
    rows = np.concatenate([held_out, np.maximum(near + noise, 0).astype(np.float32)])
    default, doubled = (
        explain_rows(run_single_threaded(graph.content), rows) for graph in (compiled.explainer, compiled.doubled)
    )
    served = load_served(packages["diagnosis"], splits.training.X)
    return Diagnosis(compiled, rows, default, doubled, reference(served, compiled.background.rows, rows))


def reference(served, background, rows):
    """Values `(n, d, C)` of `rows`: the mean of twelve doubled plans of other seeds, 24 times the default plan."""
    d = served.n_features
    plans = [make_plan(d, len(background), HALF_PAIRS_PER_FEATURE * d, seed, doubled=True) for seed in range(100, 112)]
    graphs = [add_plan(served, background, plan).finish({}).SerializeToString() for plan in plans]
    return np.mean([explain_rows(run_single_threaded(graph), rows).values for graph in graphs], axis=0)
