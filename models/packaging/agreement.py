"""The proofs that a package may be written: the new graph answers as the given one, and every row stands alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from models.export import MARGIN_TOLERANCE, PROBABILITY_TOLERANCE
from models.packaging.findings import listed
from models.packaging.given import Feeds, Given, all_nodes, as_array, open_session, run_in_parts
from models.packaging.margin import Link, both_columns, given_margin, link_probability
from models.packaging.outputs import Outputs
from models.task import FloatMatrix, Floats
from service.errors import PackageError

ROWS_ALONE = 16
MIXING = ("BatchNormalization", "InstanceNormalization", "CumSum", "TopK", "LSTM", "GRU", "RNN", "Softmax", "Einsum")


@dataclass(frozen=True)
class Answers:
    """What the packaged graph says for every row, margin `(n, 1)` or `(n, k)` and probability `(n, k)`, and how far
    that lies from the given graph: margin relative to max(1, |margin|), None where the given graph has none.
    """

    margin: Floats
    probability: Floats
    margin_error: float | None
    probability_error: float | None

    def __len__(self) -> int:
        """How many rows."""
        return len(self.margin)


def check_rows_stand_alone(given: Given, feeds: Feeds, results: list[NDArray[Any]]) -> None:
    """Answer some rows alone and in another order; PackageError if that changes what all rows together got.

    `results` are the outputs for all rows. The tolerance is that of the gate, since sums may be split differently.
    """
    n = len(next(iter(feeds.values())))
    rows = np.unique(np.linspace(0, n - 1, ROWS_ALONE).round().astype(int))
    together = [values.astype(np.float64) if values.dtype.kind == "f" else None for values in results]
    for index in [rows[::-1], *rows[:, None]]:
        try:
            answers = given.session.run(given.output_names, {name: values[index] for name, values in feeds.items()})
        except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
            raise PackageError(
                f"the graph fails on {len(index)} rows though it answers a batch: a fixed batch size is built into it; "
                "export it with a dynamic batch axis"
            ) from error
        for name, whole, part in zip(given.output_names, together, answers, strict=True):
            if whole is not None:
                _compare(given, name, whole[index], as_array(part).astype(np.float64))


def _compare(given: Given, name: str, expected: Floats, part: Floats) -> None:
    if part.shape != expected.shape:
        error = np.inf
    else:
        difference = np.abs(part - expected) / np.maximum(1, np.abs(expected))
        # An infinity equals itself, and NaN does here too: that they are no answers is said elsewhere.
        same = (part == expected) | (np.isnan(part) & np.isnan(expected))
        error = float(np.where(same, 0, np.nan_to_num(difference, nan=np.inf)).max())
    if error > MARGIN_TOLERANCE:
        suspects = {node.op_type for node in all_nodes(given.proto.graph)}
        mixing = sorted(op for op in suspects if op in MIXING or op.startswith("Reduce"))
        raise PackageError(
            f"output {name!r} of one row depends on the other rows of its batch (by {error:.1e}), so answers "
            "would depend on who else asks; export the model in evaluation mode and without operators across the batch "
            f"axis (here it has {listed(mixing) or 'none of the usual ones'})"
        )


def check_agreement(model: ModelProto, X: FloatMatrix, outputs: Outputs, link: Link, *, positive: int) -> Answers:
    """Run the packaged `model` on all rows of `X` `(n, d)` and compare it with what the given graph said.

    PackageError beyond 1e-5 * max(1, |margin|) on the margin, or 1e-5 on the probability, or where the probability is
    not the image of the margin. `positive` is the column of the positive class.
    """
    session = open_session(model)
    run = run_in_parts(session, ["margin", "probability"], {"X": X}, "comparing the graphs")
    margin, probability = (values.astype(np.float64) for values in run)
    margin_error = probability_error = None
    if outputs.margin is not None:
        expected = given_margin(outputs.margin)
        expected = expected if positive or expected.shape[1] > 1 else -expected
        margin_error = _largest(np.abs(margin - expected) / np.maximum(1, np.abs(expected)))
    if outputs.probability is not None:
        probability_error = _largest(np.abs(probability - both_columns(outputs.probability.values)))
    image = link_probability(margin, link)
    linked = _largest(np.abs(probability - (image if positive or margin.shape[1] > 1 else image[:, ::-1])))
    _refuse("margin", margin_error, MARGIN_TOLERANCE)
    _refuse("probability", probability_error, PROBABILITY_TOLERANCE)
    _refuse("link of margin and probability", linked, PROBABILITY_TOLERANCE)
    return Answers(margin, probability, margin_error, probability_error)


def _largest(error: Floats) -> float:
    # NaN compares with nothing: as infinity it is refused.
    return float(np.nan_to_num(error, nan=np.inf).max())


def _refuse(what: str, error: float | None, tolerance: float) -> None:
    if error is not None and error > tolerance:
        raise PackageError(
            f"the {what} of the graph, brought to the contract, differs from the given one by {error:.2g}; at most "
            f"{tolerance:g} is allowed. Is the data in the units and the precision that the model was trained on "
            "(float32)? --output says what a single output means"
        )
