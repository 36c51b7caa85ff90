"""`bench monitor`: what watching for fairness adds to a request, in microseconds of one core.

An application that only answers, alone and then as predictions are: it looks up the groups of one row, leaves an
inference in the scope, and the middleware hands that to the monitor, which counts it with others. No HTTP, no model.
"""

import asyncio
import gc
import itertools
import statistics
import time
from typing import Annotated, Any

import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bench.machine import description
from service.manifest import Manifest
from service.middleware import FairnessMiddleware
from service.monitor.counters import Counters
from service.monitor.monitor import INFERENCE, FairnessMonitor, Inference
from service.records.writer import Job, Nothing

TABLE_WIDTH = 100
SEXES, AGE_BANDS = ["female", "male"], ["18-29", "30-49", "50+"]
PEOPLE = [{"sex": sex, "age_band": age_band} for sex, age_band in itertools.product(SEXES, AGE_BANDS)]
NO_DIGEST = "sha256:" + 64 * "0"
MANIFEST = Manifest.model_validate(
    {
        "name": "watched",
        "version": "1",
        "task": "binary",
        "link": "logit",
        "created_at": "2026-11-22T00:00:00Z",
        "description": "Two sensitive features and their intersection.",
        "classes": ["no", "yes"],
        "positive_class": "yes",
        "favourable_outcome": "yes",
        "threshold": 0.5,
        "features": [{"name": "x", "kind": "numeric"}],
        "sensitive_features": [
            {"name": "sex", "groups": SEXES, "reference_group": "male"},
            {"name": "age_band", "groups": AGE_BANDS, "reference_group": "30-49"},
        ],
        "intersections": [["sex", "age_band"]],
        "digests": {"model.onnx": NO_DIGEST, "golden.json": NO_DIGEST},
        "provenance": {"seed": 0, "data_fingerprint": "none"},
    }
)


def monitor(
    requests: Annotated[int, typer.Option(min=1, max=10_000_000, help="Requests of one row in each run.")] = 100_000,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Runs of each kind, of which the median counts.")] = 5,
) -> None:
    """Measure what the fairness monitor adds to a request."""
    console = Console(width=TABLE_WIDTH)
    console.print(description(), highlight=False)
    console.print(
        f"{requests} requests of one row; two sensitive features and an intersection; medians of {rounds}",
        highlight=False,
    )
    without, watched = asyncio.run(_measure(requests, rounds))
    table = Table(box=MARKDOWN)
    table.add_column("application")
    for heading in ("us a request", "(range)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, figures in (("alone", without), ("watched", watched)):
        table.add_row(name, f"{statistics.median(figures):.2f}", f"{min(figures):.2f}-{max(figures):.2f}")
    table.add_row("the monitor's part", f"{statistics.median(watched) - statistics.median(without):.2f}", "")
    console.print(table)


async def _measure(requests: int, rounds: int) -> tuple[list[float], list[float]]:
    """Microseconds a request of each round, alone and watched, in turns."""
    fairness = FairnessMonitor()
    model = _Model()
    counters = fairness.watch(model, MANIFEST)
    watched = FairnessMiddleware(_deciding(counters), fairness)
    figures: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        figures[0].append(await _time(_answer, requests))
        figures[1].append(await _time(watched, requests))
        fairness.flush()  # fewer rows than the monitor flushes at once; what they cost is not measured
    fairness.close()
    assert counters.predictions.sum() == requests * rounds
    return figures


class _Model:
    """Stands for what is served."""


async def _time(app: ASGIApp, requests: int) -> float:
    scopes: list[dict[str, Any]] = [
        {"type": "http", "row": row} for _, row in zip(range(requests), itertools.cycle(PEOPLE), strict=False)
    ]
    gc.collect()
    start = time.perf_counter()
    for scope in scopes:
        await app(scope, _receive, _send)
    return 1e6 * (time.perf_counter() - start) / requests


async def _receive() -> Message:
    return {"type": "http.request"}


async def _send(message: Message) -> None:
    return


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def _deciding(counters: Counters) -> ASGIApp:
    """`_answer` that leaves an inference, recorded already."""
    committed = Job(Nothing())
    committed.settle(None)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        groups = [counters.groups.of(scope["row"])]
        scope[INFERENCE] = Inference(counters, groups, [1], [0.75], recording=committed)
        await _answer(scope, receive, send)

    return app
