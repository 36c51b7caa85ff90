"""Recognises what a graph's outputs mean, by their types, by the nodes behind them and by their values on the data.

A label is an output of words or whole numbers; a probability lies in [0, 1] and adds up to 1 over the classes; what is
neither is a margin. A single column is a margin too, unless every value on the data lies in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from models.packaging.findings import Findings, listed
from models.packaging.given import Given, all_nodes
from models.task import Floats
from service.errors import PackageError
from service.manifest import Label

Meaning = Literal["margin", "probability"]
# Rows of probabilities add up to 1 within float32 rounding over some hundred classes.
SUM_TOLERANCE = 1e-4
# Averages of a forest's leaves may end a few float32 ulps above 1.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Tensor:
    """A tensor of scores inside the graph: `[n]` where `is_flat`, else `[n, k]`; float32, or float64 if `is_double`."""

    name: str
    is_flat: bool = False
    is_double: bool = False


@dataclass(frozen=True)
class Scores:
    """One output of scores: `values` `(n, k)`, held by one tensor, or by one per class."""

    name: str
    tensors: tuple[Tensor, ...]
    values: Floats
    meaning: Meaning

    @property
    def classes(self) -> int:
        """How many classes it speaks about; one column speaks about two."""
        return max(2, int(self.values.shape[1]))


@dataclass(frozen=True)
class Outputs:
    """What the graph gives: a probability, a margin, or both; the labels it knows; the label it decides for `(n,)`.

    `is_forced` says that the user stated what the scores mean.
    """

    probability: Scores | None
    margin: Scores | None
    labels: list[Label] | None
    decided: NDArray[Any] | None
    is_forced: bool = False

    @property
    def scores(self) -> Scores:
        """The probability, or else the margin."""
        found = self.probability or self.margin
        assert found is not None
        return found


def recognise(given: Given, results: Sequence[NDArray[Any]], forced: Meaning | None, findings: Findings) -> Outputs:
    """Sort the outputs of `given`, whose values on all rows are `results`; `forced` is --output.

    Raises PackageError if there are no scores, if they are not finite, or if it is not clear which ones count.
    """
    producers = {name: node for node in given.proto.graph.node for name in node.output}
    scores: list[Scores] = []
    decided = None
    for name, values in zip(given.output_names, results, strict=True):
        if values.dtype.kind == "f":
            mapped = name in producers and producers[name].op_type == "ZipMap"
            source = producers[name].input[0] if mapped else name
            tensor = Tensor(source, is_flat=values.ndim == 1, is_double=values.dtype == np.float64)
            scores.append(_scores(name, tensor, values, forced))
        else:
            decided = values.reshape(-1)
            findings.understand(f"output {name}", "the decided label; left out, the service decides by the threshold")
    if not scores:
        raise PackageError(
            "the graph gives labels but no scores; export the probabilities or the decision function as well"
        )
    labels = _known_labels(given, [score.name for score in scores], producers)
    scores = _joined(scores)
    probability, margin = (_choose(scores, meaning, findings) for meaning in ("probability", "margin"))
    outputs = Outputs(probability, margin, labels, decided, is_forced=forced is not None)
    _explain(outputs, findings)
    return outputs


def _scores(name: str, tensor: Tensor, given: NDArray[Any], forced: Meaning | None) -> Scores:
    if given.ndim > 2:
        raise PackageError(f"output {name!r} has {given.ndim} axes; a score has one value per row, or one per class")
    values = given.astype(np.float64).reshape(len(given), -1)
    if bad := int((~np.isfinite(values)).any(axis=1).sum()):
        raise PackageError(
            f"output {name!r} is NaN or infinite on {bad} rows, and the service refuses such answers; leave those rows "
            "out, or mend the model"
        )
    inside = bool((values >= -ROUNDING).all() and (values <= 1 + ROUNDING).all())
    adds_up = values.shape[1] == 1 or bool(np.abs(values.sum(axis=1) - 1).max() <= SUM_TOLERANCE)
    if inside and not adds_up and forced is None:
        raise PackageError(
            f"output {name!r} lies in [0, 1] but its columns do not add up to 1: several labels at once cannot be "
            "packaged; if these are margins of one label, say --output margin"
        )
    meaning: Meaning = "probability" if inside and adds_up else "margin"
    return Scores(name, (tensor,), values, forced or meaning)


def _joined(scores: list[Scores]) -> list[Scores]:
    """Single columns that add up to 1 are one probability, a column per class (skl2onnx's `zipmap: columns`)."""
    if len(scores) < 2 or any(score.values.shape[1] > 1 for score in scores):
        return scores
    values = np.concatenate([score.values for score in scores], axis=1)
    if np.abs(values.sum(axis=1) - 1).max() > SUM_TOLERANCE or (values < -ROUNDING).any():
        return scores
    tensors = tuple(tensor for score in scores for tensor in score.tensors)
    return [Scores(", ".join(score.name for score in scores), tensors, values, "probability")]


def _choose(scores: list[Scores], meaning: str, findings: Findings) -> Scores | None:
    fitting = [score for score in scores if score.meaning == meaning]
    if any(not _same(score.values, fitting[0].values) for score in fitting[1:]):
        names = listed([score.name for score in fitting])
        raise PackageError(f"the outputs {names} could each be the {meaning}; export the model with one of them only")
    for score in fitting[1:]:
        findings.understand(f"output {score.name}", f"the same {meaning} once more; left out")
    return fitting[0] if fitting else None


def _same(one: Floats, other: Floats) -> bool:
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=SUM_TOLERANCE, atol=SUM_TOLERANCE))


def _explain(outputs: Outputs, findings: Findings) -> None:
    for score in (outputs.probability, outputs.margin):
        if score is not None:
            columns = score.values.shape[1]
            shape = "one column" if columns == 1 else f"{columns} columns, one per class"
            findings.understand(f"output {score.name}", f"{score.meaning}, {shape}")


def _known_labels(given: Given, names: list[str], producers: dict[str, NodeProto]) -> list[Label] | None:
    """The labels that a ZipMap or a classifier of the graph carries, in column order."""
    nearest = [producers[name] for name in names if name in producers]
    for node in [*nearest, *reversed(list(all_nodes(given.proto.graph)))]:
        for attribute in node.attribute:
            if attribute.name.startswith("classlabels_"):
                values = helper.get_attribute_value(attribute)
                return [value.decode() if isinstance(value, bytes) else int(value) for value in values]
    return None
