"""What somebody can work out who has a report and nothing else: all tables of people that agree with all of it.

The unknowns are whole numbers from 0 up, one for each combination of groups, score and outcome (or none); each number
that the report shows is an equation. A count is derived where the equations leave it only one value. For binary models
of classes 0 and 1, the positive class 1 selected, that decide 1 from a score of 0.5 on.
"""

import itertools
from collections import Counter

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

SMALL = range(1, 11)
BINS = range(10)
CELLS = {
    "true_positive": (1, 1),
    "false_positive": (1, 0),
    "false_negative": (0, 1),
    "true_negative": (0, 0),
}


class Attacker:
    """Knows `report`, and which score bins there are.

    `people` {(groups in the order of the features, bin, actual or None): n} is the truth.
    """

    def __init__(self, report, people, bins=(0, 9)):
        self.features = [f for f in report["sensitive_features"] if f["intersection_of"] is None]
        names = [[group["group"] for group in feature["groups"]] for feature in self.features]
        # Nobody in these tests has declined or is an undeclared other.
        names = [[group for group in groups if group not in ("declined", "other")] for groups in names]
        self.bins = bins
        self.unknowns = list(itertools.product(itertools.product(*names), bins, (0, 1, None)))
        self.truth = np.array([people.get(unknown, 0) for unknown in self.unknowns], float)
        assert self.truth.sum() == sum(people.values())
        self.equations = list(self._equations(report))
        rows = np.array([row for row, _ in self.equations])
        values = np.array([value for _, value in self.equations], float)
        # What is wrong here would otherwise look like an attacker who cannot derive anything.
        np.testing.assert_allclose(rows @ self.truth, values, atol=1e-6, err_msg="the report is not about these people")
        self._constraint = LinearConstraint(rows, values - 1e-6, values + 1e-6)
        self._possible = [self.truth]

    def derived(self):
        """[(what, n)] of every count of 1 to 10 that can have no other value."""
        small = {}
        for what, row in self._counts():
            n = round(float(row @ self.truth))
            if n in SMALL and not any(abs(row @ other - n) > 0.5 for other in self._possible):
                small[what] = (row, n)
        return [(what, n) for what, (row, n) in small.items() if self._only_one_value(row, n)]

    def small_counts(self):
        """How many counts of 1 to 10 there are to be derived."""
        return sum(round(float(row @ self.truth)) in SMALL for _, row in self._counts())

    def _only_one_value(self, row, n):
        """Whether least and largest are the same; what is possible is remembered, for other counts differ in it too."""
        for other in self._possible:
            if abs(row @ other - n) > 0.5:
                return False
        for sign in (1, -1):
            ones = np.ones(len(row))
            solved = milp(sign * row, constraints=self._constraint, bounds=Bounds(0, np.inf), integrality=ones)
            assert solved.status == 0, solved.message
            self._possible.append(np.round(solved.x))
            if abs(row @ self._possible[-1] - n) > 0.5:
                return False
        return True

    def _mask(self, feature, group):
        """Which unknowns are of `group`: a combination with an unknown part is in the intersection's `unknown`."""
        parts = feature["intersection_of"] or [feature["name"]]
        places = [[f["name"] for f in self.features].index(part) for part in parts]

        def of(groups):
            own = [groups[place] for place in places]
            return "unknown" if "unknown" in own else " x ".join(own)

        return np.array([of(groups) == group for groups, _, _ in self.unknowns])

    def _where(self, mask, predicted=(0, 1), actual=(0, 1, None), bins=BINS):
        places = zip(mask, self.unknowns, strict=True)
        return np.array([float(m and int(b > 4) in predicted and a in actual and b in bins) for m, (_, b, a) in places])

    def _counts(self):
        """(what, row) of everything that may be counted about a group, and about a combination of groups."""
        everything = (0, 1), (0, 1, None), BINS
        kinds = [("n", *everything), ("labelled", (0, 1), (0, 1), BINS), ("unlabelled", (0, 1), (None,), BINS)]
        kinds += [(f"predicted {p}", (p,), (0, 1, None), BINS) for p in (0, 1)]
        kinds += [(f"actual {a}", (0, 1), (a,), BINS) for a in (0, 1)]
        kinds += [(f"cell {p} {a}", (p,), (a,), BINS) for p in (0, 1) for a in (0, 1, None)]
        kinds += [(f"bin {b} {a}", (0, 1), (a,), (b,)) for b in self.bins for a in (0, 1)]
        masks = {groups: np.array([groups == own for own, _, _ in self.unknowns]) for groups, _, _ in self.unknowns}
        for feature in self.features:
            for group in feature["groups"]:
                masks[feature["name"], group["group"]] = self._mask(feature, group["group"])
        for groups, mask in masks.items():
            for kind, *places in kinds:
                yield (groups, kind), self._where(mask, *places)

    def _equations(self, report):
        """(row, value) for each number in the report."""
        everybody = np.ones(len(self.unknowns), bool)
        if report["n"] is not None:
            yield self._where(everybody), report["n"]
        if report["labelled"] is not None:
            yield self._where(everybody, actual=(0, 1)), report["labelled"]
        for feature in report["sensitive_features"]:
            for group in feature["groups"]:
                mask = self._mask(feature, group["group"])
                yield from self._of_group(mask, group)

    def _of_group(self, mask, group):
        if group["n"] is not None:
            yield self._where(mask), group["n"]
        if group["labelled"] is not None:
            yield self._where(mask, actual=(0, 1)), group["labelled"]
        for label, n in (group["predicted"] or {}).items():
            yield self._where(mask, (int(label),)), n
        for name, n in (group["cells"] or {}).items():
            predicted, actual = CELLS[name]
            yield self._where(mask, (predicted,), (actual,)), n
        parts = {
            "selection_rate": (((1,), (0, 1, None)), ((0, 1), (0, 1, None))),
            "true_positive_rate": (((1,), (1,)), ((0, 1), (1,))),
            "false_positive_rate": (((1,), (0,)), ((0, 1), (0,))),
            "positive_predictive_value": (((1,), (1,)), ((1,), (0, 1))),
            "base_rate": (((0, 1), (1,)), ((0, 1), (0, 1))),
            "label_coverage": (((0, 1), (0, 1)), ((0, 1), (0, 1, None))),
        }
        for name, rate in group["rates"].items():
            if rate is not None:
                numerator, denominator = parts[name]
                yield self._where(mask, *numerator), rate["numerator"]
                yield self._where(mask, *denominator), rate["denominator"]
        if group["calibration"] is not None:
            yield from self._of_calibration(mask, group["calibration"])

    def _of_calibration(self, mask, calibration):
        n = calibration["n"]
        yield self._where(mask, actual=(0, 1)), n
        yield self._where(mask, actual=(1,)), calibration["observed_rate"] * n
        for place, of_bin in enumerate(calibration["bins"] or ()):
            yield self._where(mask, actual=(0, 1), bins=(place,)), of_bin["n"]
            yield self._where(mask, actual=(1,), bins=(place,)), (of_bin["observed_rate"] or 0) * of_bin["n"]


def people_of(rows, features):
    """The truth, from rows as `tables.rows` has them; an absent group is `unknown`, a score of 1 is in bin 9."""
    return Counter(
        (tuple(row["groups"].get(feature, "unknown") for feature in features), int(9 * row["score"]), row["actual"])
        for row in rows
    )


def counts_shown(part, path=()):
    """(path, n) of every whole number in a report that is not a class label."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key not in ("positive_class", "favourable_outcome"):
                yield from counts_shown(value, (*path, key))
    elif isinstance(part, list):
        for place, value in enumerate(part):
            yield from counts_shown(value, (*path, place))
    elif isinstance(part, int) and not isinstance(part, bool):
        yield path, part


def hidden_groups(feature):
    """Names of the groups whose decisions are hidden, and of those whose outcomes are."""
    groups = feature["groups"]
    decisions = {group["group"] for group in groups if group["n"] is None}
    return decisions, {group["group"] for group in groups if group["labelled"] is None}
