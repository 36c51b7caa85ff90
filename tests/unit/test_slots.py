"""Slots: what was added in each ten minutes, told until the records have it, and never twice."""

import random

import numpy as np
import pytest

from service.monitor.slots import SLOT_SECONDS, Slots

START = 1_000_000_200  # the first second of a slot


class Clock:
    """Counts `(2,)` of which something is added at times, and records that keep what they are told."""

    def __init__(self):
        self.values = np.zeros(2)
        self.slots = Slots(2)
        self.records = {}

    def add(self, seconds, *added):
        self.slots.begin(self.values, seconds)
        self.values += added

    def changed(self):
        return {start: added.tolist() for start, added in self.slots.changed(self.values).items()}

    def save(self):
        """Replace what the records have of these slots, and say so."""
        told = self.slots.changed(self.values)
        self.records |= {start: added.copy() for start, added in told.items()}
        self.slots.saved(told)
        return list(told)


@pytest.fixture
def clock():
    return Clock()


def test_nothing_counted_is_nothing_to_save(clock):
    """Also when a slot begins without a row."""
    assert clock.changed() == {}
    clock.add(START, 0, 0)
    assert clock.changed() == {}
    clock.add(START + SLOT_SECONDS, 0, 0)
    assert clock.changed() == {}


def test_a_slot_begins_with_every_ten_minutes(clock):
    """From its first second to its last."""
    for seconds in (0, 0.5, SLOT_SECONDS - 0.001, SLOT_SECONDS):
        clock.add(START + seconds, 1, 0.25)
    assert clock.changed() == {START: [3, 0.75], START + SLOT_SECONDS: [1, 0.25]}


def test_slots_without_rows_leave_no_trace(clock):
    """A quiet night."""
    clock.add(START, 1, 0)
    clock.add(START + 100 * SLOT_SECONDS, 0, 2)
    assert clock.changed() == {START: [1, 0], START + 100 * SLOT_SECONDS: [0, 2]}


def test_what_was_saved_is_not_told_again(clock):
    """Until it grows, and then whole; a slot that ended as it was saved stays saved."""
    clock.add(START, 1, 0)
    clock.save()
    assert clock.changed() == {}
    clock.add(START + 1, 2, 0)
    assert clock.changed() == {START: [3, 0]}
    clock.save()
    clock.add(START + SLOT_SECONDS, 5, 0)
    assert clock.changed() == {START + SLOT_SECONDS: [5, 0]}


def test_a_slot_that_has_grown_since_it_was_read_is_told_again(clock):
    """Saving takes a while."""
    clock.add(START, 1, 0)
    told = clock.slots.changed(clock.values)
    clock.add(START + 1, 1, 1)
    assert told[START].tolist() == [1, 0]
    clock.slots.saved(told)
    assert clock.changed() == {START: [2, 1]}


def test_a_slot_that_ended_between_reading_and_saving_is_told_again_only_if_it_grew(clock):
    """The next slot is another."""
    clock.add(START, 1, 0)
    same = clock.slots.changed(clock.values)
    clock.add(START + SLOT_SECONDS, 1, 0)
    clock.slots.saved(same)
    assert clock.changed() == {START + SLOT_SECONDS: [1, 0]}
    grown = clock.slots.changed(clock.values)
    clock.add(START + SLOT_SECONDS + 1, 1, 0)
    clock.add(START + 2 * SLOT_SECONDS, 1, 0)
    clock.slots.saved(grown)
    assert clock.changed() == {START + SLOT_SECONDS: [2, 0], START + 2 * SLOT_SECONDS: [1, 0]}


def test_saving_what_is_saved_already_changes_nothing(clock):
    """Two that save at once."""
    clock.add(START, 1, 0)
    clock.add(START + SLOT_SECONDS, 1, 0)
    told = clock.slots.changed(clock.values)
    clock.slots.saved(told)
    clock.slots.saved(told)
    assert clock.changed() == {}


def test_a_clock_that_is_put_back_replaces_nothing(clock):
    """A slot that is entered again has another name, within the slot."""
    clock.add(START + SLOT_SECONDS, 1, 0)
    clock.save()
    clock.add(START, 2, 0)
    clock.add(START + SLOT_SECONDS + 5, 4, 0)
    assert clock.changed() == {START + 1: [2, 0], START + SLOT_SECONDS + 1: [4, 0]}
    clock.add(START + 2 * SLOT_SECONDS, 8, 0)
    clock.save()
    assert {name: added.tolist() for name, added in clock.records.items()} == {
        START + SLOT_SECONDS: [1, 0],
        START + 1: [2, 0],
        START + SLOT_SECONDS + 1: [4, 0],
        START + 2 * SLOT_SECONDS + 1: [8, 0],
    }


def test_a_number_that_drowns_others_hides_no_change(clock):
    """The sum of both would not tell that one of them grew."""
    clock.add(START, 1, 1e20)
    clock.save()
    clock.add(START + 1, 5000, 0)
    assert clock.changed() == {START: [5001, 1e20]}


@pytest.mark.parametrize("seed", range(30))
def test_the_records_have_everything_once_whatever_happens_when(seed):
    """A random walk of counting, reading, saving late, and clocks that jump: sums over slots are the whole."""
    dice, clock = random.Random(seed), Clock()
    now, waiting = float(START), []
    for _ in range(300):
        match dice.randrange(6):
            case 0 | 1:
                clock.add(now, dice.randrange(3), dice.choice([0, 0.1, 1e-9, 7.3]))
            case 2:
                now += dice.choice([1, 100, SLOT_SECONDS, 5 * SLOT_SECONDS, -SLOT_SECONDS])
            case 3:
                told = clock.slots.changed(clock.values)
                assert sum((added for added in told.values()), np.zeros(2)) @ [1, 1] <= clock.values.sum() + 1e-6
                waiting.append(told)
            case 4 if waiting:  # in the order of reading, as the records write
                told = waiting.pop(0)
                clock.records |= told
                clock.slots.saved(told)
            case 5:
                waiting = [] if dice.random() < 0.1 else waiting  # a save that failed
        known = clock.records | clock.slots.changed(clock.values)
        assert sum(known.values(), np.zeros(2)) == pytest.approx(clock.values)
    clock.save()
    assert sum(clock.records.values(), np.zeros(2)) == pytest.approx(clock.values)
    assert clock.changed() == {}
