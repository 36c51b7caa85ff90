"""`bench http`: requests per second and latency of this service beside the same model served the tutorial's way.

The service is measured as it comes, with audit records and the fairness monitor, then without records, then without
both. All servers are one process each, pinned to the same core, and wrk loads them in turns from another core: what
slows the machine down for a while hits all. Each is sent the model's first replay row in its own shape.
"""

import math
import os
import shutil
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import orjson
import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.errors import BenchError, MeasurementFailed, Unsuitable
from bench.load import Measurement, run_wrk, write_script
from bench.machine import ROOT, description
from bench.server import Server, free_port, running
from service.manifest import REPLAY_FILE
from service.runtime.repository import find_packages

REPOSITORY = ROOT / "models" / "repository"
WARM_UP_SECONDS = 1
# Largest difference of the two services' probabilities; the same graph on the same row, so only rounding in JSON.
TOLERANCE = 1e-6
# Wide enough for the table also where the output is not a terminal.
TABLE_WIDTH = 100

OURS, NO_RECORDS, NO_MONITOR, THEIRS = "plumbline", "no records", "no monitor", "tutorial"

Results = dict[tuple[int, str], list[Measurement]]


@dataclass(frozen=True, slots=True)
class Contender:
    """One of the services: how it is started, with which settings, where and what it is asked."""

    name: str
    command: list[str]
    url: str
    body: bytes
    settings: dict[str, str] = field(default_factory=dict)


def http(
    seconds: Annotated[int, typer.Option(min=1, max=600, help="Length of one run of wrk.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Runs of each kind, of which the median counts.")] = 3,
    connections: Annotated[str, typer.Option(help="Numbers of connections, separated by commas.")] = "1,32",
    model: Annotated[str, typer.Option(help="A model of models/repository with numeric features only.")] = "diagnosis",
) -> None:
    """Measure this service beside the tutorial's way of serving the same model, one core each."""
    counts = _counts(connections)
    console = Console(width=TABLE_WIDTH)
    try:
        server_core, load_core = cores()
        with TemporaryDirectory(prefix="plumbline-bench-") as folder:
            bench = _Bench(contenders(model), Path(folder), server_core=server_core, load_core=load_core)
            # Before the load, so that the load average is not its own doing.
            console.print(description(), highlight=False)
            results = bench.measure(counts, rounds=rounds, seconds=seconds)
    except BenchError as error:
        typer.echo(f"bench http: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    console.print(f"model: {model}; medians of {rounds} x {seconds} s; ratios: to the tutorial", highlight=False)
    console.print(_table(results, counts))
    console.print(_overheads(results, counts), highlight=False)


def _counts(connections: str) -> list[int]:
    parts = connections.split(",")
    if not all(part.strip().isdecimal() and 1 <= int(part) <= 10_000 for part in parts):
        raise typer.BadParameter("numbers from 1 to 10000 are expected, separated by commas", param_hint="connections")
    return [int(part) for part in parts]


def cores() -> tuple[int, int]:
    """A core for the server and another one for the load."""
    for tool in ("wrk", "taskset"):
        if shutil.which(tool) is None:
            raise Unsuitable(f"{tool} is needed and not installed; Debian: apt-get install wrk util-linux")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Unsuitable("two cores are needed, one for the server and one for the load; this process may use one")
    return cores[-1], cores[0]


def contenders(model: str) -> list[Contender]:
    """This service three ways and the tutorial's, for one row. Raises Unsuitable if the tutorial's cannot be."""
    folders = [folder for folder in find_packages(REPOSITORY) if folder.parent.name == model]
    if not folders or not (folders[-1] / REPLAY_FILE).exists():
        raise Unsuitable(f"{REPOSITORY} holds no model of this name with a {REPLAY_FILE}")
    with (folders[-1] / REPLAY_FILE).open("rb") as rows:
        instance = orjson.loads(next(rows))["instance"]
    if not all(isinstance(value, float | int) for value in instance.values()):
        raise Unsuitable("the tutorial's way is written for numbers; this model has other features")
    serve = [sys.executable, "-m", "service", "serve", "--models", str(REPOSITORY), "--port"]
    request = orjson.dumps({"instances": [instance]})

    def ours(name: str, command: Sequence[str], settings: dict[str, str] | None = None) -> Contender:
        port = free_port()
        url = f"http://127.0.0.1:{port}/v1/models/{model}:predict"
        return Contender(name, [*command, str(port)], url, request, settings or {})

    theirs = free_port()
    return [
        ours(OURS, serve),
        ours(NO_RECORDS, serve, {"PLUMBLINE_AUDIT": "off"}),
        ours(NO_MONITOR, [sys.executable, "-m", "bench.unwatched"]),
        Contender(
            THEIRS,
            [sys.executable, "-m", "bench.tutorial", str(folders[-1]), str(theirs)],
            f"http://127.0.0.1:{theirs}/predict",
            orjson.dumps(instance),
        ),
    ]


def running_contender(contender: Contender, folder: Path, *, core: int) -> AbstractContextManager[Server]:
    """The contender as a process on `core`, its log and records in `folder`."""
    settings = {
        "PLUMBLINE_DEVICE": "cpu",
        "PLUMBLINE_LOG_REQUESTS": "false",
        "PLUMBLINE_RECORDS_URL": f"sqlite:///{folder}/records.db",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    log = folder / f"{contender.name}.log"
    return running(contender.command, contender.url, core=core, log=log, settings=settings | contender.settings)


class _Bench:
    """The contenders, the two cores, and a folder for logs and scripts."""

    def __init__(self, contenders: Sequence[Contender], folder: Path, *, server_core: int, load_core: int) -> None:
        self._contenders = contenders
        self._folder = folder
        self._server_core = server_core
        self._load_core = load_core

    def measure(self, counts: Sequence[int], *, rounds: int, seconds: int) -> Results:
        """Start all, compare an answer, warm up, measure in turns. Raises MeasurementFailed."""
        results: Results = defaultdict(list)
        turns = [(count, contender) for _ in range(rounds) for count in counts for contender in self._contenders]
        with ExitStack() as stack:
            servers = {
                contender.name: stack.enter_context(running_contender(contender, self._folder, core=self._server_core))
                for contender in self._contenders
            }
            _compare([servers[contender.name].first_answer(contender.body) for contender in self._contenders])
            for contender in self._contenders:
                self._load(servers[contender.name], contender, max(counts), WARM_UP_SECONDS)
            # Drawn between the runs only: a thread that redraws would take its share of a core.
            progress = stack.enter_context(Progress(console=Console(stderr=True), auto_refresh=False, transient=True))
            bar = progress.add_task("", total=len(turns))
            for count, contender in turns:
                progress.update(bar, description=f"{contender.name}, {count} connections", refresh=True)
                results[count, contender.name].append(self._load(servers[contender.name], contender, count, seconds))
                progress.advance(bar)
        return results

    def _load(self, server: Server, contender: Contender, connections: int, seconds: int) -> Measurement:
        script = self._folder / f"{contender.name}.lua"
        write_script(script, contender.body)
        try:
            return run_wrk(server.url, script, connections=connections, seconds=seconds, core=self._load_core)
        except MeasurementFailed as error:
            raise MeasurementFailed(f"{contender.name}: {error}; {server.state()}") from error


def _compare(answers: Sequence[Any]) -> None:
    """All must say the same of the row: a fast wrong answer is no figure."""
    *own, theirs = answers
    for ours in (answer["predictions"][0] for answer in own):
        same = math.isclose(ours["probability"], theirs["probability"], rel_tol=TOLERANCE)
        if not same or str(ours["label"]) != theirs["label"]:
            raise MeasurementFailed("the services answer the same row differently")


def _table(results: Results, counts: Sequence[int]) -> Table:
    table = Table(box=MARKDOWN)
    table.add_column("connections", justify="right")
    table.add_column("service")
    for heading in ("requests/s", "(range)", "p50 ms", "p99 ms", "ratio", "p99 ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for count in counts:
        theirs = _median(results[count, THEIRS])
        for name in (OURS, NO_RECORDS, NO_MONITOR, THEIRS):
            median = _median(results[count, name])
            faster = median.requests_per_second / theirs.requests_per_second
            ratios = f"{faster:.2f}", f"{median.p99_seconds / theirs.p99_seconds:.2f}"
            table.add_row(*_cells(results, count, name), *(("1", "1") if name == THEIRS else ratios))
    return table


def _overheads(results: Results, counts: Sequence[int]) -> str:
    """What the monitor alone costs, and what the records cost, as a share of the time of a request.

    Medians over the rounds, within each of which the services run one right after the other.
    """

    def added(count: int, name: str, before: str) -> float:
        pairs = zip(results[count, before], results[count, name], strict=True)
        return 100 * (statistics.median(b.requests_per_second / a.requests_per_second for b, a in pairs) - 1)

    return "\n".join(
        f"{count} connections: the monitor alone adds {added(count, NO_RECORDS, NO_MONITOR):.1f} %, "
        f"records another {added(count, OURS, NO_RECORDS):.1f} %"
        for count in counts
    )


def _cells(results: Results, count: int, name: str) -> list[str]:
    runs = results[count, name]
    median, rates = _median(runs), [run.requests_per_second for run in runs]
    latencies = [f"{1000 * value:.2f}" for value in (median.p50_seconds, median.p99_seconds)]
    return [str(count), name, f"{median.requests_per_second:.0f}", f"{min(rates):.0f}-{max(rates):.0f}", *latencies]


def _median(runs: Sequence[Measurement]) -> Measurement:
    """Figure by figure."""
    return Measurement(
        statistics.median(run.requests_per_second for run in runs),
        statistics.median(run.p50_seconds for run in runs),
        statistics.median(run.p99_seconds for run in runs),
    )
