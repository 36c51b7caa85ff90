"""Counts by slots of ten minutes, for reports over a window: what was added in each, until the records have it."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SLOT_SECONDS = 600
# A week: what the records have not taken by then, or where there are none, is let go.
MOST_ENDED = 1008


class Slots:
    """Differences of growing counts `(size,)` between the beginnings of slots."""

    def __init__(self, size: int) -> None:
        self._start = 0
        self._before: Floats = np.zeros(size)
        self._ended: dict[int, Floats] = {}
        self._saved = 0.0

    def begin(self, values: Floats, seconds: float) -> None:
        """To be called before anything is added to `values`, with the time since 1970."""
        start = int(seconds // SLOT_SECONDS * SLOT_SECONDS)
        if start > self._start:  # a clock that is put back opens no slot again
            now = values - self._before
            if now.sum() != self._saved:
                self._ended[self._start] = now
                if len(self._ended) > MOST_ENDED:
                    del self._ended[min(self._ended)]
            self._before = values.copy()
            self._saved = 0.0
            self._start = start

    def changed(self, values: Floats) -> dict[int, Floats]:
        """First second of a slot -> what was added in it, of the slots that the records do not have like this."""
        found = dict(self._ended)
        now = values - self._before
        if now.sum() != self._saved:
            found[self._start] = now
        return found

    def saved(self, slots: dict[int, Floats]) -> None:
        """Note what the records have by now; it may have grown since."""
        for start, added in slots.items():
            if start == self._start:
                self._saved = added.sum()
            elif start in self._ended and self._ended[start].sum() == added.sum():
                del self._ended[start]
