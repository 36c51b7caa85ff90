"""The command line of the drift job."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from sqlalchemy import Engine

from service.api.reports import utc, window_seconds
from service.errors import ConfigurationError, PlumblineError
from service.records import database
from service.settings import Settings, read_settings

SECONDS_PER_DAY = 86_400
SUFFIX = ".prom"
DEFAULT_DAYS = 30


def drift_job(
    models: Annotated[Path | None, typer.Option("--models", help="Folder of model packages, NAME/VERSION/.")] = None,
    window: Annotated[
        str | None,
        typer.Option(help="Outcomes that arrived in it; hours or days.", show_default="30d, if kept so long"),
    ] = None,
    recent: Annotated[str, typer.Option(help="Predictions to hold against the reference; hours or days.")] = "24h",
    rows: Annotated[int, typer.Option(min=200, max=20_000, help="Recent predictions to draw, at most.")] = 2000,
    outcomes: Annotated[int, typer.Option(min=300, max=1_000_000, help="Newest outcomes to read, at most.")] = 200_000,
    permutations: Annotated[int, typer.Option(min=99, max=9999, help="Permutations behind a p-value.")] = 999,
    delta: Annotated[float, typer.Option(min=1e-9, max=0.5, help="ADWIN's, for all groups together.")] = 0.002,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the draw, the classifier, the permutations.")] = 0,
    output: Annotated[
        Path | None, typer.Option(metavar=f"FILE{SUFFIX}", help="Write metrics for node_exporter there instead.")
    ] = None,
) -> None:
    """Say what counters cannot, from the records: are recent rows told from the reference, did the error rate change?

    For one place, such as a CronJob, not for each replica. Only reads. Prints JSON. Needs the extra plumbline[drift].
    """
    if output is not None and output.suffix != SUFFIX:
        raise typer.BadParameter(f"node_exporter reads files that end in {SUFFIX}", param_hint="--output")
    try:
        # Before anything is read: libraries of an extra.
        from service.driftjob.exposition import as_json, write_metrics
        from service.driftjob.report import Question, verdicts
    except ImportError as error:
        _stop(f"drift-job needs the extra plumbline[drift], not installed here ({error.name or error})")
    now = time.time()
    try:
        settings = read_settings(models=models)
        window = window or f"{min(DEFAULT_DAYS, settings.retention_days)}d"
        question = Question(
            since=now - _seconds("--window", window, settings),
            recent_since=now - _seconds("--recent", recent, settings),
            until=now,
            horizon_seconds=settings.outcome_horizon_days * SECONDS_PER_DAY,
            rows=rows,
            outcomes=outcomes,
            permutations=permutations,
            delta=delta,
            seed=seed,
        )
        found = list(verdicts(_open(settings), settings.models, question))
        if output is not None:
            write_metrics(found, output, now=time.time())
    except (PlumblineError, OSError) as error:
        _stop(str(error))
    if output is not None:
        typer.echo(f"{len(found)} model versions -> {output}")
        return
    options = {"window": window, "recent": recent, "permutations": permutations, "delta": delta, "seed": seed}
    typer.echo(json.dumps({"made_at": utc(now), **options, "models": as_json(found)}, indent=1))


def _seconds(option: str, window: str, settings: Settings) -> float:
    try:
        return window_seconds(window, retention_days=settings.retention_days)
    except PlumblineError as error:
        raise ConfigurationError(option + str(error).removeprefix("window")) from error


def _open(settings: Settings) -> Engine:
    """The database that the settings name, of a release whose records can be read."""
    engine = database.open_existing(settings.records_url, sync=settings.audit_sync)
    database.check(engine)
    return engine


def _stop(reason: str) -> NoReturn:
    typer.echo(f"plumbline: {reason}", err=True)
    sys.exit(2)
