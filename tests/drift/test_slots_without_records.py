"""What is held for the records is bounded, also where there are none or where they are away for long."""

import numpy as np

from service.monitor.slots import MOST_ENDED, SLOT_SECONDS, Slots


def test_slots_that_nobody_saves_are_let_go() -> None:
    """The oldest first; the newest are all there when the records are back."""
    slots, values = Slots(2), np.zeros(2)
    for number in range(1, MOST_ENDED + 100):
        slots.begin(values, number * SLOT_SECONDS)
        values += 1
    held = slots.changed(values)
    assert list(held) == [number * SLOT_SECONDS for number in range(99, MOST_ENDED + 100)]
    assert all(counts.tolist() == [1, 1] for counts in held.values())
    slots.saved(held)
    assert slots.changed(values) == {}
    assert MOST_ENDED * SLOT_SECONDS == 7 * 86_400
