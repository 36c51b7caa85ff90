"""The work of one scoring, in its thread and one that reads ahead; and how its end or what stopped it is told."""

import tempfile
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import IO

import pyarrow as pa
import structlog

from service.api.http_errors import INTERNAL_ERROR
from service.bulk import tables
from service.bulk.delimited import csv_batches
from service.bulk.pipe import Abandoned, Inflow, Outflow
from service.bulk.scorer import Scorer
from service.errors import BodyTooLarge, ModelFailed, NotOffered, PlumblineError
from service.runtime.repository import Model

log = structlog.get_logger(__name__)

# Keys of the metadata of the last batch, which has no rows: how many rows were answered, and what stopped them.
ROWS, ERROR = "plumbline.rows", "plumbline.error"
SPOOL_PIECE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Task:
    """What one request asks: `form` is that of its body, `passed_over` are columns that are no features."""

    model: Model
    form: str
    explain: bool
    passed_over: frozenset[str]
    max_batch_bytes: int
    max_spool_bytes: int
    count: Callable[[int], None]
    reader: Executor


def work(task: Task, inflow: Inflow, outflow: Outflow) -> None:
    """Answer what comes in until it ends, is wrong, or nobody is there any more. Raises nothing."""
    trouble: Exception | None = None
    try:
        trouble = _Writer(task, outflow).answer(inflow)
    except Abandoned:
        pass
    except PlumblineError as error:
        trouble = _alone(error)
    except Exception as error:  # noqa: BLE001 - the last resort of this thread; its message may quote values
        log.error("scoring failed", error=type(error).__name__, where=_frames(error))
        trouble = _alone(error)
    finally:
        outflow.end(trouble)


def told(error: Exception) -> str:
    """What a caller is told of `error`."""
    if isinstance(error, ModelFailed):
        return f"row {error.row}: {error}"
    return str(error) if isinstance(error, PlumblineError) else INTERNAL_ERROR


class _Writer:
    """Encodes answers; the first of them decides that the response is one."""

    def __init__(self, task: Task, outflow: Outflow) -> None:
        self._task = task
        self._outflow = outflow
        self._encoded = _Encoded()
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._scorer = Scorer(task.model, explain=task.explain, reader=task.reader)

    def answer(self, inflow: Inflow) -> Exception | None:
        """Score everything; the error if nothing was answered before it, else it is told in the stream."""
        ended: dict[str, str] = {}
        try:
            for _, answers in self._scorer.score(self._read(inflow)):
                self._write(answers)
                self._task.count(answers.num_rows)
        except Abandoned:
            raise
        except Exception as error:
            if self._writer is None:
                raise
            if not isinstance(error, PlumblineError):
                log.error("scoring failed", error=type(error).__name__, where=_frames(error))
            ended[ERROR] = told(_alone(error))
        ended[ROWS] = str(self._scorer.rows)
        self._write(self._scorer.answers.none, ended)
        assert self._writer is not None
        self._writer.close()
        self._flush()
        return None

    def _write(self, answers: pa.RecordBatch, about: dict[str, str] | None = None) -> None:
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._encoded, answers.schema)
        self._writer.write_batch(answers, custom_metadata=about)
        self._flush()

    def _flush(self) -> None:
        if self._encoded.parts:
            self._outflow.put(b"".join(self._encoded.parts))
            self._encoded.parts.clear()

    def _read(self, inflow: Inflow) -> Iterator[pa.RecordBatch]:
        task, columns = self._task, self._scorer.columns
        if task.form == "arrow":
            yield from tables.arrow_batches(
                inflow, columns, passed_over=task.passed_over, max_batch_bytes=task.max_batch_bytes
            )
        elif task.form == "csv":
            yield from csv_batches(inflow, columns, passed_over=task.passed_over)
        else:
            try:
                spooled = tempfile.TemporaryFile()  # noqa: SIM115 - closed below; it has no name from the start
            except OSError as error:
                raise NotOffered("body: Parquet needs a folder for temporary files (TMPDIR)") from error
            with spooled:
                _spool(inflow, spooled, most=task.max_spool_bytes)
                yield from tables.parquet_batches(
                    spooled, columns, passed_over=task.passed_over, max_batch_bytes=task.max_batch_bytes
                )


class _Encoded:
    """A file for Arrow's writer, which holds it unseen by the garbage collector: it must not lead to the writer."""

    closed = False

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """As a file."""
        self.parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """As a file."""

    def close(self) -> None:
        """As a file."""


def _spool(inflow: Inflow, file: IO[bytes], *, most: int) -> None:
    size = 0
    while piece := inflow.read(SPOOL_PIECE_BYTES):
        size += len(piece)
        if size > most:
            raise BodyTooLarge(f"body: at most {most} bytes of Parquet are accepted")
        file.write(piece)
    file.seek(0)


def _alone(error: Exception) -> Exception:
    """`error` without what it came through: those frames hold what was read, and some of them the error."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _frames(error: BaseException) -> list[str]:
    """Where `error` was raised, without its message, which may quote a value."""
    return [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)][-5:]
