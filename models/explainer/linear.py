"""The closed form for graphs that are affine in their inputs: values = (x - mean of the background) * slope."""

import numpy as np

from models.explainer.affine import trace
from models.explainer.graph import Builder, add_fx, add_no_error
from models.explainer.served import Served
from models.task import FloatMatrix, Floats


def read_slope(served: Served, rows: FloatMatrix) -> Floats | None:
    """Slope `[d, C]` of the margin if the graph's operators make it affine, and it is on `rows` to 1e-5; else None."""
    margin = trace(served).get("margin")
    if margin is None or set(margin.terms) != {"X"}:
        return None
    expected = served.margin(rows)
    found = rows.astype(np.float64) @ margin.terms["X"] + margin.constant
    agrees = np.abs(found - expected) <= 1e-5 * np.maximum(1, np.abs(expected))
    return margin.terms["X"] if agrees.all() else None


def add_linear(served: Served, background: FloatMatrix, slope: Floats) -> Builder:
    """phi_i = slope_i (x_i - mean_j b_ji), for every output."""
    build = Builder(served)
    mean = background.astype(np.float64).mean(0)
    add_fx(build, served.margin(background).mean(0))
    distance = build.op("Unsqueeze", build.op("Sub", "X", build.constant(mean)), build.axes(2))  # [n, d, 1]
    build.op("Mul", distance, build.constant(slope), output="values")
    add_no_error(build)
    return build
