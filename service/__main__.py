"""The command line: `serve` answers requests, `check` validates a model repository, `score` scores a file,
`replay` sends demo traffic, `records` keeps the audit log, `drift-job` reads what drift it shows.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from service import recordkeeping
from service.app import create_app
from service.driftjob.command import drift_job
from service.errors import ConfigurationError, PackageError, PlumblineError, ProviderError
from service.logs import configure_logs
from service.monitor.exposition import check_series
from service.replay import Replay, Scenario
from service.runtime.repository import Runtime, find_packages, load_package
from service.runtime.session import check_one_runtime
from service.runtime.threads import available_cpus
from service.scoring import score
from service.server import Server
from service.settings import Settings, read_settings

cli = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
cli.add_typer(recordkeeping.cli, name="records")
cli.command()(drift_job)
cli.command()(score)

Models = Annotated[Path | None, typer.Option("--models", help="Folder of model packages, NAME/VERSION/.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda:N.")]


@cli.command()
def serve(
    models: Models = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    device: Device = None,
) -> None:
    """Serve every package of a repository over HTTP. Each flag is also a setting, PLUMBLINE_MODELS and so on."""
    settings = _settings(models=models, host=host, port=port, device=device)
    configure_logs(level=settings.log_level, form=settings.log_format)
    _start_or_explain(settings)


def _start_or_explain(settings: Settings) -> None:
    try:
        find_packages(settings.models)
        check_one_runtime()
        app = create_app(settings)
        app.state.service.check_records()
    except PlumblineError as error:
        _stop(str(error))
    server = Server(app, settings)
    server.run()
    if not server.started:
        raise typer.Exit(1)


@cli.command()
def check(repository: Annotated[Path, typer.Argument(help="Folder of model packages.")], device: Device = None) -> None:
    """Load every package as the service would. Exit code 1, with the reasons, if one of them is refused."""
    settings = _settings(device=device)
    configure_logs(level="error", form="console")
    runtime = Runtime(
        device=settings.device,
        threads=settings.threads or available_cpus(),
        max_batch_rows=settings.max_batch_rows,
        gpu_memory_bytes=settings.gpu_memory_bytes,
    )
    try:
        folders = find_packages(repository)
    except PackageError as error:
        _stop(str(error))
    for folder in sorted(repository.glob("*/*")):
        if folder.is_dir() and folder not in folders:
            typer.echo(f"ignored  {folder.parent.name}/{folder.name}: not NAME/VERSION with a whole number as version")
    refused = 0
    for folder in folders:
        key = f"{folder.parent.name}/{folder.name}"
        try:
            model = load_package(folder, runtime, accept=partial(check_series, most=settings.max_series))
        except (PackageError, ProviderError) as error:
            refused += 1
            typer.echo(f"refused  {key}: {error}")
            continue
        features = len(model.manifest.features)
        typer.echo(f"ok       {key}: {features} features, {model.manifest.task}, {model.session.provider}")
    if not folders:
        _stop(f"{repository}: there is no package NAME/VERSION/ in it")
    if refused:
        raise typer.Exit(1)


@cli.command()
def replay(
    model: Annotated[str, typer.Argument(help="Name of a model of the repository.")],
    models: Models = None,
    url: Annotated[str, typer.Option(help="Address of the running service.")] = "http://127.0.0.1:8000",
    rate: Annotated[float, typer.Option(min=0.1, max=10_000, help="Requests per second.")] = 50.0,
    count: Annotated[int, typer.Option(min=0, help="Requests to send; 0 goes on until interrupted.")] = 1000,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Rows in each request.")] = 1,
    outcomes: Annotated[float, typer.Option(min=0, max=1, help="Share of predictions whose truth is posted.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the order, and of groups that are drawn.")] = 0,
    shift: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FEATURE=CHANGE", help="Change a numeric feature: 1.5 multiplies it, +3 adds. Repeatable."
        ),
    ] = None,
    bias: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SENSITIVE_FEATURE=GROUP",
            help="Give this group rows whose true label is unfavourable, for favourable ones of its own. Repeatable.",
        ),
    ] = None,
    after: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="How long rows are sent as they are first.")
    ] = None,
    lasting: Annotated[
        float | None, typer.Option("--for", min=0, metavar="SECONDS", help="How long shift and bias then hold.")
    ] = None,
) -> None:
    """Post a model's unseen rows, with their sensitive features, to a running service at a steady rate."""
    settings = _settings(models=models)
    try:
        client = Replay.of_package(settings.models, model, url=url, seed=seed)
        scenario = Scenario.parse(client.manifest, shifts=shift or (), biases=bias or (), after=after, lasting=lasting)
    except PlumblineError as error:
        _stop(str(error))
    typer.echo(client.announcement)
    outcome = client.run(scenario, rate=rate, count=count, batch=batch, outcomes=outcomes)
    typer.echo(outcome.summary)
    if outcome.failed:
        raise typer.Exit(1)


def _settings(**flags: object) -> Settings:
    try:
        return read_settings(**flags)
    except ConfigurationError as error:
        _stop(str(error))


def _stop(reason: str) -> NoReturn:
    typer.echo(f"plumbline: {reason}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    cli()
