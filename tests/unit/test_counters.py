"""Counters: every row once in each table, in any portions; sums that never fall."""

from collections import Counter

import numpy as np
import pytest
from declared import AGE_BAND, SEX, declared
from hypothesis import given, settings
from hypothesis import strategies as st

from service.monitor.counters import (
    DELAY_BUCKETS,
    SCORE_BINS,
    TABLES,
    Counters,
    Explained,
    JoinedOutcome,
    explained_class,
)

MANIFEST = declared(SEX, AGE_BAND, intersections=[("sex", "age_band")])
CLASSES = ("red", "green", "blue")

scores = st.floats(0, 1)
rows = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {},
            optional={
                "sex": st.sampled_from(["female", "male", "declined", "martian"]),
                "age_band": st.sampled_from(["18-29", "50+", "unknown"]),
            },
        ),
        st.integers(0, 2),
        scores,
    ),
    max_size=30,
)


def add(counters, predictions):
    """Count [(sensitive features, predicted, score)] at once."""
    counters.add_predictions(
        np.array([counters.groups.of(row).number for row, _, _ in predictions], np.int64),
        np.array([predicted for _, predicted, _ in predictions], np.int64),
        np.array([score for _, _, score in predictions], np.float64),
    )


def in_portions(whole, cuts):
    """`whole` cut in parts of these sizes, and the rest."""
    for size in cuts:
        yield whole[:size]
        whole = whole[size:]
    yield whole


def places(counters, row):
    """(index of the set, group) of a row in each sensitive feature."""
    return list(enumerate(counters.groups.of(row).codes))


def as_dict(table):
    return Counter({place: number.item() for place, number in np.ndenumerate(table) if number})


@pytest.mark.parametrize(
    ("score", "number"), [(0.0, 0), (0.0999, 0), (0.1, 1), (0.5, 5), (0.7, 7), (0.8999, 8), (0.9, 9), (1.0, 9)]
)
def test_a_score_falls_in_the_bin_that_begins_with_it(score, number):
    """But 1.0 has none of its own."""
    counters = Counters(MANIFEST)
    counters.add_outcomes([JoinedOutcome(counters.groups.nobody, 1, 0, score, 60.0)])
    assert as_dict(counters.outcome_score_bins) == {(0, number, 0): 1}


def test_rows_that_do_not_fit_count_in_no_table():
    """A score too many is a defect of ours, and leaves the tables of one mind."""
    counters = Counters(MANIFEST)
    with pytest.raises(ValueError, match="length"):
        counters.add_predictions(np.array([0]), np.array([1]), np.array([0.5, 0.5]))
    assert counters.predictions.sum() == counters.score_sum.sum() == 0


@settings(deadline=None)
@given(rows, st.lists(st.integers(0, 12), max_size=5))
def test_predictions_are_counted_as_a_recount_counts_them(predictions, cuts):
    """In each sensitive feature and intersection, by class, in whatever portions they come."""
    counters = Counters(declared(SEX, AGE_BAND, intersections=[("sex", "age_band")], classes=CLASSES))
    for portion in in_portions(predictions, cuts):
        add(counters, portion)
    for index in range(len(counters.groups.sets)):
        by_class, sums = Counter(), Counter()
        for row, predicted, score in predictions:
            group = counters.groups.of(row).codes[index]
            by_class[group, predicted] += 1
            sums[group, predicted] += score
        assert as_dict(counters.by_group(counters.predictions, index)) == by_class
        found = as_dict(counters.by_group(counters.score_sum, index))
        assert {**sums, **found} == pytest.approx(sums)


outcomes = st.lists(
    st.tuples(rows.map(lambda found: found[0][0] if found else {}), st.integers(0, 1), st.integers(0, 1), scores),
    max_size=20,
)


@settings(deadline=None)
@given(outcomes, st.lists(st.integers(0, 12), max_size=5))
def test_outcomes_are_counted_as_a_recount_counts_them(joined, cuts):
    """By prediction and outcome, and by score and outcome."""
    counters = Counters(MANIFEST)
    for portion in in_portions(joined, cuts):
        counters.add_outcomes(
            [
                JoinedOutcome(counters.groups.of(row), predicted, actual, score, 1.0)
                for row, predicted, actual, score in portion
            ]
        )
    cells, bins, sums = Counter(), Counter(), Counter()
    for row, predicted, actual, score in joined:
        for index, group in places(counters, row):
            cells[index, group, predicted, actual] += 1
            bins[index, group, min(int(score * 10), 9), actual] += 1
            sums[index, group, actual] += score
    for table, expected in ((counters.outcomes, cells), (counters.outcome_score_bins, bins)):
        found = [as_dict(counters.by_group(table, index)) for index in range(3)]
        assert Counter({(index, *key): n for index, table in enumerate(found) for key, n in table.items()}) == expected
    sex = counters.by_group(counters.outcome_score_sum, 0)
    assert sex.sum() == pytest.approx(sum(score for *_, score in joined))
    assert all(sex[group, actual] == pytest.approx(n) for (index, group, actual), n in sums.items() if index == 0)


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=8))
def test_no_number_ever_falls(portions):
    """Also in the last digit of a float sum, as a scraper would take that for a restart."""
    counters = Counters(declared(SEX, AGE_BAND, intersections=[("sex", "age_band")], classes=CLASSES))
    before = [counters.by_group(counters.score_sum, index) for index in range(3)]
    for portion in portions:
        add(counters, portion)
        now = [counters.by_group(counters.score_sum, index) for index in range(3)]
        assert all((late >= early).all() for early, late in zip(before, now, strict=True))
        before = now


margins = st.floats(-1e3, 1e3)


@settings(deadline=None)
@given(st.lists(st.tuples(margins, margins, margins), min_size=1, max_size=10))
def test_attribution_sums_are_split_by_sign(values):
    """Two sums that only grow; their difference is the sum of the values."""
    counters = Counters(declared(SEX, explained=True))
    group = counters.groups.of({"sex": "female"})
    for x, y, margin in values:
        before = counters.copy()
        counters.add_explained([Explained(group, [x, y], margin)])
        assert (counters.attribution_sum[: len(before.attribution_sum)] >= before.attribution_sum).all()
    total = counters.attribution_sum[group.number]
    assert (total >= 0).all()
    assert total[:, 0] - total[:, 1] == pytest.approx([sum(row[0] for row in values), sum(row[1] for row in values)])
    assert np.subtract(*counters.margin_sum[group.number]) == pytest.approx(sum(row[2] for row in values))
    assert counters.attribution_rows[group.number] == len(values)


def test_daily_sums_are_of_the_rows_explained_that_day():
    """Signed, as the records have them, one for each combination of groups."""
    counters = Counters(declared(SEX, explained=True))
    women, men = counters.groups.of({"sex": "female"}), counters.groups.of({"sex": "male"})
    rows = [Explained(women, [1.0, -2.0], -1.0), Explained(men, [5, 5], 10.0), Explained(women, [0.5, 1.0], 1.5)]
    counters.add_explained(rows)
    found = {text: (total.rows, total.sums.tolist(), total.margin_sum) for (_, text), total in counters.daily.items()}
    assert found == {women.text: (2, [1.5, -1.0], 0.5), men.text: (1, [5.0, 5.0], 10.0)}
    assert {day % 86_400 for day, _ in counters.daily} == {0}


def test_a_correction_moves_a_cell_and_nothing_else():
    """The first outcome stays counted; the delay is that of the first."""
    counters = Counters(MANIFEST)
    group = counters.groups.of({"sex": "female"})
    counters.add_outcomes([JoinedOutcome(group, 1, 0, 0.8, 5.0)])
    first = counters.copy()
    counters.add_outcomes([JoinedOutcome(group, 1, 1, 0.8, 50.0, corrected_from=0)])
    assert as_dict(counters.corrections) == {(group.number, 1, 0, 1): 1}
    for name in set(TABLES) - {"corrections"} | {"delay_counts"}:
        assert (getattr(counters, name) == getattr(first, name)).all()
    assert counters.delay_sum == 5.0


def test_delays_fall_in_the_bucket_that_ends_with_them():
    """An outcome from before its prediction (two clocks) counts as at once."""
    counters = Counters(MANIFEST)
    delays = [-5.0, 0.0, 60.0, 60.1, 3600.0, 90 * 86_400.0, 91 * 86_400.0]
    counters.add_outcomes([JoinedOutcome(counters.groups.nobody, 0, 0, 0.1, delay) for delay in delays])
    expected = [0] * (len(DELAY_BUCKETS) + 1)
    expected[0], expected[1], expected[2], expected[-2], expected[-1] = 3, 1, 1, 1, 1
    assert counters.delay_counts.tolist() == expected
    assert counters.delay_sum == sum(delays[1:])


def test_tables_grow_with_the_combinations():
    """What was counted before stays where it was, and a combination that was only seen has zeros."""
    counters = Counters(MANIFEST)
    add(counters, [({"sex": "female"}, 1, 0.9)])
    counters.groups.of({"sex": "declined"})
    add(counters, [({"sex": "male", "age_band": "50+"}, 0, 0.2), ({"sex": "female"}, 1, 0.7)])
    assert counters.predictions.tolist() == [[0, 0], [0, 2], [0, 0], [1, 0]]
    assert {len(getattr(counters, name)) for name in TABLES} == {4}
    assert counters.outcome_score_bins.shape == (4, SCORE_BINS, 2)


def test_a_copy_stays_as_it_is():
    """While rows of combinations that it never saw are counted."""
    counters = Counters(MANIFEST)
    add(counters, [({"sex": "female"}, 1, 0.9)])
    made = counters.copy()
    add(counters, [({"sex": "male"}, 1, 0.9), ({"sex": "female"}, 0, 0.1)])
    counters.add_outcomes([JoinedOutcome(counters.groups.nobody, 0, 0, 0.1, 1.0)])
    assert made.by_group(made.predictions, 0).tolist() == [[0, 1], [0, 0], [0, 0], [0, 0], [0, 0]]
    assert (made.outcomes.sum(), made.delay_counts.sum(), made.delay_sum) == (0, 0, 0.0)


@pytest.mark.parametrize(
    ("changes", "column"),
    [({}, None), ({"favourable_outcome": "blue"}, 2), ({"positive_class": "green", "favourable_outcome": "blue"}, 1)],
)
def test_attributions_of_many_classes_are_those_of_the_class_in_question(changes, column):
    """The positive one, else the favourable one, else none."""
    assert explained_class(declared(classes=CLASSES, **changes)) == column


def test_a_binary_model_explains_one_margin():
    """Whatever its positive class."""
    assert explained_class(declared(positive_class="no")) == 0
