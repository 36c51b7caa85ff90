"""The command `score`: a file of rows in, a file of answers out, without a server."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from service.errors import ConfigurationError, ModelFailed, PlumblineError, RequestError, UnknownModel
from service.logs import configure_logs
from service.manifest import MODEL_FILE
from service.runtime.repository import Model, Runtime, find_packages, load_package
from service.runtime.threads import available_cpus
from service.settings import Settings, read_settings

if TYPE_CHECKING:
    import pyarrow as pa

    from service.bulk.columns import Columns

INPUTS = (".parquet", ".csv", ".arrow", ".arrows")
# A part is what an interruption may cost.
PART_ROWS, PART_SECONDS = 2**20, 5.0
# For a file of one's own only a bound against what cannot be meant.
MAX_BATCH_BYTES = 2**30


def score(
    model: Annotated[str, typer.Argument(help="Name of a model of the repository, or NAME/VERSION.")],
    rows: Annotated[Path, typer.Argument(help="Rows to score: .parquet, .csv, .arrow or .arrows.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where answers go: by suffix, as the input.")],
    explain: Annotated[bool, typer.Option("--explain", help="Add SHAP values to every row.")] = False,
    keep: Annotated[str, typer.Option(help="Columns to repeat beside the answers, separated by commas.")] = "",
    ignore: Annotated[str, typer.Option(help="Columns that are no features, separated by commas.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run was.")] = False,
    part_rows: Annotated[int, typer.Option(min=1, help="Rows that an interruption may cost.")] = PART_ROWS,
    models: Annotated[Path | None, typer.Option("--models", help="Folder of model packages, NAME/VERSION/.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda:N.")] = None,
) -> None:
    """Score a file. Exit code 1, with row and column, for a row that does not fit; then nothing is written."""
    configure_logs(level="error", form="console")
    try:
        _check_pyarrow()
        for path, suffixes in ((rows, INPUTS), (output, INPUTS)):
            if path.suffix not in suffixes:
                raise ConfigurationError(f"{path.name}: one of {', '.join(suffixes)} is expected")
        settings = read_settings(models=models, device=device)
        job = _Job(_load(settings, model), rows, output, explain=explain, kept=_names(keep), ignored=_names(ignore))
        job.run(resume=resume, part_rows=part_rows)
    except (RequestError, ModelFailed) as error:
        reason = f"row {error.row}: {error}" if isinstance(error, ModelFailed) else str(error)
        typer.echo(f"plumbline: {reason}", err=True)
        raise typer.Exit(1) from None
    except (PlumblineError, OSError) as error:
        _stop(str(error))


class _Job:
    """One file, one model, and what is to stand in the output."""

    def __init__(
        self, model: Model, rows: Path, output: Path, *, explain: bool, kept: list[str], ignored: list[str]
    ) -> None:
        self._model = model
        self._rows = rows
        self._output = output
        self._explain = explain
        self._kept = kept
        self._ignored = ignored

    def run(self, *, resume: bool, part_rows: int) -> None:
        """Score what is not scored yet, then write the output."""
        from service.bulk.parts import Parts
        from service.bulk.scorer import Scorer

        parts = Parts(self._output, self._about(), resume=resume)
        reader = ThreadPoolExecutor(1)
        scorer = Scorer(self._model, explain=self._explain, reader=reader, first_row=parts.rows)
        total = _count(self._rows)
        columns = SpinnerColumn(), TextColumn("rows"), MofNCompleteColumn(), TimeElapsedColumn()
        try:
            with Progress(*columns, console=Console(stderr=True)) as progress, self._rows.open("rb") as file:
                bar = progress.add_task("", total=total, completed=parts.rows)
                batches = _Noting(self._read(file, scorer.columns))
                pending: list[pa.RecordBatch] = []
                begun = time.monotonic()
                for scored, answers in scorer.score(_skip(batches, parts.rows)):
                    pending.append(self._beside(scored, answers))
                    progress.update(bar, completed=scorer.rows)
                    full = sum(batch.num_rows for batch in pending) >= part_rows
                    if full or time.monotonic() - begun >= PART_SECONDS:
                        parts.add(pending)
                        pending, begun = [], time.monotonic()
                if pending:
                    parts.add(pending)
            parts.finish(self._schema(scorer.answers.schema, batches.schema))
        except (RequestError, ModelFailed):
            parts.remove()
            raise
        typer.echo(f"{parts.rows} rows scored by {self._model.key}: {self._output}")

    def _about(self) -> dict[str, Any]:
        """What has to be the same when a run is resumed."""
        stat = self._rows.stat()
        return {
            "rows": [str(self._rows.resolve()), stat.st_size, stat.st_mtime_ns],
            "model": [self._model.key, self._model.manifest.digests[MODEL_FILE]],
            "explain": self._explain,
            "keep": self._kept,
            "ignore": self._ignored,
        }

    def _read(self, file: Any, columns: "Columns") -> "Iterator[pa.RecordBatch]":
        from service.bulk import delimited, tables
        from service.bulk.messages import FILE_MAGIC

        options: dict[str, Any] = {"passed_over": {*self._ignored, *self._kept}, "kept": self._kept}
        if self._rows.suffix == ".csv":
            return delimited.csv_batches(file, columns, **options)
        if self._rows.suffix == ".parquet":
            return tables.parquet_batches(file, columns, max_batch_bytes=MAX_BATCH_BYTES, **options)
        begins = file.read(len(FILE_MAGIC))
        file.seek(0)
        if begins == FILE_MAGIC:
            return tables.arrow_file_batches(file, columns, **options)
        return tables.arrow_batches(file, columns, max_batch_bytes=MAX_BATCH_BYTES, **options)

    def _beside(self, rows: "pa.RecordBatch", answers: "pa.RecordBatch") -> "pa.RecordBatch":
        import pyarrow as pa

        schema = self._schema(answers.schema, rows.schema)
        columns = [rows.column(rows.schema.names.index(name)) for name in self._kept]
        return pa.RecordBatch.from_arrays([*columns, *answers.columns], schema=schema)

    def _schema(self, answers: "pa.Schema", rows: "pa.Schema | None") -> "pa.Schema":
        import pyarrow as pa

        if twice := set(self._kept) & set(answers.names):
            raise ConfigurationError(f"--keep: the answers have a column {min(twice)} of their own")
        kept = [] if rows is None else [rows.field(name) for name in self._kept]
        return pa.schema([*kept, *answers], metadata=answers.metadata)


class _Noting:
    """Batches as they come, and the schema of the first."""

    def __init__(self, batches: "Iterator[pa.RecordBatch]") -> None:
        self._batches = batches
        self.schema: pa.Schema | None = None

    def __iter__(self) -> "Iterator[pa.RecordBatch]":
        for batch in self._batches:
            self.schema = batch.schema
            yield batch


def _skip(batches: "_Noting", rows: int) -> "Iterator[pa.RecordBatch]":
    """`batches` without their first `rows` rows."""
    for batch in batches:
        if rows < batch.num_rows:
            yield batch.slice(rows)
        rows = max(0, rows - batch.num_rows)


def _count(rows: Path) -> int | None:
    """How many rows a Parquet file says it has; None for the others, which do not say."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if rows.suffix != ".parquet":
        return None
    try:
        return int(pq.read_metadata(rows).num_rows)
    except pa.ArrowException:
        return None


def _load(settings: Settings, name: str) -> Model:
    runtime = Runtime(device=settings.device, threads=settings.threads or available_cpus())
    wanted, _, version = name.partition("/")
    folders = [folder for folder in find_packages(settings.models) if folder.parent.name == wanted]
    if version:
        folders = [folder for folder in folders if folder.name == version]
    if not folders:
        raise UnknownModel(f"{settings.models} has no model {name}")
    return load_package(folders[-1], runtime)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _check_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ConfigurationError("score needs the extra plumbline[bulk], not installed here") from error


def _stop(reason: str) -> NoReturn:
    typer.echo(f"plumbline: {reason}", err=True)
    sys.exit(2)
