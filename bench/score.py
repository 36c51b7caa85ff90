"""`bench score`: rows per second through `:score`, beside the bare `session.run` of the same graph in the same run.

The server is one process with one thread per run. The client sends an Arrow stream of float32 columns, prepared in a
file in memory, with `sendfile` and reads the answer meanwhile, so that it takes little from the server. They share the
machine's cores; what each of them used is printed.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Annotated

import httpx
import numpy as np
import onnxruntime
import orjson
import pyarrow as pa
import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from bench.errors import BenchError, MeasurementFailed, Unsuitable
from bench.http import REPOSITORY, TABLE_WIDTH
from bench.machine import description
from bench.server import free_port, running
from service.manifest import MODEL_FILE, REPLAY_FILE
from service.runtime.repository import find_packages

BATCH_ROWS = 65_536
BARE_BATCHES = (256, 1024, 4096, 8192, 16_384, 65_536)
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None
SERVER = {"PLUMBLINE_DEVICE": "cpu", "PLUMBLINE_THREADS": "1", "PLUMBLINE_AUDIT": "off", "ORT_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True, slots=True)
class Scoring:
    """One request: seconds, CPU seconds of both sides, the answer's body."""

    seconds: float
    server_cpu: float
    client_cpu: float
    body: bytes


def score(
    rows: Annotated[int, typer.Option(min=1000, help="Rows of one request.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Requests, of which the median and the best count.")] = 9,
    model: Annotated[str, typer.Option(help="A model of models/repository with numeric features only.")] = "diagnosis",
) -> None:
    """Measure bulk scoring beside bare session.run, its memory, and what it does to other requests."""
    console = Console(width=TABLE_WIDTH)
    try:
        with TemporaryDirectory(prefix="plumbline-bench-", dir=FOLDER) as folder:
            console.print(description(), highlight=False)
            _measure(Path(folder), model, rows, rounds, console)
    except BenchError as error:
        typer.echo(f"bench score: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


def _measure(folder: Path, model: str, rows: int, rounds: int, console: Console) -> None:
    packages = [package for package in find_packages(REPOSITORY) if package.parent.name == model]
    if not packages or not (packages[-1] / REPLAY_FILE).exists():
        raise Unsuitable(f"{REPOSITORY} holds no model of this name with a {REPLAY_FILE}")
    names, X = _rows(packages[-1] / REPLAY_FILE, rows)
    good, bad = folder / "good.arrows", folder / "bad.arrows"
    bad_row = rows * 7 // 10
    _write(good, names, X)
    spoilt = X.copy()
    spoilt[bad_row, 0] = np.nan
    _write(bad, names, spoilt)
    bare = _Bare(packages[-1] / MODEL_FILE, X)
    with _served(folder, model) as (port, pid):
        path = f"/v1/models/{model}"
        before = _memory(pid, "VmRSS")
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the high water mark begins here
        _exchange(port, f"{path}:score", good, pid)  # imports and warms up
        results, rates = [], [bare.best()]
        for _ in range(rounds):
            results.append(_exchange(port, f"{path}:score", good, pid))
            rates.append(bare.best())
        peak = _memory(pid, "VmHWM")
        scored = [rows / result.seconds for result in results]
        answer = pa.ipc.open_stream(results[0].body).read_all()
        if answer.num_rows != rows:
            raise MeasurementFailed(f"{answer.num_rows} of {rows} rows were answered")
        console.print(_table(rows, rates, scored, results))
        console.print(
            f"ratio {median(_ratios(scored, rates)):.2f}, of the best {max(scored) / max(rates):.2f}; "
            f"the server grew by {(peak - before) / 2**20:.0f} MB at most, pyarrow's import included",
            highlight=False,
        )
        console.print(_told(_exchange(port, f"{path}:score", bad, pid).body, bad_row), highlight=False)
        alone, beside = _latencies(port, path, names, X, good, pid)
        for what, found in (("alone", alone), ("beside scoring", beside)):
            cuts = quantiles(found, n=100)
            console.print(f"single predictions {what}: p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms", highlight=False)


def _ratios(scored: list[float], rates: list[float]) -> list[float]:
    """Of each of `scored` to the mean of what was measured just before and after it: a busy machine slows all three."""
    return [2 * rate / (before + after) for rate, before, after in zip(scored, rates, rates[1:], strict=False)]


def _rows(replay: Path, rows: int) -> tuple[list[str], np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    with replay.open("rb") as lines:
        instances = [orjson.loads(line)["instance"] for line in lines]
    names = list(instances[0])
    try:
        known = np.array([[instance[name] for name in names] for instance in instances], np.float32)
    except (TypeError, ValueError) as error:
        raise Unsuitable("the model has features that are not numbers") from error
    return names, known[np.random.default_rng(7).integers(0, len(known), rows)]


def _write(path: Path, names: list[str], X: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    table = pa.table({name: np.ascontiguousarray(X[:, column]) for column, name in enumerate(names)})
    with pa.ipc.new_stream(path, table.schema) as writer:
        # Two batches at least: a bad row in the first would refuse the request as a whole.
        writer.write_table(table, max_chunksize=min(BATCH_ROWS, len(X) // 2))


class _Bare:
    """The graph alone, in this process, rows ready in memory."""

    def __init__(self, graph: Path, X: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._X = X
        self.batch = max(BARE_BATCHES, key=self.rate)

    def rate(self, batch: int) -> float:
        """Rows per second in runs of `batch` rows."""
        start = time.perf_counter()
        for first in range(0, len(self._X), batch):
            self._session.run(["margin", "probability"], {"X": self._X[first : first + batch]})
        return len(self._X) / (time.perf_counter() - start)

    def best(self) -> float:
        """With the batch size that was best at the beginning."""
        return self.rate(self.batch)


@contextmanager
def _served(folder: Path, model: str) -> Iterator[tuple[int, int]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/models/{model}:predict"
    command = [sys.executable, "-m", "service", "serve", "--models", str(REPOSITORY), "--port", str(port)]
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    with running(command, url, core=cores, log=folder / "server.log", settings=SERVER) as server:
        end = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", trust_env=False).raise_for_status()
                break
            except httpx.HTTPError as error:
                if time.monotonic() > end:
                    raise MeasurementFailed(server.state()) from error
                time.sleep(0.1)
        yield port, server.pid


def _exchange(port: int, path: str, rows: Path, pid: int) -> Scoring:
    size = rows.stat().st_size
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/vnd.apache.arrow.stream\r\n"
        f"content-length: {size}\r\nconnection: close\r\n\r\n"
    )
    received: list[bytes] = []
    with socket.create_connection(("127.0.0.1", port)) as connection, rows.open("rb") as file:

        def read() -> None:
            while data := connection.recv(2**18):
                received.append(data)

        reader = threading.Thread(target=read)
        server_cpu, client_cpu, start = _cpu(pid), time.process_time(), time.perf_counter()
        connection.sendall(head.encode())
        reader.start()
        sent = 0
        while sent < size:
            sent += os.sendfile(connection.fileno(), file.fileno(), sent, size - sent)
        reader.join()
        seconds = time.perf_counter() - start
    answer = b"".join(received)
    status, _, _ = answer.partition(b"\r\n")
    if b" 200 " not in status:
        raise MeasurementFailed(f"the service answered {answer[:500]!r}")
    body = _unchunked(answer.partition(b"\r\n\r\n")[2])
    return Scoring(seconds, _cpu(pid) - server_cpu, time.process_time() - client_cpu, body)


def _unchunked(data: bytes) -> bytes:
    parts: list[bytes] = []
    position = 0
    while True:
        end = data.index(b"\r\n", position)
        size = int(data[position:end], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(data[end + 2 : end + 2 + size])
        position = end + 2 + size + 2


def _told(body: bytes, bad_row: int) -> str:
    reader = pa.ipc.open_stream(body)
    rows, about = 0, {}
    while True:
        try:
            batch, metadata = reader.read_next_batch_with_custom_metadata()
        except StopIteration:
            break
        rows += batch.num_rows
        about = dict(metadata or {})
    told = about.get(b"plumbline.error", b"nothing").decode()
    return f"row {bad_row} spoilt: {rows} rows were answered, then was told: {told}"


def _latencies(
    port: int, path: str, names: list[str], X: np.ndarray[tuple[int, int], np.dtype[np.float32]], good: Path, pid: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of single predictions, one after another: alone, and while rows are scored."""
    body = orjson.dumps({"instances": [dict(zip(names, map(float, X[0]), strict=True))]})
    url = f"http://127.0.0.1:{port}{path}:predict"
    found: tuple[list[float], list[float]] = ([], [])
    stop = threading.Event()

    def scoring() -> None:
        while not stop.is_set():
            _exchange(port, f"{path}:score", good, pid)

    with httpx.Client(trust_env=False) as client:
        for beside, into in zip((False, True), found, strict=True):
            background = threading.Thread(target=scoring) if beside else None
            if background is not None:
                background.start()
            for _ in range(400):
                start = time.perf_counter()
                client.post(url, content=body, headers={"content-type": "application/json"}).raise_for_status()
                into.append(1000 * (time.perf_counter() - start))
            stop.set()
            if background is not None:
                background.join()
            stop.clear()
    return found


def _table(rows: int, rates: list[float], scored: list[float], results: list[Scoring]) -> Table:
    table = Table(box=MARKDOWN)
    for heading in (f"{rows} rows", "median rows/s", "(range)", "server CPU ms", "client CPU ms"):
        table.add_column(heading, justify="left" if heading.endswith(" rows") else "right", no_wrap=True)
    table.add_row("bare session.run", f"{median(rates):.0f}", f"{min(rates):.0f}-{max(rates):.0f}", "", "")
    used = [1000 * median(getattr(result, side) for result in results) for side in ("server_cpu", "client_cpu")]
    table.add_row(
        ":score", f"{median(scored):.0f}", f"{min(scored):.0f}-{max(scored):.0f}", *(f"{u:.0f}" for u in used)
    )
    return table


def _cpu(pid: int) -> float:
    """Seconds of user and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _memory(pid: int, name: str) -> int:
    """Bytes, by the kernel's name of the figure."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))
