"""The HTTP half of `bench explain`: what an explanation in the response costs, and what it costs the others.

One service on one core, wrk on another: predictions alone, explained predictions alone, and predictions while eight
connections ask for nothing but explanations. Predictions come on one connection, so that they leave the core some time:
where they take all of it, explanations get none, as they should.
"""

import statistics
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
from rich.box import MARKDOWN
from rich.table import Table

from bench.http import contenders, cores, running_contender
from bench.load import Measurement, run_wrk, write_script

CONNECTIONS = {"predict": 1, "explained predict": 8, "predict beside explanations": 1}
MODELS = ("diagnosis",)


def served(folder: Path, *, seconds: int, rounds: int) -> Table:
    """Requests/s, p50 and p99 of the three kinds of load. Raises MeasurementFailed or Unsuitable."""
    server_core, load_core = cores()
    table = Table(box=MARKDOWN, title="over HTTP, one core for the service")
    for heading in ("model", "load", "connections", "requests/s", "p50 ms", "p99 ms"):
        table.add_column(heading)
    for model in MODELS:
        ours = contenders(model)[0]
        plain, explained = folder / "plain.lua", folder / "explained.lua"
        write_script(plain, ours.body)
        write_script(explained, orjson.dumps(orjson.loads(ours.body) | {"explain": True}))
        runs: dict[str, list[Measurement]] = defaultdict(list)
        with running_contender(ours, folder, core=server_core) as server, ThreadPoolExecutor(1) as beside:
            server.first_answer(ours.body)

            def load(kind: str, script: Path, duration: int = seconds, url: str = server.url) -> Measurement:
                return run_wrk(url, script, connections=CONNECTIONS[kind], seconds=duration, core=load_core)

            for _ in range(rounds):
                runs["predict"].append(load("predict", plain))
                runs["explained predict"].append(load("explained predict", explained))
                # Longer, so that it spans the whole measurement.
                explaining = beside.submit(load, "explained predict", explained, seconds + 1)
                runs["predict beside explanations"].append(load("predict beside explanations", plain))
                explaining.result()
        for kind, connections in CONNECTIONS.items():
            table.add_row(model, kind, str(connections), *_figures(runs[kind]))
    return table


def _figures(runs: list[Measurement]) -> list[str]:
    rate, p50, p99 = (
        statistics.median(getattr(run, name) for run in runs)
        for name in ("requests_per_second", "p50_seconds", "p99_seconds")
    )
    return [f"{rate:.0f}", f"{1000 * p50:.2f}", f"{1000 * p99:.2f}"]
