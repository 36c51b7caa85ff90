"""What a demonstration does to the traffic: numeric features that shift, a group that gets the unfavourable rows."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from service.errors import ConfigurationError
from service.manifest import Feature, Label, Manifest

# The share of the possible exchanges that a bias makes; the rest leaves both outcomes in the group.
EXCHANGED = 0.6


@dataclass(frozen=True, slots=True)
class Row:
    """One unseen row: what is predicted from, the group per sensitive feature, and what was true (None: unknown)."""

    instance: dict[str, Any]
    groups: dict[str, str]
    label: Label | None


@dataclass(frozen=True, slots=True)
class Shift:
    """`value * factor + amount` for one feature, in its own unit; a missing value stays missing."""

    feature: Feature
    factor: float = 1.0
    amount: float = 0.0

    @classmethod
    def parse(cls, manifest: Manifest, text: str) -> "Shift":
        """From `FEATURE=FACTOR`, `FEATURE=+AMOUNT` or `FEATURE=-AMOUNT`. Raises ConfigurationError."""
        name, _, change = text.partition("=")
        numeric = {feature.name: feature for feature in manifest.features if feature.kind in ("numeric", "integer")}
        if name not in numeric:
            raise ConfigurationError(f"--shift {text}: no numeric feature; there are {', '.join(numeric) or 'none'}")
        try:
            number = float(change)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ConfigurationError(f"--shift {text}: a factor (1.5) or an amount with its sign (+3, -3) is expected")
        if change.strip().startswith(("+", "-")):
            return cls(numeric[name], amount=number)
        return cls(numeric[name], factor=number)

    def applied(self, instance: dict[str, Any]) -> dict[str, Any]:
        """The instance with the feature changed, within the manifest's bounds; an integer stays one."""
        value = instance[self.feature.name]
        if value is None:
            return instance
        low, high = self.feature.bounds
        shifted = value * self.factor + self.amount
        if self.feature.kind == "integer":
            shifted, low, high = round(shifted), math.ceil(low), math.floor(high)
        return instance | {self.feature.name: min(max(shifted, low), high)}

    def __str__(self) -> str:
        change = f"x {self.factor:g}" if self.factor != 1 else f"{self.amount:+g}"
        return f"{self.feature.name} {change}"


@dataclass(frozen=True, slots=True)
class Bias:
    """One group gets rows whose true label is unfavourable, in exchange for its favourable ones.

    Rows keep everything else, and every group keeps its size: what changes is how the group is decided about.
    """

    sensitive_feature: str
    group: str
    favourable: Label

    @classmethod
    def parse(cls, manifest: Manifest, text: str) -> "Bias":
        """From `SENSITIVE_FEATURE=GROUP`. Raises ConfigurationError."""
        name, _, group = text.partition("=")
        groups = {feature.name: feature.groups for feature in manifest.sensitive_features}
        if name not in groups:
            known = ", ".join(groups) or "none"
            raise ConfigurationError(f"--bias {text}: no sensitive feature; there are {known}")
        if group not in groups[name]:
            raise ConfigurationError(f"--bias {text}: no group of {name}; there are {', '.join(groups[name])}")
        if manifest.favourable_outcome is None:
            raise ConfigurationError(f"--bias {text}: {manifest.name} has no favourable outcome")
        return cls(name, group, manifest.favourable_outcome)

    def applied(self, rows: Sequence[Row], dice: random.Random) -> list[Row]:
        """The rows, some with exchanged groups. Which of them exchange is decided by their order and by `dice`."""
        changed = list(rows)
        for giver, taker in zip(self._givers(rows), self._takers(rows), strict=False):
            if dice.random() < EXCHANGED:
                changed[giver] = self._regrouped(rows[giver], rows[taker].groups[self.sensitive_feature])
                changed[taker] = self._regrouped(rows[taker], self.group)
        return changed

    def _givers(self, rows: Sequence[Row]) -> list[int]:
        in_group = [n for n, row in enumerate(rows) if row.groups.get(self.sensitive_feature) == self.group]
        return [n for n in in_group if rows[n].label == self.favourable]

    def _takers(self, rows: Sequence[Row]) -> list[int]:
        elsewhere = [
            n for n, row in enumerate(rows) if row.groups.get(self.sensitive_feature, self.group) != self.group
        ]
        return [n for n in elsewhere if rows[n].label not in (None, self.favourable)]

    def _regrouped(self, row: Row, group: str) -> Row:
        return replace(row, groups=row.groups | {self.sensitive_feature: group})

    def __str__(self) -> str:
        return f"{self.sensitive_feature} {self.group} gets unfavourable rows"


@dataclass(frozen=True, slots=True)
class Scenario:
    """Shifts and biases that hold from `after` seconds on, for `lasting` seconds (None: to the end)."""

    shifts: tuple[Shift, ...] = ()
    biases: tuple[Bias, ...] = ()
    after: float = 0.0
    lasting: float | None = None

    @classmethod
    def parse(
        cls,
        manifest: Manifest,
        *,
        shifts: Sequence[str],
        biases: Sequence[str],
        after: float | None = None,
        lasting: float | None = None,
    ) -> "Scenario":
        """From the texts of the command line. Raises ConfigurationError, naming what the manifest knows."""
        if not shifts and not biases and (after is not None or lasting is not None):
            raise ConfigurationError("--after and --for say when --shift and --bias hold, and neither is given")
        found = [Shift.parse(manifest, text) for text in shifts]
        names = sorted(shift.feature.name for shift in found)
        if twice := [name for name, following in pairwise(names) if name == following]:
            raise ConfigurationError(f"--shift names {twice[0]} twice")
        return cls(tuple(found), tuple(Bias.parse(manifest, text) for text in biases), after or 0.0, lasting)

    def holds(self, seconds: float) -> bool:
        """Whether the traffic is changed `seconds` after its start."""
        return self.after <= seconds and (self.lasting is None or seconds < self.after + self.lasting)

    def applied(self, rows: Sequence[Row], dice: random.Random) -> list[Row]:
        """The rows of one pass as they are sent while the scenario holds, in the same order."""
        for bias in self.biases:
            rows = bias.applied(rows, dice)
        return [self._shifted(row) for row in rows]

    def _shifted(self, row: Row) -> Row:
        instance = row.instance
        for shift in self.shifts:
            instance = shift.applied(instance)
        return replace(row, instance=instance)

    def __str__(self) -> str:
        return ", ".join(map(str, (*self.shifts, *self.biases))) or "as recorded"
