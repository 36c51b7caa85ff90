"""Runs of a session on a device: input and outputs stay bound there, and batches come in few sizes.

A batch is padded up to the next power of two, its bucket, by repeating its last row, and the answer is cut back. So
the device's arena sees a few shapes, all of them at load, and a request never waits for memory to be found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import structlog
from numpy.typing import NDArray

from service.runtime.cuda import Device, is_out_of_memory

log = structlog.get_logger(__name__)

Floats = NDArray[np.float32]
Names = tuple[str, ...]


def bucket(rows: int) -> int:
    """The smallest power of two that holds `rows`; 1 for no row."""
    return 1 << max(0, rows - 1).bit_length()


def buckets(max_rows: int) -> list[int]:
    """Every bucket of batches of at most `max_rows`, the largest first."""
    return [1 << power for power in range(bucket(max_rows).bit_length() - 1, -1, -1)]


@dataclass(frozen=True, slots=True)
class _Slot:
    """What is kept for one bucket: rows on the host `(bucket, d)`, the same on the device, and outputs bound there."""

    host: Floats
    input: Any
    binding: Any


class BoundRun:
    """Called like `InferenceSession.run`, with one input `X` `(n, d)`, from any thread."""

    def __init__(self, session: Any, device: Device, *, max_rows: int, kind: str = "cuda") -> None:
        """`kind` is ONNX Runtime's name for the kind of device; more than `max_rows` rows become several runs."""
        self._session = session
        self._device = device
        self._kind = kind
        self._largest = bucket(max_rows)
        self._slots: dict[tuple[Names, int], _Slot] = {}

    def __call__(self, names: Sequence[str], feeds: dict[str, Floats]) -> list[Floats]:
        """The outputs `names`, arrays of the caller's own. Whatever ONNX Runtime raises passes through."""
        return self._device.run(lambda: self._in_parts(tuple(names), feeds["X"]))

    def _in_parts(self, names: Names, X: Floats) -> list[Floats]:
        starts = range(0, max(1, len(X)), self._largest)
        return _joined([self._sparing(names, X[start : start + self._largest]) for start in starts])

    def _sparing(self, names: Names, X: Floats) -> list[Floats]:
        """In one run; where the device has no memory for it, in two of half the size, and no further."""
        try:
            return self._in_bucket(names, X)
        except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
            if len(X) < 2 or not is_out_of_memory(error):
                raise
        log.warning("no device memory for a batch, which is run in halves", rows=len(X), device=self._device.index)
        self._slots.pop((names, bucket(len(X))), None)  # with what it holds of the memory
        half = bucket(len(X)) // 2
        return _joined([self._in_bucket(names, part) for part in (X[:half], X[half:])])

    def _in_bucket(self, names: Names, X: Floats) -> list[Floats]:
        rows, size = len(X), bucket(len(X))
        slot = self._slots.get((names, size)) or self._open_slot(names, size, X.shape[1])
        slot.host[:rows] = X
        if rows < size:
            slot.host[rows:] = X[-1] if rows else 0.0
        slot.input.update_inplace(slot.host)
        self._session.run_with_iobinding(slot.binding)
        slot.binding.synchronize_outputs()
        outputs: list[Floats] = slot.binding.copy_outputs_to_cpu()
        # A view of all rows would keep the padding alive, at most as large as the answer.
        return outputs if rows == size else [output[:rows] for output in outputs]

    def _open_slot(self, names: Names, size: int, width: int) -> _Slot:
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            [size, width], np.float32, self._kind, self._device.index
        )
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("X", value)
        for name in names:  # allocated by the first run; the same memory in every later one, as the shape stays
            binding.bind_output(name, self._kind, self._device.index)
        slot = self._slots[names, size] = _Slot(np.zeros((size, width), np.float32), value, binding)
        return slot


def _joined(parts: list[list[Floats]]) -> list[Floats]:
    return parts[0] if len(parts) == 1 else [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
