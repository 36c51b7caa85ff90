"""What a batcher measured of its requests and runs, added up since the model was loaded.

The quantities are those of Triton's statistics extension, so that its clients can read them; nothing is estimated.
"""

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Duration:
    """How often something was measured, and the sum."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float, *, count: int = 1) -> None:
        """`count` times took `seconds` each."""
        self.count += count
        self.ns += count * int(seconds * 1e9)


@dataclass(slots=True)
class Compute:
    """The three parts of computing: joining rows, the run itself, taking its outputs apart."""

    input: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class Statistics:
    """Requests wait in `queue`, end in `success` or `fail` (both from arrival), and each took part in `compute`.

    `inference_count` counts answered rows, `execution_count` runs, `by_rows` what runs of so many rows took.
    """

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute: Compute = field(default_factory=Compute)
    by_rows: dict[int, Compute] = field(default_factory=dict)
    inference_count: int = 0
    execution_count: int = 0
    last_inference_ms: int = 0

    def ran(self, rows: int, seconds: float) -> None:
        """The model ran once, on `rows` rows."""
        self.execution_count += 1
        self._of(rows).infer.add(seconds)

    def computed(self, requests: int, rows: int | None, *, joined: float, infer: float, parted: float) -> None:
        """All of one batch of `requests`: seconds to join, run and part it. `rows` if it was one run."""
        for duration, seconds in (
            (self.compute.input, joined),
            (self.compute.infer, infer),
            (self.compute.output, parted),
        ):
            duration.add(seconds, count=requests)
        if rows is not None:
            self._of(rows).input.add(joined)
            self._of(rows).output.add(parted)

    def answered(self, rows: int, seconds: float) -> None:
        """A request of `rows` rows got its answer, `seconds` after it came."""
        self.success.add(seconds)
        self.inference_count += rows
        self.last_inference_ms = time.time_ns() // 1_000_000

    def _of(self, rows: int) -> Compute:
        found = self.by_rows.get(rows)
        if found is None:
            found = self.by_rows[rows] = Compute()
        return found
