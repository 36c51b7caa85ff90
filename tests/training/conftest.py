"""What the training tests share: the committed packages, fresh rebuilds, and the rule for a missing torch."""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
MODELS = ("diagnosis", "progression", "transaction")
TORCH_MODELS = ("diagnosis", "progression")


def need_torch():
    """Skip, saying why, where torch is missing; fail instead where every check was asked for."""
    if importlib.util.find_spec("torch") is None:
        reason = "torch is not installed; `pip install torch==2.13.0` (CPU build) makes this test run"
        if os.environ.get("PLUMBLINE_TEST_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def torch():
    """The torch module."""
    need_torch()
    return importlib.import_module("torch")


@pytest.fixture(scope="session")
def repository():
    """The committed packages."""
    return CHECKOUT / "models" / "repository"


@pytest.fixture(params=MODELS)
def package(request, repository):
    """Each committed package's folder in turn."""
    return repository / request.param / "1"


def train(name, repository, *, cwd, hash_seed):
    """`python -m models train NAME` in a process of its own; the package's folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONHASHSEED": hash_seed,
        "OMP_NUM_THREADS": "1",
        "SOURCE_DATE_EPOCH": "1700000000",
    }
    command = [sys.executable, "-m", "models", "train", name, "--repository", str(repository)]
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return repository / name / "1"


@pytest.fixture(scope="session", params=MODELS)
def rebuilds(request, tmp_path_factory):
    """Two fresh trainings of each model, from different working directories and with different hash seeds."""
    if request.param in TORCH_MODELS:
        need_torch()
    folders = [tmp_path_factory.mktemp(f"{request.param}-{run}") for run in ("first", "second")]
    with ThreadPoolExecutor() as both:
        first = both.submit(train, request.param, folders[0], cwd=CHECKOUT, hash_seed="1")
        second = both.submit(train, request.param, folders[1], cwd=folders[1], hash_seed="2")
        return [first.result(), second.result()]


@pytest.fixture(scope="session")
def transaction_splits():
    """The simulated payments, drawn once."""
    from models.transaction.data import load_splits

    return load_splits()
