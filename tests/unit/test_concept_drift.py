"""Has the share of wrong predictions changed? ADWIN says so late rather than wrongly."""

import json

import numpy as np
import pytest
from declared import AGE_BAND, SEX, declared

from service.driftjob.concept import concept, split, stream
from service.driftjob.exposition import registry_of
from service.driftjob.verdicts import LEAST_OUTCOMES, LEAST_SIDE_OUTCOMES, Change, Concept, Stream, Unjudged, Verdict
from service.records.samples import Arrival

DELTA = 0.002
SEEDS = 50
MANIFEST = declared(SEX, AGE_BAND)


def errors(seed, *parts):
    """Errors of (n, rate) one after the other."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.random(n) < rate for n, rate in parts]).astype(float)


def watched(values):
    return stream("", "all", values, np.arange(len(values), dtype=float), delta=DELTA)


def test_a_steady_error_rate_is_left_alone():
    """In nearly every one of fifty streams; the window is then the whole stream."""
    found = [watched(errors(seed, (2000, 0.2))) for seed in range(SEEDS)]
    assert sum(bool(one.changes) for one in found) <= 2
    assert all(one.window_n == one.n for one in found if not one.changes)


@pytest.mark.parametrize(("before", "after"), [(0.1, 0.3), (0.3, 0.1)])
def test_a_jump_is_found_near_its_place(before, after):
    """Once, a few hundred outcomes later; where it began is known to some fifty. Both rates are those of the sides."""
    for seed in range(10):
        values = errors(seed, (1500, before), (1500, after))
        found = watched(values)
        [change] = found.changes
        assert 1500 < change.found_at < 2100
        assert abs(change.began_at - 1500) < 100
        place = int(change.began_at)
        assert change.n_before == place
        assert change.error_before == pytest.approx(values[:place].mean())
        assert found.window_n == 3000 - place
        assert found.error_ratio == pytest.approx(values[place:].mean())


def test_every_change_is_told():
    """Up, and down again."""
    found = watched(errors(1, (1500, 0.1), (1500, 0.4), (1500, 0.1)))
    assert [change.error_after > change.error_before for change in found.changes] == [True, False]
    assert min(min(change.n_before, change.n_after) for change in found.changes) >= LEAST_SIDE_OUTCOMES


def test_what_came_after_a_change_is_not_forgotten():
    """The first change is found with the last error: that the errors end is seen only by who remembers them."""
    found = watched(np.repeat([0.0, 1.0, 0.0], [608, 32, 600]))
    assert [(change.began_at, change.error_before, change.error_after) for change in found.changes] == [
        (608, 0, 1),
        (640, 1, 0),
    ]
    assert found.changes[0].found_at == 639
    assert (found.window_n, found.error_ratio) == (600, 0)


def test_it_is_the_order_that_tells():
    """The same errors, dealt out evenly, are no change."""
    values = errors(2, (1500, 0.1), (1500, 0.3))
    assert watched(values).changes
    assert not watched(np.random.default_rng(0).permutation(values)).changes


def test_the_split_is_where_the_sides_differ_most():
    """Without noise, exactly there; never nearer to an end than LEAST_SIDE_OUTCOMES."""
    assert split(np.repeat([0.0, 1.0], [40, 90])) == 40
    assert split(np.repeat([0.0, 1.0], [3, 90])) == LEAST_SIDE_OUTCOMES


def arrivals(values, groups):
    return [Arrival(float(number), bool(value), json.dumps(groups(number))) for number, value in enumerate(values)]


def test_declared_groups_that_are_large_enough_are_watched():
    """Not those under the limit, nor reserved ones; delta is shared among the streams."""
    n = 4 * LEAST_OUTCOMES

    def groups(number):
        band = "50+" if number < LEAST_OUTCOMES - 1 else "30-49" if number < 2 * LEAST_OUTCOMES else "unknown"
        return {"sex": "female" if number % 2 else "male", "age_band": band}

    found = concept(MANIFEST, arrivals(errors(0, (n, 0.2)), groups), delta=DELTA)
    counted = {(one.sensitive_feature, one.group): one.n for one in found.streams}
    assert counted == {
        ("", "all"): n,
        ("sex", "female"): n // 2,
        ("sex", "male"): n // 2,
        ("age_band", "30-49"): LEAST_OUTCOMES + 1,
    }
    assert found.delta == DELTA / 4
    assert found.outcomes == n


def test_a_change_of_one_group_is_its_own():
    """Women's errors rise, men's do not."""
    rng = np.random.default_rng(5)
    values = [rng.random() < (0.5 if number % 2 and number > 2000 else 0.1) for number in range(4000)]
    sex = ("female", "male")
    found = concept(MANIFEST, arrivals(values, lambda number: {"sex": sex[1 - number % 2]}), delta=DELTA)
    changes = {one.group: len(one.changes) for one in found.streams}
    assert changes["female"] == 1
    assert changes["male"] == 0


def test_few_outcomes_say_nothing():
    """One fewer than the limit."""
    few = arrivals(errors(0, (LEAST_OUTCOMES - 1, 0.5)), lambda _: {"sex": "male"})
    found = concept(MANIFEST, few, delta=DELTA)
    assert isinstance(found, Unjudged)
    assert found.state == "insufficient"
    assert isinstance(concept(MANIFEST, [], delta=DELTA), Unjudged)


def test_the_latest_change_is_exported_with_its_time():
    """And nothing where there was none: no change is no change at the beginning of time."""
    early, late = (Change(at, at - 50, 0.1, 0.3, 200, 100) for at in (1000.0, 2000.0))
    streams = [Stream("", "all", 900, 100, 0.3, [early, late]), Stream("sex", "male", 400, 400, 0.1, [])]
    verdict = Verdict("m", "1", Unjudged("insufficient", "no rows"), Concept(900, 0.001, streams))
    found = {
        sample.labels["group"]: sample.value
        for family in registry_of([verdict], now=3000).collect()
        if family.name == "plumbline_concept_drift_latest_change_timestamp_seconds"
        for sample in family.samples
    }
    assert found == {"all": 2000}
