"""Finds the margin of a graph: which tensor holds it, and by which link it belongs to the probability.

Operators propose candidates (what enters a Sigmoid, a Softmax or an Exp; a classifier without its `post_transform`);
the values on every row of the data decide.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from models.packaging.candidates import Candidate, candidates
from models.packaging.findings import Findings
from models.packaging.given import Feeds, open_session, run_in_parts
from models.packaging.outputs import Outputs, Scores, Tensor
from models.task import Floats
from service.errors import PackageError

Link = Literal["logit", "softmax", "identity"]
# How a margin is read off a tensor [n, k]: its only column, the second, the second minus the first, or all columns.
Reading = Literal["only", "second", "difference", "columns"]
WORDS = {"only": "", "second": ", second column", "difference": ", second column minus first", "columns": ""}
TOLERANCE = 1e-5
SCREENED_ROWS = 64


@dataclass(frozen=True)
class Recipe:
    """How margin and probability come about from `tensors`: one, or one per class.

    The margin is `reading` of the tensor that `candidate` describes, the probability its image under `link`. Where
    `candidate` is None, the tensors hold the probability and the margin is log(p) - log(1 - p), clipped.
    """

    link: Link
    reading: Reading
    tensors: tuple[Tensor, ...]
    candidate: Candidate | None = None


def find_margin(proto: ModelProto, outputs: Outputs, feeds: Feeds, findings: Findings) -> Recipe:
    """The best recipe for `outputs`: what the graph gives or computes on its way, else logarithms, with a warning."""
    proposed = list(candidates(proto))
    if outputs.margin is not None:
        if len(outputs.margin.tensors) > 1:
            raise PackageError("export the margins of all classes as one output, with a column per class")
        proposed.append(Candidate(outputs.margin.tensors[0].name, f"the output {outputs.margin.name}"))
    for candidate, values in _evaluated(proto, proposed, feeds, outputs.scores.classes):
        tensor = Tensor(candidate.tensor, is_flat=values.ndim == 1, is_double=values.dtype == np.float64)
        matrix = values.astype(np.float64).reshape(len(values), -1)
        for link, reading in _readings(matrix.shape[1], averages=candidate.averages):
            if fits(read(matrix, reading), link, outputs):
                findings.understand("margin", f"{candidate.found}{WORDS[reading]}; link {link}")
                _explain(candidate, link, outputs, findings)
                return Recipe(link, reading, (tensor,), candidate)
    return _last_resort(outputs, findings)


def _evaluated(
    proto: ModelProto, proposed: Sequence[Candidate], feeds: Feeds, classes: int
) -> Iterator[tuple[Candidate, NDArray[Any]]]:
    """Candidates of a fitting width, with values `(n,)` or `(n, k)` on all rows; a few rows tell the width first."""
    few = {name: values[:SCREENED_ROWS] for name, values in feeds.items()}
    rows = len(next(iter(few.values())))
    widths = {1, 2} if classes == 2 else {classes}
    for candidate in proposed:
        try:
            session = open_session(_with_output(proto, candidate))
            (first,) = run_in_parts(session, [candidate.tensor], few, "looking for the margin")
        except PackageError:
            # What ONNX Runtime does not compute for the rows as a whole is no margin.
            continue
        if first.dtype.kind == "f" and first.ndim in (1, 2) and len(first) == rows and first.size // rows in widths:
            (values,) = run_in_parts(session, [candidate.tensor], feeds, f"trying {candidate.found}")
            yield candidate, values


def _with_output(proto: ModelProto, candidate: Candidate) -> ModelProto:
    """`proto` with nothing but the candidate's tensor as its output."""
    probe = ModelProto()
    probe.CopyFrom(proto)
    probe.graph.node.extend(candidate.nodes)
    probe.graph.initializer.extend(candidate.constants)
    del probe.graph.output[:]
    probe.graph.output.append(onnx.ValueInfoProto(name=candidate.tensor))
    return probe


def _readings(columns: int, *, averages: bool) -> Iterator[tuple[Link, Reading]]:
    if averages:
        yield "identity", "only" if columns == 1 else "columns"
    if columns == 1:
        yield "logit", "only"
    elif columns == 2:
        yield "logit", "second"
        yield "logit", "difference"
    else:
        yield "softmax", "columns"


def read(values: Floats, reading: Reading) -> Floats:
    """The margin `(n, 1)` or `(n, k)` in a tensor's `values` `(n, k)`."""
    match reading:
        case "second":
            return values[:, 1:]
        case "difference":
            return values[:, 1:] - values[:, :1]
        case _:
            return values


def fits(margin: Floats, link: Link, outputs: Outputs) -> bool:
    """Whether `margin` `(n, 1)` or `(n, k)` gives the graph's own probability, or else margin, on every row."""
    if outputs.probability is not None:
        error = np.abs(link_probability(margin, link) - both_columns(outputs.probability.values))
        return bool(error.max() <= TOLERANCE)
    assert outputs.margin is not None
    given = given_margin(outputs.margin)
    same = np.abs(margin - given) <= TOLERANCE * np.maximum(1, np.abs(given))
    return link != "identity" and bool(same.all())


def link_probability(margin: Floats, link: Link) -> Floats:
    """Probability `(n, k)` of a margin `(n, 1)` (of the second class) or `(n, k)`."""
    if link == "identity":
        return both_columns(margin)
    logits = margin if link == "softmax" else np.concatenate([np.zeros_like(margin), margin], axis=1)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def both_columns(values: Floats) -> Floats:
    """Probabilities `(n, k)`, where a single column is that of the second class."""
    return np.concatenate([1 - values, values], axis=1) if values.shape[1] == 1 else values


def given_margin(margin: Scores) -> Floats:
    """The margin `(n, 1)` or `(n, k)` that an output states.

    Two columns are (-m, m), a classifier's raw scores (ONNX Runtime makes them (1 - m, m) where no leaf is negative),
    or else two logits, whose difference counts.
    """
    values = margin.values
    if values.shape[1] != 2:
        return values
    mirrored = any(np.allclose(values[:, 0], total - values[:, 1], rtol=1e-4, atol=1e-5) for total in (0, 1))
    return read(values, "second" if mirrored else "difference")


def _explain(candidate: Candidate, link: Link, outputs: Outputs, findings: Findings) -> None:
    if link == "identity":
        findings.understand("link identity", "trees average probabilities: the margin is the probability itself")
    if outputs.probability is None:
        image = "softmax" if link == "softmax" else "sigmoid"
        findings.assume(f"The probability is {image}(margin): the graph gives a margin only.")
    # A Sigmoid, a Softmax or a classifier that is found behind a probability proves that it is one.
    if outputs.probability is None or link == "identity":
        _assume_meaning(outputs, findings)


def _assume_meaning(outputs: Outputs, findings: Findings) -> None:
    scores = outputs.scores
    if outputs.is_forced or scores.values.shape[1] > 1:
        return
    is_probability = scores.meaning == "probability"
    reason = "every value on the data lies in [0, 1]" if is_probability else "some values lie outside [0, 1]"
    other = "margin" if is_probability else "probability"
    findings.assume(f"The output `{scores.name}` is a {scores.meaning}: {reason}. --output {other} says otherwise.")


def _last_resort(outputs: Outputs, findings: Findings) -> Recipe:
    probability = outputs.probability
    assert probability is not None
    _assume_meaning(outputs, findings)
    share = float((np.abs(probability.values - 0.5) > 0.5 - 1e-6).any(axis=1).mean())
    findings.understand("margin", "log(p) - log(1 - p), the last resort")
    findings.warn(
        f"No margin was found behind the probability, so it is computed back as log(p) - log(1 - p). In float32 that "
        f"saturates near 0 and 1 ({100 * share:.1f} % of the rows here), where explanations get coarse. Export the "
        "decision function (skl2onnx: raw_scores) if the model has one."
    )
    link: Link = "logit" if probability.classes == 2 else "softmax"
    return Recipe(link, "columns" if probability.values.shape[1] > 1 else "only", probability.tensors)
