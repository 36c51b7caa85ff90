"""Small cells: what the report hides, and that whoever reads it can work out no hidden count of 1 to 10."""

import itertools
import json
import random
from collections import Counter

import numpy as np
import pytest
from declared import declared
from scipy.optimize import linprog
from scipy.sparse import csr_array

from service.monitor.groups import DECLINED, OTHER, UNKNOWN, combine
from service.monitor.report import fairness_report
from service.monitor.suppression import hidden_groups, is_small
from service.monitor.tally import tally

A, B, C, D = ("a", ("a1", "a2")), ("b", ("b1", "b2")), ("c", ("c1", "c2", "c3")), ("d", ("d1", "d2"))
# Two score bins on either side of the threshold of 0.5.
BINS = {"no": (1, 3), "yes": (6, 8)}
UNLABELLED = None
# A prediction's place in a joint table: predicted, actual or none, score bin (0 without an outcome: it is not shown).
KINDS = [
    (predicted, actual, score_bin)
    for predicted in BINS
    for actual in ("no", "yes", UNLABELLED)
    for score_bin in (BINS[predicted] if actual else (0,))
]


def masks(cells, hidden=()):
    table = np.array(cells)
    return hidden_groups(table, np.isin(np.arange(len(table)), hidden)).tolist()


def counts(people):
    """Cell counts for `tally`, of {(groups by sensitive feature, predicted, actual, bin): n}."""
    return [
        (json.dumps(dict(groups)), predicted, actual, score_bin, n, n * (score_bin + 0.5) / 10)
        for (groups, predicted, actual, score_bin), n in people.items()
        if n
    ]


def reported(manifest, people, *, suppress=True):
    return fairness_report(manifest, tally(manifest, counts(people)), suppress=suppress)


def of(**groups):
    return tuple(groups.items())


def shown(report):
    """{sensitive feature: {group: n or None}}, empty groups left out."""
    return {
        feature["name"]: {group["group"]: group["n"] for group in feature["groups"] if group["n"] != 0}
        for feature in report["sensitive_features"]
    }


def test_counts_from_1_to_10_are_small():
    """Nobody is nobody's secret."""
    assert is_small(np.array([0, 1, 10, 11])).tolist() == [False, True, True, False]


def test_nothing_is_hidden_where_no_cell_is_small():
    """Zeros may be shown."""
    assert masks([[0, 11], [500, 0], [20, 20], [0, 0]]) == [False, False, False, False]


def test_a_small_group_takes_the_next_smallest_with_it():
    """From a total known otherwise, 5 would follow; 5 + 20 stay together."""
    assert masks([[100, 200], [20, 30], [5, 40], [0, 0]]) == [False, True, True, False]


def test_two_small_groups_hide_each_other_once_they_add_up_to_11():
    """6 and 5 are enough; 5 and 5 take a third."""
    assert masks([[100, 200], [20, 30], [6, 40], [5, 50]]) == [False, False, True, True]
    assert masks([[100, 200], [20, 30], [5, 40], [5, 50]]) == [False, True, True, True]


def test_a_group_that_is_alone_in_a_class_is_not_hidden_by_others_without_it():
    """The second group has none of the first class: the first one's 5 would be the whole."""
    assert masks([[5, 40], [0, 30], [0, 50], [90, 60]]) == [True, True, True, True]


def test_groups_hidden_in_decisions_are_hidden_in_outcomes():
    """And are company enough for each other."""
    assert masks([[50, 50], [20, 30], [40, 40]], hidden=[1, 2]) == [False, True, True]


def people_of_two(ages, **extra):
    """Women and men by age band, everybody predicted yes, rightly."""
    return {(of(a=a, b=b), "yes", "yes", 8): n for (a, b), n in (ages | extra).items()}


def test_an_intersection_with_a_small_cell_is_hidden_whole_and_its_parts_are_not():
    """Of 5 young women nothing follows from women and from the young."""
    manifest = declared(A, B, intersections=[("a", "b")])
    ages = {("a1", "b1"): 5, ("a1", "b2"): 40, ("a2", "b1"): 50, ("a2", "b2"): 60}
    assert shown(reported(manifest, people_of_two(ages))) == {
        "a": {"a1": 45, "a2": 110},
        "b": {"b1": 55, "b2": 100},
        "a x b": {
            "a1 x b1": None,
            "a1 x b2": None,
            "a2 x b1": None,
            "a2 x b2": None,
            UNKNOWN: None,
            DECLINED: None,
            OTHER: None,
        },
    }


def test_an_intersection_is_hidden_where_a_group_less_its_combinations_is_small():
    """25 have no known age, but 5 of them are women: all women less those with an age."""
    manifest = declared(A, B, intersections=[("a", "b")])
    ages = {("a1", "b1"): 30, ("a1", "b2"): 40, ("a2", "b1"): 50, ("a2", "b2"): 60}
    report = reported(manifest, people_of_two(ages | {("a1", UNKNOWN): 5, ("a2", UNKNOWN): 20}))
    assert shown(report)["a"] == {"a1": 75, "a2": 130}
    assert set(shown(report)["a x b"].values()) == {None}
    report = reported(manifest, people_of_two(ages | {("a1", UNKNOWN): 15, ("a2", UNKNOWN): 20}))
    assert shown(report)["a x b"][UNKNOWN] == 35


def test_an_intersection_hides_those_that_share_a_part_and_no_others():
    """a x b has a small cell; b x c shares b, c x d shares c with that; d x e is on its own, as it shares none here."""
    E = ("e", ("e1", "e2"))
    features = (A, B, C, D, E)
    manifest = declared(*features, intersections=[("a", "b"), ("b", "c"), ("d", "e")])
    everybody = list(itertools.product(*(groups for _, groups in features)))
    people = {
        (tuple(zip("abcde", groups, strict=True)), "yes", "yes", 8): 0 if groups[:2] == ("a1", "b1") else 30
        for groups in everybody
    }
    people[of(a="a1", b="b1", c="c1", d="d1", e="e1"), "yes", "yes", 8] = 5
    found = {name: None in groups.values() for name, groups in shown(reported(manifest, people)).items()}
    assert [name for name, is_hidden in found.items() if is_hidden] == ["a x b", "b x c"]


def test_decisions_of_an_intersection_are_hidden_where_its_outcomes_are():
    """The 5 would follow: sums over any one of group, group and outcome are shown, and two corners are empty."""
    corners = {
        ("a1", "b1", "no"): 5,
        ("a1", "b1", "yes"): 20,
        ("a1", "b2", "no"): 20,
        ("a2", "b1", "no"): 20,
        ("a2", "b1", "yes"): 20,
        ("a1", "b2", "yes"): 20,
    }
    manifest = declared(A, B, intersections=[("a", "b")])
    people = {(of(a=a, b=b), "yes", actual, 8): n for (a, b, actual), n in corners.items()}
    report = reported(manifest, people)
    assert shown(report)["a"] == {"a1": 65, "a2": 40}
    assert set(shown(report)["a x b"].values()) == {None}
    assert derivable(manifest, report, people) == []


def test_scores_of_parts_are_hidden_where_those_of_a_shown_intersection_are_small():
    """The intersection is worth more than the bins of its parts."""
    manifest = declared(A, B, intersections=[("a", "b")])
    people = {(of(a=a, b=b), "yes", "yes", 8): 30 for a in A[1] for b in B[1]}
    people[of(a="a1", b="b1"), "yes", "yes", 6] = 5
    report = reported(manifest, people)
    assert shown(report)["a x b"]["a1 x b1"] == 35
    bins = [group["calibration"]["bins"] for f in report["sensitive_features"] for group in f["groups"][:2]]
    assert set(map(str, bins)) == {"None"}


def test_hidden_numbers_are_null_in_every_place():
    """State, comparisons and gaps say that something is hidden; the reference group's small cell hides all of them."""
    people = {(of(a="a1"), "yes", "yes", 8): 40, (of(a="a2"), "yes", "yes", 8): 30, (of(a="a2"), "no", "no", 1): 4}
    report = reported(declared(A), people)
    [feature] = report["sensitive_features"]
    group, reference = feature["groups"][:2]
    assert (feature["state"], group["state"], reference["state"]) == ("insufficient", "suppressed", "reference")
    for entry in (group, reference):
        assert {entry[name] for name in ("n", "predicted", "labelled", "cells", "calibration", "attribution")} == {None}
        assert set(entry["rates"].values()) == {None}
    nothing = {"value": None, "low": None, "high": None, "state": "suppressed"}
    assert all(compared == nothing for compared in group["against_reference"].values())
    assert all(gap == {"suppressed": True} for gap in feature["disparities"].values())
    assert (report["n"], report["labelled"]) == (74, 74)


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "expected"), [(10, 0, (None, None)), (30, 10, (40, None)), (5, 30, (35, None))]
)
def test_totals_are_hidden_by_the_same_rule(labelled, unlabelled, expected):
    """Their difference is a count too."""
    people = {(of(a="a1"), "yes", "yes", 8): labelled, (of(a="a1"), "yes", UNLABELLED, 8): unlabelled}
    report = reported(declared(A), people)
    assert (report["n"], report["labelled"]) == expected


def test_everything_is_shown_without_suppression():
    """A setting of those who run the service."""
    report = reported(declared(A), {(of(a="a1"), "yes", "yes", 8): 3}, suppress=False)
    assert (report["n"], shown(report)["a"]) == (3, {"a1": 3})
    assert "None" not in str(
        [group["rates"]["label_coverage"] for group in report["sensitive_features"][0]["groups"][:1]]
    )


# What a report gives away. Unknown is the joint table: groups of all sensitive features x KINDS, none below 0.


class Joint:
    """The joint table of a manifest: places, and which of them a count covers."""

    def __init__(self, manifest, used):
        """`used` are the groups of each sensitive feature that anybody is in; readers are told for nothing."""
        self.names = [feature.name for feature in manifest.sensitive_features]
        self.parts = {name: (name,) for name in self.names}
        self.parts |= {" x ".join(parts): tuple(parts) for parts in manifest.intersections}
        people = list(itertools.product(*(used[name] for name in self.names)))
        self.places = [(of(**dict(zip(self.names, groups, strict=True))), *kind) for groups in people for kind in KINDS]
        self._groups = {}
        for name, parts in self.parts.items():
            self._groups[name] = np.array(
                [combine([dict(groups)[part] for part in parts]) for groups, *_ in self.places]
            )
        _, predicted, actual, bins = zip(*self.places, strict=True)
        self._predicted, self._actual, self._bin = np.array(predicted), np.array(list(map(str, actual))), np.array(bins)

    def group(self, name, group):
        return self._groups[name] == group

    def groups(self, name):
        """Places of each group of a sensitive feature, and of each combination of its parts' groups, which is finer."""
        combinations = np.array(
            ["&".join(dict(groups)[part] for part in self.parts[name]) for groups, *_ in self.places]
        )
        return [found == each for found in (self._groups[name], combinations) for each in np.unique(found)]

    def everybody(self):
        return np.ones(len(self.places), bool)

    def predicted(self, label):
        return self._predicted == label

    def actual(self, label):
        return self._actual == label

    def labelled(self):
        return ~self.actual("None")

    def bin(self, number):
        return self._bin == number


def known(joint, report):
    """[(places that are counted, the count)]: every count that stands in the report, or follows from a share in it."""
    yes, no = joint.predicted("yes"), joint.predicted("no")
    is_yes, is_no, labelled = joint.actual("yes"), joint.actual("no"), joint.labelled()
    everybody = joint.everybody()
    shares = {
        "selection_rate": (yes, everybody),
        "true_positive_rate": (yes & is_yes, is_yes),
        "false_positive_rate": (yes & is_no, is_no),
        "positive_predictive_value": (yes & is_yes, yes & labelled),
        "base_rate": (is_yes, labelled),
        "label_coverage": (labelled, everybody),
    }
    found = [(everybody, report["n"]), (labelled, report["labelled"])]
    for feature in report["sensitive_features"]:
        for group in feature["groups"]:
            own = [(everybody, group["n"]), (labelled, group["labelled"])]
            own += [(joint.predicted(label), n) for label, n in (group["predicted"] or {}).items()]
            cells = group["cells"] or {}
            places = {"true_positive": yes & is_yes, "false_positive": yes & is_no}
            places |= {"false_negative": no & is_yes, "true_negative": no & is_no}
            own += [(places[name], n) for name, n in cells.items()]
            for name, rate in group["rates"].items():
                if rate is not None:
                    own += zip(shares[name], (rate["numerator"], rate["denominator"]), strict=True)
            if group["calibration"] is not None:
                whole = group["calibration"]
                own += [(labelled, whole["n"]), (is_yes, round(whole["n"] * whole["observed_rate"]))]
                for number, each in enumerate(whole["bins"] or ()):
                    here = joint.bin(number) & labelled
                    own += [(here, each["n"]), (here & is_yes, round(each["n"] * (each["observed_rate"] or 0)))]
            own = [(joint.group(feature["name"], group["group"]) & place, n) for place, n in own]
            found += own
    return [(place, n) for place, n in found if n is not None]


def cells(joint):
    """Places of every cell of every group, and of every combination of an intersection's parts."""
    kinds = [joint.predicted(label) for label in BINS]
    kinds += [joint.predicted(label) & joint.actual(str(actual)) for label in BINS for actual in ("no", "yes", None)]
    kinds += [joint.bin(number) & joint.actual(label) for number in (1, 3, 6, 8) for label in ("no", "yes")]
    kinds += [joint.actual(label) for label in ("no", "yes", "None")]
    kinds += [joint.labelled() & of_one for of_one in (joint.predicted("no"), joint.predicted("yes"))]
    kinds += [joint.bin(number) & joint.labelled() for number in (1, 3, 6, 8)]
    kinds += [joint.everybody(), joint.labelled()]
    return [group & kind for name in joint.parts for group in joint.groups(name) for kind in kinds]


def derivable(manifest, report, people):
    """The counts of 1 to 10 that follow from the report: what every joint table that fits it agrees on."""
    used = {feature.name: {*feature.groups} for feature in manifest.sensitive_features}
    for groups, *_ in people:
        for name, group in groups:
            used[name].add(group)
    joint = Joint(manifest, {name: sorted(groups) for name, groups in used.items()})
    truth = np.zeros(len(joint.places))
    number = {place: index for index, place in enumerate(joint.places)}
    for (groups, predicted, actual, score_bin), n in people.items():
        truth[number[groups, predicted, actual, score_bin if actual else 0]] += n
    rows = {place.tobytes(): (place, n) for place, n in known(joint, report)}
    A_eq = np.array([place for place, _ in rows.values()], float)
    b_eq = np.array([n for _, n in rows.values()], float)
    assert (A_eq @ truth == b_eq).all(), "the report is true"
    # Where nobody is counted nobody is: fewer unknowns.
    free = ~(A_eq[b_eq == 0] > 0).any(axis=0)
    A_free, b_free = csr_array(A_eq[b_eq > 0][:, free]), b_eq[b_eq > 0]
    targets = {place.tobytes(): place[free].astype(float) for place in cells(joint) if 0 < truth[place].sum() <= 10}
    left = list(targets.values())

    def undecided(objective):
        """Those of `left` on which the table that is best for `objective` agrees with the true one, within 1 person."""
        fits = linprog(objective, A_eq=A_free, b_eq=b_free, bounds=(0, None), method="highs")
        assert fits.status == 0, fits.message
        return [place for place in left if abs(place @ (fits.x - truth[free])) < 0.99]

    for sign in (1, -1):
        left = undecided(sign * sum(left)) if left else []
    for place, sign in itertools.product(list(left), (1, -1)):
        if any(place is other for other in left):
            left = undecided(sign * place)
    return [int(place @ truth[free]) for place in left]


def small_numbers(value, path=()):
    """Where a count of 1 to 10 people stands in a report; attributions count explained rows, not people."""
    if path[-1:] == ("attribution",):
        return []
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for name, part in parts for found in small_numbers(part, (*path, name))]
    return [path] if type(value) is int and 0 < value < 11 else []


DECLARATIONS = [
    ((A, B), ()),
    ((A, B), [("a", "b")]),
    ((A, C), [("a", "c")]),
    ((A, B, C), [("a", "b"), ("b", "c")]),
    ((A, B, C), [("a", "b"), ("a", "b", "c")]),
    ((A, B, C), [("b", "c")]),
    ((A, B, D), [("a", "b"), ("b", "d"), ("a", "d")]),
    ((("five", ("1", "2", "3", "4", "5")), B), [("five", "b")]),
]


def drawn(draw, manifest):
    """A joint table with empty, small and large cells, more or less of each, and now and then a reserved group."""
    groups = [list(feature.groups) for feature in manifest.sensitive_features]
    for found in groups:
        if draw.random() < 0.3:
            found.append(draw.choice([UNKNOWN, DECLINED, OTHER]))
    names = [feature.name for feature in manifest.sensitive_features]
    weights = [draw.choice([0, 1, 4]), draw.choice([0, 1]), draw.choice([1, 3]), draw.choice([0.3, 2])]
    kinds = draw.sample(KINDS, draw.randint(2, len(KINDS)))
    people = Counter()
    for cell in itertools.product(*groups):
        for predicted, actual, score_bin in kinds:
            sizes = (0, draw.randint(1, 10), draw.randint(11, 40), draw.randint(100, 300))
            [n] = draw.choices(sizes, weights)
            if n:
                people[of(**dict(zip(names, cell, strict=True))), predicted, actual, score_bin] += n
    return people


def test_a_reader_of_one_hidden_group_works_it_out():
    """Where only the small group is hidden the 5 follows, from the total and from the other feature."""
    people = {(of(a=a, b="b1"), "yes", "yes", 8): n for a, n in (("a1", 5), ("a2", 30))}
    manifest = declared(A, B)
    report = reported(manifest, people, suppress=False)
    for small in report["sensitive_features"][0]["groups"][:1]:
        small |= dict.fromkeys(("n", "predicted", "labelled", "cells", "calibration"))
        small["rates"] = dict.fromkeys(small["rates"])
    assert small_numbers(report) == []
    assert set(derivable(manifest, report, people)) == {5}


@pytest.mark.parametrize("number", range(len(DECLARATIONS)), ids=lambda number: str(DECLARATIONS[number][1]))
def test_no_count_of_1_to_10_stands_in_a_report_or_follows_from_it(number):
    """For any table, with every cell of every group and combination: some other table gives the same report."""
    features, intersections = DECLARATIONS[number]
    manifest = declared(*features, intersections=intersections)
    draw = random.Random(number)
    for _ in range(25):
        people = drawn(draw, manifest)
        report = reported(manifest, people)
        assert small_numbers(report) == []
        assert derivable(manifest, report, people) == [], people
