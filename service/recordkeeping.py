"""The command line of the audit records: `export` to Parquet, `erase` people, `prune` what is past its retention."""

import math
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from service.errors import PlumblineError
from service.records import database
from service.records.export import Export
from service.records.forget import PRUNED_TOGETHER, Erase, Prune
from service.settings import Settings, read_settings

cli = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)

SECONDS_PER_DAY = 86_400
ERASED_TOGETHER = 500

Answer = TypeVar("Answer")
Moment = Annotated[str | None, typer.Option(help="UTC date or time, such as 2026-11-24 or 2026-11-24T08:00.")]


@cli.command()
def export(
    model: Annotated[str, typer.Argument(help="Name of a model.")],
    output: Annotated[Path, typer.Argument(help="The Parquet file to write.")],
    since: Moment = None,
    until: Moment = None,
) -> None:
    """Write a model's records to a Parquet file: decisions, groups, outcomes, and features where they were kept."""
    engine = _open()[1]
    start, end = _seconds(since, 0.0), _seconds(until, math.inf)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    try:
        wanted = Export(engine, model, since=start, until=min(end, time.time() + SECONDS_PER_DAY))
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("export", total=wanted.rows)
            wanted.write(output, lambda rows: progress.advance(bar, rows))
    except (PlumblineError, OSError) as error:
        _stop(str(error))
    typer.echo(f"{wanted.rows} predictions of {model} -> {output}")


@cli.command()
def erase(
    model: Annotated[str, typer.Argument(help="Name of a model.")],
    ids: Annotated[list[str], typer.Argument(help="Ids of predictions; - reads them from standard input, one a line.")],
) -> None:
    """Forget whom these predictions were about (right to erasure). They still count in every report."""
    wanted = [line for line in map(str.strip, sys.stdin) if line] if ids == ["-"] else ids
    engine = _open()[1]
    parts = [wanted[start : start + ERASED_TOGETHER] for start in range(0, len(wanted), ERASED_TOGETHER)]
    erased = sum(_write(engine, Erase(model, part).run) for part in parts)
    _overwrite(engine)
    typer.echo(f"{erased} of {len(wanted)} predictions erased")
    if erased < len(wanted):
        raise typer.Exit(1)


@cli.command()
def prune() -> None:
    """Delete records past PLUMBLINE_RETENTION_DAYS now; a running service does so every hour."""
    settings, engine = _open()
    not_before = time.time() - settings.retention_days * SECONDS_PER_DAY
    deleted, last = 0, PRUNED_TOGETHER
    while last == PRUNED_TOGETHER:
        last = _write(engine, Prune(not_before).run)
        deleted += last
    _overwrite(engine)
    typer.echo(f"{deleted} predictions older than {settings.retention_days} days deleted")


def _open() -> tuple[Settings, Engine]:
    """The database that the settings name, checked."""
    try:
        settings = read_settings()
        engine = database.open_existing(settings.records_url, sync=settings.audit_sync)
        database.prepare(engine, [])
    except PlumblineError as error:
        _stop(str(error))
    return settings, engine


def _write(engine: Engine, work: Callable[[Connection], Answer]) -> Answer:
    try:
        with database.writing(engine).begin() as connection:
            return work(connection)
    except DBAPIError as error:
        _stop(str(database.unavailable(error)))


def _overwrite(engine: Engine) -> None:
    """Have SQLite move its log into the database and empty it: until then it holds what was deleted."""
    if engine.dialect.name != "sqlite":
        return
    pooled = engine.raw_connection()  # a checkpoint is no transaction
    cursor = pooled.cursor()
    busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    pooled.close()
    if busy:
        typer.echo("the write-ahead log is in use and still holds what was deleted; run this again", err=True)


def _seconds(text: str | None, default: float) -> float:
    if text is None:
        return default
    if not re.fullmatch(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?)?Z?", text):
        raise typer.BadParameter("a date or time is expected, such as 2026-11-24 or 2026-11-24T08:00")
    try:
        return datetime.fromisoformat(text.rstrip("Z")).replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise typer.BadParameter("there is no such date or time") from error


def _stop(reason: str) -> NoReturn:
    typer.echo(f"plumbline: {reason}", err=True)
    sys.exit(2)
