"""What an explainer's answers are worth, measured on held-out rows against a reference, before it is published.

Errors are max_i |error_i| / max_i |value_i| of a row and output, the figure that a caller's `tolerance` is about.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from models.explainer.graph import OUTPUTS
from models.task import Booleans, FloatMatrix, Floats

ROWS = 64
TOP_K = 4
NOMINAL = 1.96

Reference = Callable[[FloatMatrix], Floats]


@dataclass(frozen=True)
class Explained:
    """Answers for several rows, each from a run of its own: as the service asks on a CPU."""

    values: Floats  # [n, d, C]
    base_values: Floats  # [C]
    error_std: Floats  # [n, d, C]
    fx: Floats  # [n, C]

    @property
    def residual(self) -> Floats:
        """|base + sum of values - fx| / max(1, |fx|), `[n, C]`."""
        gap: Floats = np.abs(self.base_values + self.values.sum(1) - self.fx)
        return gap / np.maximum(1, np.abs(self.fx))


def explain_rows(session: onnxruntime.InferenceSession, X: FloatMatrix) -> Explained:
    """Run the explainer on each row of `X` `(n, d)` by itself."""
    runs = [session.run(OUTPUTS, {"X": X[i : i + 1]}) for i in range(len(X))]
    values, base, error_std, fx = (np.stack([run[k] for run in runs]).astype(np.float64) for k in range(4))
    return Explained(values[:, 0], base[0], error_std[:, 0], fx[:, 0])


def certified(values: Floats, error_std: Floats, k: int = TOP_K) -> tuple[Booleans, Booleans]:
    """The k largest |values| as a mask `[n, d, C]`, and whether the set is certified `[n, C]`.

    Certified: the gap to the next one exceeds 2 hypot(their standard errors).
    """
    size = np.abs(values)
    order = np.argsort(-size, axis=1, kind="stable")
    last, following = (np.take_along_axis(size, order[:, i : i + 1], 1)[:, 0] for i in (k - 1, k))
    errors = [np.take_along_axis(error_std, order[:, i : i + 1], 1)[:, 0] for i in (k - 1, k)]
    top = np.zeros(values.shape, np.bool_)
    np.put_along_axis(top, order[:, :k], values=True, axis=1)
    return top, last - following > 2 * np.hypot(*errors)


def measure(explained: Explained, reference: Floats) -> dict[str, Any]:
    """Figures for the manifest: errors against `reference` `[n, d, C]`, coverage and the certificate's accuracy."""
    errors = np.abs(explained.values - reference)
    largest = np.abs(reference).max(1)
    # A row without any attribution can only be wrong absolutely.
    relative = errors.max(1) / np.where(largest > 0, largest, 1)
    figures: dict[str, Any] = {
        "rows": len(reference),
        "error_p50": figure(np.quantile(relative, 0.5)),
        "error_p95": figure(np.quantile(relative, 0.95)),
        "error_max": figure(relative.max()),
        "additivity_residual_max": figure(explained.residual.max()),
    }
    if explained.error_std.any():
        figures["error_std_coverage"] = figure((errors <= NOMINAL * explained.error_std).mean())
    if reference.shape[1] > TOP_K:
        top, sure = certified(explained.values, explained.error_std)
        expected, _ = certified(reference, np.zeros_like(reference))
        wrong = (top != expected).any(1) & sure
        figures["top_k"] = TOP_K
        figures["certified"] = figure(sure.mean())
        figures["certified_wrong"] = figure(wrong.sum() / max(1, sure.sum()))
    return figures


def figure(value: Any) -> float:
    """Three significant digits: a figure is no more certain than that."""
    return float(f"{float(value):.3g}")
