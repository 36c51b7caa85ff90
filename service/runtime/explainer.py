"""One compiled explainer: SHAP values of one row by one run of a graph.

Knows the explainer graph's contract (`X` -> `values`, `base_values`, `error_std`, `fx`) and what makes an answer
trustworthy. Knows no JSON and no queue.
"""

from dataclasses import dataclass

import numpy as np
import onnxruntime
import structlog
from numpy.typing import NDArray

from service.errors import PackageError, ProviderError
from service.manifest import Manifest
from service.runtime.session import Run, build, run_on

log = structlog.get_logger(__name__)

Floats = NDArray[np.float32]
OUTPUTS = ("values", "base_values", "error_std", "fx")


@dataclass(frozen=True, slots=True)
class Attribution:
    """Why the margin of one row is what it is. C is 1 for a binary model, else the number of classes.

    `values` and `error_std` `(d, C)`, `base_values` and `fx` `(C,)`; margin units. `error_std` is the standard error of
    each value, zero where the values are exact.
    """

    values: Floats
    base_values: Floats
    error_std: Floats
    fx: Floats

    @property
    def additivity_residual(self) -> float:
        """max over outputs of |base + sum of values - fx|: local accuracy holds by construction, this checks it."""
        total = self.base_values.astype(np.float64) + self.values.sum(axis=0, dtype=np.float64)
        return float(np.max(np.abs(total - self.fx)))

    def agrees_with(self, margin: Floats, *, tolerance: float) -> bool:
        """Whether this explains `margin` `(C,)`, the number that was served, up to `tolerance * max(1, |margin|)`."""
        allowed = tolerance * max(1.0, float(np.max(np.abs(margin))))
        explained = float(np.max(np.abs(self.fx - margin)))
        # Compared this way round, NaN disagrees.
        return self.additivity_residual <= allowed and explained <= allowed

    def certain_top(self, output: int, k: int) -> tuple[list[int], bool]:
        """The k features with the largest |value| for `output`, and whether sampling error could change the set.

        Certified where |value_k| - |value_k+1| > 2 hypot(se_k, se_k+1), or above float32 rounding if exact.
        """
        size = np.abs(self.values[:, output].astype(np.float64))
        order = np.argsort(-size, kind="stable")
        if k >= len(size):
            return order.tolist(), True
        last, next_ = order[k - 1], order[k]
        error = 2.0 * float(np.hypot(self.error_std[last, output], self.error_std[next_, output]))
        rounding = 1e-6 * float(size[order[0]])
        return order[:k].tolist(), bool(size[last] - size[next_] > max(error, rounding))

    def within(self, tolerance: float) -> bool:
        """Whether 1.96 standard errors are at most `tolerance` of the largest |value|, for every output."""
        largest = np.max(np.abs(self.values), axis=0)
        return bool(np.all(1.96 * np.max(self.error_std, axis=0) <= tolerance * largest))


class Explainer:
    """A loaded `explainer.onnx`: `explain` is stateless and may be called from any thread."""

    def __init__(self, graph: bytes, manifest: Manifest, *, device: str, memory_bytes: int = 0) -> None:
        """Raises PackageError if ONNX Runtime refuses the graph or its inputs and outputs are not the contract's.

        Raises ProviderError if it would run elsewhere than on `device`, `cpu` or `cuda:N`.
        """
        session = build(graph, device, threads=1, memory_bytes=memory_bytes, one_row=True)
        self.device = device
        self._run = run_on(device, session, max_rows=1)
        _check(session, self._run, manifest)

    def explain(self, X: Floats) -> Attribution:
        """The attribution of one row, `X` `(1, d)`. One row a run: the same row gives the same bytes, always."""
        values, base_values, error_std, fx = self._run(OUTPUTS, {"X": X})
        return Attribution(values[0], base_values, error_std[0], fx[0])


def open_explainer(
    graph: bytes, manifest: Manifest, *, device: str, may_move: bool, memory_bytes: int = 0
) -> Explainer:
    """An explainer on `device`, that of its model; or, if it `may_move` and cannot run there, on the CPU.

    Raises as `Explainer` does.
    """
    try:
        return Explainer(graph, manifest, device=device, memory_bytes=memory_bytes)
    except ProviderError as error:
        if not may_move:
            raise
        log.warning("the CPU explains this model", model=f"{manifest.name}/{manifest.version}", reason=str(error))
    return Explainer(graph, manifest, device="cpu")


def _check(session: onnxruntime.InferenceSession, run: Run, manifest: Manifest) -> None:
    width, outputs = len(manifest.features), 1 if manifest.task == "binary" else len(manifest.classes)
    inputs = session.get_inputs()
    if [node.name for node in inputs] != ["X"] or inputs[0].shape[1:] != [width]:
        raise PackageError(f"the explainer must have one input X of shape [n, {width}]")
    if missing := [name for name in OUTPUTS if name not in {node.name for node in session.get_outputs()}]:
        raise PackageError(f"the explainer lacks the outputs {', '.join(missing)}")
    try:
        found = [array.shape for array in run(OUTPUTS, {"X": np.zeros((1, width), np.float32)})]
    except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
        raise PackageError("the explainer fails on a row of zeros") from error
    if found != [(1, width, outputs), (outputs,), (1, width, outputs), (1, outputs)]:
        raise PackageError(f"the explainer's outputs have shapes {found}")
