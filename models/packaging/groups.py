"""Sensitive features from columns of the data: groups as written, a reference group, declared intersections."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from models.packaging.findings import Findings, listed
from models.packaging.table import Table
from models.task import Strings
from service.errors import PackageError
from service.manifest import RESERVED_GROUPS, SensitiveFeature

MOST_GROUPS = 20
MISSING = RESERVED_GROUPS[0]


def understand_groups(
    table: Table, names: Sequence[str], references: Sequence[str], findings: Findings
) -> tuple[list[SensitiveFeature], dict[str, Strings]]:
    """The declaration of each sensitive feature in `names`, and the group of every row `(n,)`.

    An empty cell is `unknown`, which is no declared group. Raises PackageError for more than twenty groups (bands are
    the fix) and for references that are no group.
    """
    chosen = _references(references, names)
    features, groups = [], {}
    for name in names:
        written = [cell or MISSING for cell in table.column(name, "--sensitive").written]
        counts = Counter(written)
        declared = sorted(set(counts) - set(RESERVED_GROUPS))
        if not declared:
            raise PackageError(f"--sensitive: `{name}` names no group in any row")
        if len(declared) > MOST_GROUPS:
            raise PackageError(
                f"--sensitive: `{name}` has {len(declared)} different values, at most {MOST_GROUPS} groups can be "
                "watched; put them into bands (ages: 18-29, 30-49, ...) in a column of the data"
            )
        reference = chosen.get(name) or max(declared, key=lambda group: (counts[group], group))
        if reference not in declared:
            raise PackageError(f"--reference: `{reference}` is no group of `{name}`; groups are {listed(declared, 20)}")
        if name not in chosen:
            findings.assume(
                f"The reference group of `{name}` is `{reference}`, the largest; --reference says otherwise."
            )
        if reserved := sum(counts[group] for group in RESERVED_GROUPS):
            findings.warn(f"{reserved} rows have no declared group of `{name}` and enter no comparison.")
        features.append(SensitiveFeature(name=name, groups=declared, reference_group=reference))
        groups[name] = np.array(written, np.str_)
    return features, groups


def _references(references: Sequence[str], names: Sequence[str]) -> Mapping[str, str]:
    chosen = {}
    for text in references:
        name, equals, group = text.partition("=")
        if not equals or name not in names:
            raise PackageError(
                f"--reference: {text!r} must read FEATURE=GROUP with one of {listed(list(names)) or 'none'}"
            )
        chosen[name] = group
    return chosen


def read_intersections(texts: Sequence[str], names: Sequence[str]) -> list[list[str]]:
    """`sex+age_band` -> ["sex", "age_band"]; PackageError unless each names two or more sensitive features."""
    found = [[part.strip() for part in text.split("+")] for text in texts]
    for text, parts in zip(texts, found, strict=True):
        if len(parts) < 2 or len(set(parts)) < len(parts) or not set(parts) <= set(names):
            raise PackageError(
                f"--intersections: {text!r} must join two or more of {listed(list(names)) or 'none'} by +"
            )
    return found
