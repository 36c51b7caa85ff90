"""Counts by slots of ten minutes, for reports over a window: what was added in each, until the records have it."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SLOT_SECONDS = 600
# A week: what the records have not taken by then, or where there are none, is let go.
MOST_ENDED = 1008


class Slots:
    """Differences of growing counts `(size,)` between the beginnings of slots.

    A slot is named by its first second; one that a clock which was put back enters again, by a later one of its
    seconds, so that what is saved under a name is never replaced by less.
    """

    def __init__(self, size: int) -> None:
        self._start = 0  # of the slot
        self._name = 0
        self._times_put_back = 0
        self._before: Floats = np.zeros(size)
        self._ended: dict[int, Floats] = {}
        self._saved: Floats = np.zeros(size)

    def begin(self, values: Floats, seconds: float) -> None:
        """To be called before anything is added to `values`, with the time since 1970."""
        start = int(seconds // SLOT_SECONDS * SLOT_SECONDS)
        if start != self._start:
            now = values - self._before
            if not np.array_equal(now, self._saved):
                self._ended[self._name] = now
                if len(self._ended) > MOST_ENDED:
                    del self._ended[min(self._ended)]
            self._before = values.copy()
            self._saved = np.zeros(len(values))
            self._times_put_back += start < self._start
            self._start, self._name = start, start + self._times_put_back % SLOT_SECONDS

    def changed(self, values: Floats) -> dict[int, Floats]:
        """Name of a slot -> what was added in it, of the slots that the records do not have like this."""
        found = dict(self._ended)
        now = values - self._before
        if not np.array_equal(now, self._saved):
            found[self._name] = now
        return found

    def saved(self, slots: dict[int, Floats]) -> None:
        """Note what the records have by now; it may have grown since."""
        for name, added in slots.items():
            if name == self._name:
                self._saved = added
            elif name in self._ended and np.array_equal(self._ended[name], added):
                del self._ended[name]
