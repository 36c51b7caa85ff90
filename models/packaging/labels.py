"""Classes of the model and labels of the data brought together: column i of the probability is `classes[i]`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.packaging.findings import Findings, listed
from models.packaging.outputs import Outputs
from models.packaging.table import Column
from models.task import Integers
from service.errors import PackageError
from service.manifest import Label


@dataclass(frozen=True)
class Classes:
    """`labels` in column order, the roles that some of them have, and `y` `(n,)`, each row's class as a column index.

    `y` is None where the data has no label.
    """

    labels: list[Label]
    positive_class: Label
    favourable_outcome: Label
    y: Integers | None

    @property
    def positive(self) -> int:
        """Column of the positive class."""
        return self.labels.index(self.positive_class)


def understand_classes(
    outputs: Outputs,
    column: Column | None,
    *,
    named: Sequence[str] | None,
    positive: str | None,
    favourable: str | None,
    findings: Findings,
) -> Classes:
    """Settle the classes of `outputs` from --classes `named`, the model's own labels, and the label `column`.

    Raises PackageError for labels that the model cannot emit and for roles that are no class.
    """
    found = None if column is None else read_labels(column)
    labels = _labels(outputs, None if found is None else sorted(set(found), key=_order), named, findings)
    y = None
    if found is not None:
        index = {label: i for i, label in enumerate(labels)}
        y = np.array([index[label] for label in found], np.int64)
    chosen = _role("--positive", positive, labels)
    if chosen is None:
        chosen = max(labels, key=_order)
        findings.assume(f"The positive class is `{chosen}`, the last label in sorted order; --positive says otherwise.")
    wanted = _role("--favourable", favourable, labels)
    if wanted is None:
        findings.assume(f"The favourable outcome is the positive class, `{chosen}`; --favourable says otherwise.")
    findings.understand("classes", ", ".join(str(label) for label in labels))
    return Classes(labels, chosen, chosen if wanted is None else wanted, y)


def read_labels(column: Column) -> list[Label]:
    """The label of each row: whole numbers where all are, else text as written. PackageError where one is missing."""
    if missing := int(column.missing.sum()):
        raise PackageError(f"NaN in the data: the label {column.name!r} is missing in {missing} rows; leave them out")
    if column.is_boolean:
        return [cell == "True" for cell in column.written]
    if column.number is None:
        return list(column.written)
    if (column.number != np.round(column.number)).any():
        raise PackageError(f"the label {column.name!r} holds fractions: only classes can be packaged, no regression")
    return [int(value) for value in column.number]


def _order(label: Label) -> tuple[bool, Label]:
    return isinstance(label, str), label


def _labels(
    outputs: Outputs, found: list[Label] | None, named: Sequence[str] | None, findings: Findings
) -> list[Label]:
    count = outputs.scores.classes
    if named is not None:
        labels = _typed(named, found)
        _check(labels, found, count, "--classes names")
        return labels
    if outputs.labels is not None and len(outputs.labels) == count:
        own = outputs.labels
        if found is None or {str(label) for label in found} <= {str(label) for label in own}:
            return _typed([str(label) for label in own], found)
        if own != list(range(count)) or len(found) != count:
            _check(own, found, count, "the model emits")
        if found == [False, True]:
            return found
        findings.assume(
            f"The model's classes 0 to {count - 1} are the labels in sorted order (as a LabelEncoder makes them); "
            "--classes gives another order."
        )
        return found
    if found is None:
        findings.assume(f"The classes are called 0 to {count - 1}: the graph names none; --classes gives their names.")
        return list(range(count))
    if len(found) < count:
        raise PackageError(
            f"the model has {count} classes, the data shows {len(found)} of them; name all, in column order, with "
            "--classes"
        )
    _check(found, found, count, "the data has")
    findings.assume("The columns of the output are the labels in sorted order; --classes gives another order.")
    return found


def _typed(names: Sequence[str], found: Sequence[Label] | None) -> list[Label]:
    """`names` in the JSON type of the labels `found`; without such, whole numbers if all of them are."""
    known = {str(label): label for label in found or ()}
    whole = all(name.lstrip("-").isdecimal() for name in names) and all(type(label) is int for label in found or ())
    return [known.get(name, int(name) if whole else name) for name in names]


def _check(labels: Sequence[Label], found: Sequence[Label] | None, count: int, source: str) -> None:
    beyond = [] if found is None else [str(label) for label in found if label not in labels]
    if beyond:
        raise PackageError(
            f"the data has classes that the model cannot emit, {listed(beyond)}; {source} "
            f"{listed([str(label) for label in labels])}. Leave those rows out, or name the classes with --classes"
        )
    if len(labels) != count:
        raise PackageError(
            f"{source} {len(labels)} classes, {listed([str(label) for label in labels])}, and the model has {count}"
            + (": it cannot emit them all; is this the label it was trained on?" if len(labels) > count else "")
        )


def _role(option: str, name: str | None, labels: Sequence[Label]) -> Label | None:
    if name is None:
        return None
    matching = [label for label in labels if str(label) == name]
    if not matching:
        raise PackageError(
            f"{option}: unknown label {name!r}; the classes are {listed([str(label) for label in labels])}"
        )
    return matching[0]


def compare_decisions(outputs: Outputs, probability: NDArray[np.floating], findings: Findings) -> None:
    """Warn where the graph's own label is not its most probable class; `probability` `(n, k)`."""
    if outputs.decided is None or outputs.labels is None or len(outputs.labels) != probability.shape[1]:
        return
    own = np.array([str(label) for label in outputs.labels])
    ranked = np.sort(probability, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > 1e-5
    decided = np.array([str(label) for label in outputs.decided.tolist()])
    differing = int((clear & (own[probability.argmax(axis=1)] != decided)).sum())
    if differing:
        findings.warn(
            f"The graph's own label is not its most probable class on {differing} rows: it decides by another rule "
            "than the package will. Check --threshold and --classes."
        )
