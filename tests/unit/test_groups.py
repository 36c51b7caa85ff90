"""Groups: declared codes for whatever callers send, and nothing of theirs that stays."""

import json

import pytest
from declared import AGE_BAND, SEX, declared
from hypothesis import given, settings
from hypothesis import strategies as st

from service.monitor.groups import DECLINED, OTHER, UNKNOWN, GroupSet, JointGroups, combine, group_sets

MANIFEST = declared(SEX, AGE_BAND, intersections=[("sex", "age_band")])


def names(groups, row):
    """The group of one row in each sensitive feature and intersection."""
    codes = groups.of(row).codes
    return [made.groups[code] for made, code in zip(groups.sets, codes, strict=True)]


def test_sensitive_features_come_first_then_intersections():
    """Reserved groups stand last in each, and compare with nobody."""
    sex, age_band, both = group_sets(MANIFEST)
    assert sex.groups == ("female", "male", UNKNOWN, DECLINED, OTHER)
    assert (sex.declared, sex.reference_group, sex.is_intersection) == (("female", "male"), "male", False)
    assert (both.name, both.parts, both.reference_group) == ("sex x age_band", ("sex", "age_band"), "male x 50+")
    assert both.declared[:3] == ("female x 18-29", "female x 30-49", "female x 50+")
    assert (len(both.declared), len(age_band.declared), both.is_intersection) == (6, 3, True)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"sex": "female", "age_band": "50+"}, ["female", "50+", "female x 50+"]),
        ({"sex": "female"}, ["female", UNKNOWN, UNKNOWN]),
        ({}, [UNKNOWN, UNKNOWN, UNKNOWN]),
        ({"sex": "declined", "age_band": "50+"}, [DECLINED, "50+", DECLINED]),
        ({"sex": "Female", "age_band": "50+"}, [OTHER, "50+", OTHER]),
        ({"sex": "declined", "age_band": "unknown"}, [DECLINED, UNKNOWN, UNKNOWN]),
        ({"sex": "other", "age_band": "declined"}, [OTHER, DECLINED, DECLINED]),
        ({"sex": "male", "age_band": "18-29", "shoe_size": "44"}, ["male", "18-29", "male x 18-29"]),
        ({"sex": "female x 50+", "age_band": ""}, [OTHER, OTHER, OTHER]),
    ],
)
def test_each_row_falls_in_one_group_of_each_feature(row, expected):
    """Absent is unknown, undeclared is other; in an intersection unknown goes before declined before other."""
    assert names(JointGroups(MANIFEST), row) == expected


def test_combining_keeps_the_first_reserved_group():
    """Of three parts, too."""
    assert combine(["a", "b", "c"]) == "a x b x c"
    assert combine([OTHER, "b", DECLINED]) == DECLINED


def test_rows_that_are_alike_are_one_combination():
    """However a caller spells what is not known; numbers are in the order in which combinations came."""
    groups = JointGroups(MANIFEST)
    assert groups.of({}) is groups.nobody is groups.of({"sex": "unknown"}) is groups.of({"age_band": "unknown"})
    first, second = groups.of({"sex": "female"}), groups.of({"sex": "male"})
    assert [group.number for group in (groups.nobody, first, second)] == [0, 1, 2]
    assert groups.all == [groups.nobody, first, second]


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["sex", "age_band", "name"]), st.text(max_size=4)), max_size=50))
def test_what_callers_invent_is_not_kept(rows):
    """Any number of undeclared values takes the room of `other`."""
    groups = JointGroups(MANIFEST)
    before = len(groups._seen)
    for row in rows:
        groups.of(row)
    # unknown or other, in each of two features, absent or written out
    assert len(groups.all) <= 4
    assert len(groups._seen) <= before + 3 * 3
    kept = {value for sent in groups._seen for value in sent}
    assert kept <= {None, UNKNOWN, OTHER, DECLINED, *SEX[1], *AGE_BAND[1]}


values = st.sampled_from([None, "female", "male", UNKNOWN, DECLINED, OTHER, "martian"])
ages = st.sampled_from([None, *AGE_BAND[1], UNKNOWN, DECLINED, OTHER, "1000"])


@settings(deadline=None)
@given(values, ages)
def test_the_text_of_a_combination_names_it(sex, age_band):
    """As it stands in the records, for this process and for the next one, also for other models' intersections."""
    row = {name: value for name, value in (("sex", sex), ("age_band", age_band)) if value is not None}
    groups = JointGroups(MANIFEST)
    found = groups.of(row)
    assert groups.of_text(found.text) is found
    assert JointGroups(MANIFEST).of_text(found.text).codes == found.codes
    assert json.loads(found.text).keys() == {"sex", "age_band"}
    assert "martian" not in found.text


def test_a_text_of_another_version_is_read_as_far_as_it_goes():
    """Groups that are not declared any more are other; features that were not declared then are unknown."""
    text = '{"sex":"diverse","shoe_size":"44"}'
    groups = JointGroups(MANIFEST)
    assert [made.groups[code] for made, code in zip(groups.sets, groups.of_text(text).codes, strict=True)] == [
        OTHER,
        UNKNOWN,
        UNKNOWN,
    ]


def test_a_model_without_sensitive_features_has_one_combination():
    """Everybody."""
    groups = JointGroups(declared())
    assert groups.sets == []
    assert groups.of({"sex": "female"}) is groups.nobody
    assert (groups.nobody.codes, groups.nobody.text) == ((), "{}")


@pytest.mark.parametrize(("declared_groups", "z"), [(1, 1.644854), (2, 1.644854), (3, 1.959964), (6, 2.326348)])
def test_the_quantile_holds_for_all_comparisons_at_once(declared_groups, z):
    """One-sided 5 %, shared among the groups that are compared with the reference group."""
    made = GroupSet("f", (*"abcdef"[:declared_groups], UNKNOWN, DECLINED, OTHER), "a", ("f",))
    assert made.simultaneous_z == pytest.approx(z, abs=1e-6)


def test_the_quantile_of_differences_holds_for_three_rates_on_either_side():
    """Two groups: 0.05 / 6."""
    made = GroupSet("f", ("a", "b", UNKNOWN, DECLINED, OTHER), "a", ("f",))
    assert made.simultaneous_difference_z == pytest.approx(2.393980, abs=1e-6)
