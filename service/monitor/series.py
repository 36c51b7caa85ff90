"""Prometheus text of series whose names and labels never change while their model is loaded.

What stands before the numbers is made once: writing several thousand labels anew for each scrape would take longer than
all counting between two scrapes.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Literal, TypeVar

import numpy as np

Source = TypeVar("Source")


@dataclass(frozen=True)
class Family:
    """A metric; the name is that in the exposition, a counter's with `_total`."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str


@dataclass(frozen=True)
class Axis:
    """Label values along one axis of a table; an entry has a value for each of `labels`."""

    labels: tuple[str, ...]
    entries: Sequence[tuple[str, ...]]

    @classmethod
    def of(cls, label: str, values: Iterable[str]) -> "Axis":
        """One label."""
        return cls((label,), [(value,) for value in values])


@dataclass(frozen=True, eq=False)
class Column(Generic[Source]):
    """Series of one family and model: one for each cell of a table that has `axes`, in the order of its memory.

    `read` gives the table; `suffix` is appended to the family's name, such as `_bucket`.
    """

    family: Family
    fixed: Sequence[tuple[str, str]]
    axes: tuple[Axis, ...]
    read: Callable[[Source], "np.ndarray | Sequence[float]"]
    suffix: str = ""

    def __len__(self) -> int:
        """How many series."""
        return math.prod(len(axis.entries) for axis in self.axes)

    @cached_property
    def heads(self) -> list[str]:
        """`name{label="value",...} ` of each."""
        made = []
        for cell in itertools.product(*(axis.entries for axis in self.axes)):
            pairs = [*self.fixed]
            for axis, entry in zip(self.axes, cell, strict=True):
                pairs += zip(axis.labels, entry, strict=True)
            labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs)
            made.append(f"{self.family.name}{self.suffix}{{{labels}}} ")
        return made

    def lines(self, source: Source) -> list[str]:
        """The samples as they are now."""
        numbers = np.asarray(self.read(source)).ravel().tolist()
        return [f"{head}{number}" for head, number in zip(self.heads, numbers, strict=True)]


def text(families: Iterable[Family], columns: Iterable[tuple[Column[Source], Source]]) -> str:
    """The exposition of all families, also of those without a series; names are ASCII, labels any text."""
    lines: dict[str, list[str]] = {}
    for family in families:
        lines[family.name] = [f"# HELP {family.name} {_one_line(family.help)}", f"# TYPE {family.name} {family.type}"]
    for column, source in columns:
        lines[column.family.name] += column.lines(source)
    return "".join(f"{line}\n" for of_family in lines.values() for line in of_family)


def _escaped(value: str) -> str:
    return _one_line(value).replace('"', r"\"")


def _one_line(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n")
