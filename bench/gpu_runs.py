"""The runs of `bench gpu`: every package on each device that takes it, as the service runs it, beside shap."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.accelerator import Accelerator
from bench.turns import Figures, in_turns
from service.errors import ProviderError
from service.manifest import (
    BACKGROUND_FILE,
    EXPLAINER_FILE,
    GOLDEN_FILE,
    MODEL_FILE,
    Golden,
    Manifest,
    parse_part,
    read_manifest,
    verify_digests,
)
from service.runtime.explainer import Explainer
from service.runtime.session import Session, open_session

PLUMBLINE, SHAP = "plumbline", "shap.KernelExplainer"
# Largest run on a GPU that KernelExplainer's rows are cut into; it asks for all of a row's evaluations at once.
MOST_ROWS = 2**15

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Package:
    """The files of one package that are run."""

    manifest: Manifest
    contents: dict[str, bytes]
    golden: Golden
    background: Matrix | None

    @property
    def rows(self) -> Matrix:
        """Real rows, `(8, d)`."""
        return np.array(self.golden.rows, np.float32)

    @property
    def has_trees(self) -> bool:
        """Whether a node of the graph is a tree ensemble: its operator's name stands in the file."""
        return b"TreeEnsemble" in self.contents[MODEL_FILE]


@dataclass(frozen=True)
class Measured:
    """One contender's figures. `rows` are those of one run, `evaluations` of the model in one explanation."""

    model: str
    contender: str
    device: str
    rows: int
    evaluations: int | None
    figures: Figures


@dataclass(frozen=True)
class Plan:
    """How long, how often, and in which batches."""

    batches: tuple[int, ...]
    seconds: float
    least_runs: int
    threads: int


def read_package(folder: Path) -> Package:
    """Raises PackageError if a file is not the one that was packaged."""
    manifest = read_manifest(folder)
    contents = verify_digests(folder, manifest)
    has_background = BACKGROUND_FILE in contents
    background = np.load(folder / BACKGROUND_FILE, allow_pickle=False) if has_background else None
    return Package(manifest, contents, parse_part(contents[GOLDEN_FILE], GOLDEN_FILE, Golden), background)


def load_shap() -> Any:
    """The library if it is installed: the service is not in need of it."""
    try:
        return importlib.import_module("shap")
    except ImportError:
        return None


def _devices(accelerator: Accelerator) -> list[str]:
    return ["cpu"] if accelerator.trouble is not None else ["cpu", accelerator.device]


def _sessions(package: Package, accelerator: Accelerator, plan: Plan, *, max_rows: int) -> dict[str, Session]:
    """The model on each device that runs it, its golden rows checked there."""
    sessions = {}
    for device in _devices(accelerator):
        try:
            session = open_session(
                package.contents[MODEL_FILE], package.manifest, device=device, threads=plan.threads, max_rows=max_rows
            )
        except ProviderError:
            continue
        session.warm_up(package.golden, max_rows=max_rows)
        sessions[device] = session
    return sessions


def predict(package: Package, accelerator: Accelerator, plan: Plan, notes: list[str]) -> list[Measured]:
    """Batches of every size on every device; what is to be said about them is added to `notes`."""
    name = package.manifest.name
    sessions = _sessions(package, accelerator, plan, max_rows=max(plan.batches))
    if package.has_trees:
        notes.append(f"{name} runs on the CPU: ONNX Runtime has no CUDA kernel for tree ensembles.")
    elif accelerator.trouble is None and accelerator.device not in sessions:
        notes.append(f"{name} runs on the CPU: ONNX Runtime has CUDA kernels for only a part of its graph.")
    if accelerator.device in sessions:
        margins = [session.run(package.rows)[0] for session in sessions.values()]
        notes.append(f"{name}: margins on the GPU differ by at most {_difference(*margins):.1e} from the CPU's.")
    measured = []
    for rows in plan.batches:
        X = np.resize(package.rows, (rows, package.rows.shape[1]))
        runs = {device: _bind(session.run, X) for device, session in sessions.items()}
        for device, figures in in_turns(runs, rows=rows, seconds=plan.seconds, least_runs=plan.least_runs).items():
            measured.append(Measured(name, PLUMBLINE, device, rows, None, figures))
    return measured


def explain(package: Package, accelerator: Accelerator, plan: Plan, shap: Any, notes: list[str]) -> list[Measured]:
    """Row after row of the golden rows, by every contender in turns."""
    info, name = package.manifest.explainer, package.manifest.name
    if info is None or package.background is None:
        notes.append(f"{name} has no explainer.")
        return []
    explainers = {}
    for device in _devices(accelerator):
        try:
            explainers[device] = Explainer(package.contents[EXPLAINER_FILE], package.manifest, device=device)
        except ProviderError:
            continue
    if len(explainers) > 1:
        values = [explainer.explain(package.rows[:1]).values for explainer in explainers.values()]
        notes.append(f"{name}: values on the GPU differ by at most {_difference(*values):.1e} from the CPU's.")
    runs = {(PLUMBLINE, device): _each_row(explainer.explain, package.rows) for device, explainer in explainers.items()}
    samples = info.n_evals // len(package.background) or None
    if shap is not None:
        for device, session in _sessions(package, accelerator, plan, max_rows=MOST_ROWS).items():
            runs[SHAP, device] = _each_row(_kernel(shap, session, package.background, samples), package.rows)
        if samples is None:
            notes.append(f"{name}: exact tables evaluate the model only once; {SHAP} is given its default of samples.")
    measured = in_turns(runs, rows=1, seconds=plan.seconds, least_runs=plan.least_runs)
    return [
        Measured(name, contender, device, 1, samples and samples * len(package.background), figures)
        for (contender, device), figures in measured.items()
    ]


def _kernel(shap: Any, session: Session, background: Matrix, samples: int | None) -> Callable[[Matrix], object]:
    explainer = shap.KernelExplainer(lambda X: session.run(np.asarray(X, np.float32))[0], background)
    return lambda X: explainer.shap_values(X, silent=True, l1_reg=0, nsamples=samples or "auto")


def _bind(run: Callable[[Matrix], object], X: Matrix) -> Callable[[], object]:
    return lambda: run(X)


def _each_row(explain_row: Callable[[Matrix], object], rows: Matrix) -> Callable[[], object]:
    """A function that explains the next row at each call, the first one again after the last."""
    position = -1

    def explain_next() -> object:
        nonlocal position
        position = (position + 1) % len(rows)
        return explain_row(rows[position : position + 1])

    return explain_next


def _difference(first: NDArray[Any], second: NDArray[Any]) -> float:
    """The largest one, in units of the larger of 1 and the first's value."""
    return float(np.max(np.abs(first - second) / np.maximum(1.0, np.abs(first))))
