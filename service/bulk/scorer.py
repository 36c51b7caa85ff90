"""Record batches of features -> record batches of answers, beside the batcher that single requests share.

One scorer belongs to one stream. It has two threads: the caller's runs the model, and one reads and checks what comes
next. Runs are short, so that a core is soon free for others; a bad row ends the stream after every row before it was
answered.
"""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Executor

import numpy as np
import pyarrow as pa
import structlog
from numpy.typing import NDArray

from service.api.explaining import trustworthy
from service.bulk.ahead import one_ahead
from service.bulk.answers import Answers
from service.bulk.columns import Columns, Filled
from service.errors import ModelFailed, NotOffered
from service.runtime.explainer import Attribution
from service.runtime.repository import Model

log = structlog.get_logger(__name__)

Floats = NDArray[np.float32]

# One run: about a millisecond of a small network, as each run ends with a wait for the interpreter's lock; fewer wide
# ones, as what a graph takes of memory grows with them.
RUN_ROWS, RUN_BYTES = 16_384, 2 * 2**20
# Runs that are answered together; more make what two threads hand each other larger, and little faster.
RUNS = 2
EXPLAINED_ROWS = 1024


class Scorer:
    """Scores the rows of one stream, which are counted from `first_row`."""

    def __init__(self, model: Model, *, explain: bool, reader: Executor, first_row: int = 0) -> None:
        """`reader` has a thread to read and check in. Raises NotOffered if it is to explain and cannot."""
        if explain and model.explainer is None:
            raise NotOffered("explain: this model package has no explainer")
        self._model = model
        self._explain = explain
        self._reader = reader
        self.columns = Columns(model.manifest)
        self.answers = Answers(model.manifest, explained=explain)
        self.rows = self._first_row = first_row
        self._run_rows = max(1, min(RUN_ROWS, RUN_BYTES // (4 * len(model.manifest.features))))

    def score(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
        """(rows, their answers), some rows of one batch at a time, in order.

        Raises InvalidRow for a value that does not fit, ModelFailed, whose `row` is the stream's, where the model
        fails; either after the rows before it, unless it is among the rows that would be the first answered together.
        """
        for rows, filled in one_ahead(self._checked(batches), self._reader):
            yield from self._score(rows, filled)

    def _checked(self, batches: Iterable[pa.RecordBatch]) -> Generator[tuple[pa.RecordBatch, Filled]]:
        """Rows to answer together, up to the first bad row; runs in the other thread."""
        together = EXPLAINED_ROWS if self._explain else RUNS * self._run_rows
        first_row = self._first_row
        for batch in batches:
            places = [batch.schema.names.index(name) for name in self._model.manifest.feature_names]
            for rows, filled in self.columns.fill(batch, places, first_row=first_row, together=together):
                yield rows, filled
                if filled.problem is not None:
                    return
            first_row += batch.num_rows

    def _score(self, rows: pa.RecordBatch, filled: Filled) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
        X, problem = filled
        probabilities: list[Floats] = []
        attributions: list[Attribution | None] = []
        failed: ModelFailed | None = None
        answered = 0
        for start in range(0, len(X), self._run_rows):
            margin, probability, failed = self._run(X[start : start + self._run_rows], answered)
            probabilities.append(probability)
            if self._explain:
                explained = X[answered : answered + len(margin)]
                attributions += [
                    self._attribution(x[np.newaxis], row) for x, row in zip(explained, margin, strict=True)
                ]
            answered += len(probability)
            if failed is not None:
                break
        if (failed is not None or problem is not None) and self.rows == self._first_row:
            raise failed or problem  # type: ignore[misc]  # nothing was answered yet: the request as a whole is refused
        if answered:
            probability = probabilities[0] if len(probabilities) == 1 else np.concatenate(probabilities)
            answers = self.answers.batch(probability, attributions if self._explain else None)
            self.rows += answered
            yield rows.slice(0, answered), answers
        if failed is not None or problem is not None:
            raise failed or problem  # type: ignore[misc]

    def _run(self, X: Floats, answered: int) -> tuple[Floats, Floats, ModelFailed | None]:
        """Margin and probability of the rows before the first that fails, and that failure."""
        try:
            margin, probability = self._model.session.run(X)
            if not len(margin) == len(probability) == len(X):
                raise ValueError("a run must answer every row")
        except Exception:  # noqa: BLE001 - ONNX Runtime's exceptions share no base class; their messages may quote values
            return self._run_singly(X, answered)
        # The sums are finite if all numbers are, but for overflow, which the second look clears up.
        if np.isfinite(margin.sum()) and np.isfinite(probability.sum()):
            return margin, probability, None
        finite = np.isfinite(margin).all(axis=1) & np.isfinite(probability).all(axis=1)
        if finite.all():
            return margin, probability, None
        row = int(finite.argmin())
        failed = ModelFailed("the model's answer for this row is not finite", row=self.rows + answered + row)
        return margin[:row], probability[:row], failed

    def _run_singly(self, X: Floats, answered: int) -> tuple[Floats, Floats, ModelFailed | None]:
        margins, probabilities = [], []
        failed = None
        for row in range(len(X)):
            try:
                margin, probability = self._model.session.run(X[row : row + 1])
                if not len(margin) == len(probability) == 1 or not np.isfinite(margin).all():
                    raise ValueError("a run must answer every row")
            except Exception:  # noqa: BLE001 - as in _run
                failed = ModelFailed("the model failed on this row", row=self.rows + answered + row)
                break
            margins.append(margin)
            probabilities.append(probability)
        classes = len(self._model.manifest.classes)
        if not margins:
            return np.zeros((0, 1), np.float32), np.zeros((0, classes), np.float32), failed
        return np.concatenate(margins), np.concatenate(probabilities), failed

    def _attribution(self, X: Floats, margin: Floats) -> Attribution | None:
        """Of one row `X` `(1, d)`, as V1 explains it; None where it fails or does not add up to `margin` `(C,)`."""
        assert self._model.explainer is not None
        try:
            attribution = self._model.explainer.explain(X)
        except Exception as error:  # noqa: BLE001 - as in _run; a failed explanation must not fail its prediction
            log.error("explanation failed", error=type(error).__name__)
            return None
        if not trustworthy(attribution, margin, self._model.session.device):
            log.error("explanation refused", model=self._model.key, residual=attribution.additivity_residual)
            return None
        return attribution
