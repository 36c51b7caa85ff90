"""Which group a row belongs to: what callers send about people -> declared codes, and nothing else.

A *sensitive feature* is a declared one (`sex`) or a declared intersection (`sex x age_band`). Its groups are the
declared ones (of an intersection: their combinations) and the reserved `unknown`, `declined` and `other`. A combination
in which a part is reserved counts as that reserved group. Undeclared values become `other` here, and live no longer.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import orjson

from service.manifest import RESERVED_GROUPS, Manifest
from service.monitor.fairness import BREACH_ERROR

UNKNOWN, DECLINED, OTHER = RESERVED_GROUPS
JOINED = " x "


@dataclass(frozen=True, slots=True)
class GroupSet:
    """The groups of one sensitive feature or intersection; the reserved ones come last."""

    name: str
    groups: tuple[str, ...]
    reference_group: str
    parts: tuple[str, ...]

    @property
    def declared(self) -> tuple[str, ...]:
        """The groups that are compared with each other."""
        return self.groups[: -len(RESERVED_GROUPS)]

    @property
    def is_intersection(self) -> bool:
        """Whether this combines declared sensitive features."""
        return len(self.parts) > 1

    @property
    def simultaneous_z(self) -> float:
        """One-sided normal quantile that holds for all comparisons with the reference group at once (Bonferroni)."""
        return self._z(1)

    @property
    def simultaneous_difference_z(self) -> float:
        """The same for TPR, FPR and PPV together, each of which may lie too far to either side."""
        return self._z(6)

    def _z(self, kinds: int) -> float:
        comparisons = max(1, len(self.declared) - 1)
        return NormalDist().inv_cdf(1 - BREACH_ERROR / (kinds * comparisons))


def group_sets(manifest: Manifest) -> list[GroupSet]:
    """The sensitive features in declared order, then the intersections."""
    features = {feature.name: feature for feature in manifest.sensitive_features}
    singles = [
        GroupSet(name, (*feature.groups, *RESERVED_GROUPS), feature.reference_group, (name,))
        for name, feature in features.items()
    ]
    return singles + [
        GroupSet(
            JOINED.join(names),
            (*map(JOINED.join, itertools.product(*(features[name].groups for name in names))), *RESERVED_GROUPS),
            JOINED.join(features[name].reference_group for name in names),
            tuple(names),
        )
        for names in manifest.intersections
    ]


@dataclass(frozen=True, slots=True)
class JointGroup:
    """One combination of groups over all sensitive features: a row's place in every table.

    `number` counts combinations in the order in which they were first seen; `codes` holds the index of the group in
    each `GroupSet`; `text` is a JSON object, sensitive feature -> group, as it stands in the records.
    """

    number: int
    codes: tuple[int, ...]
    text: str


class JointGroups:
    """The combinations of one model that have been seen, at most as many as can be declared."""

    def __init__(self, manifest: Manifest) -> None:
        self.sets = group_sets(manifest)
        self._names = [feature.name for feature in manifest.sensitive_features]
        self._groups = [frozenset(feature.groups) | set(RESERVED_GROUPS) for feature in manifest.sensitive_features]
        self._index = [{group: index for index, group in enumerate(made.groups)} for made in self.sets]
        self._seen: dict[tuple[str | None, ...], JointGroup] = {}
        self.all: list[JointGroup] = []
        self._by_text: dict[str, JointGroup] = {}  # texts from the records: combinations that were declared
        self.nobody = self.of({})

    def of(self, row: Mapping[str, str]) -> JointGroup:
        """The combination of one row's `sensitive_features`; absent ones are `unknown`, undeclared values `other`."""
        sent = tuple(map(row.get, self._names))
        found = self._seen.get(sent)
        if found is not None:
            return found
        groups = tuple(
            UNKNOWN if value is None else value if value in known else OTHER
            for value, known in zip(sent, self._groups, strict=True)
        )
        if groups not in self._seen:
            self._seen[groups] = self._make(groups)
        if all(value is None or value == group for value, group in zip(sent, groups, strict=True)):
            self._seen[sent] = self._seen[groups]  # an absent value is short for `unknown`; nothing a caller invented
        return self._seen[groups]

    def of_text(self, text: str) -> JointGroup:
        """The combination that `JointGroup.text` names."""
        found = self._by_text.get(text)
        if found is None:
            found = self._by_text[text] = self.of(orjson.loads(text))
        return found

    def _make(self, groups: tuple[str, ...]) -> JointGroup:
        by_name = dict(zip(self._names, groups, strict=True))
        codes = tuple(
            index[combine([by_name[part] for part in made.parts])]
            for made, index in zip(self.sets, self._index, strict=True)
        )
        made = JointGroup(len(self.all), codes, orjson.dumps(by_name).decode())
        self.all.append(made)
        return made


def combine(groups: Sequence[str]) -> str:
    """The group of an intersection: the combination, or the first reserved group among the parts."""
    reserved = [group for group in RESERVED_GROUPS if group in groups]
    return reserved[0] if reserved else JOINED.join(groups)
