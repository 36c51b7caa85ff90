"""The traffic itself: rows in batches at a steady rate.

Open loop: a request is sent when its time has come, whether or not earlier ones were answered, so that a slow service
looks slow.
"""

import asyncio
import contextlib
import itertools
import random
import signal
import statistics
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import orjson
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from service.errors import PackageError, UnknownModel
from service.manifest import REPLAY_FILE, Label, Manifest, read_manifest, verify_digests
from service.replay.scenario import Row, Scenario
from service.runtime.repository import find_packages

TIMEOUT_SECONDS = 30.0
MOST_UNANSWERED = 512
# A replay without end keeps the durations of its latest requests.
MOST_DURATIONS = 100_000
JSON = {"content-type": "application/json"}
AS_RECORDED = Scenario()


@dataclass(slots=True)
class Outcome:
    """What came back: predictions and outcomes by status (`error` where nothing came), the predictions' durations."""

    statuses: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_DURATIONS))

    @property
    def failed(self) -> int:
        """Requests that were not answered with 200."""
        return sum((self.statuses + self.outcomes).values()) - self.statuses["200"] - self.outcomes["200"]

    @property
    def summary(self) -> str:
        """One line for a person."""
        statuses = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        if self.outcomes:
            statuses += "; outcomes " + ", ".join(f"{n} x {status}" for status, n in sorted(self.outcomes.items()))
        if len(self.seconds) < 2:
            return statuses or "nothing was sent"
        cuts = statistics.quantiles(self.seconds, n=100, method="inclusive")
        return f"{statuses}; p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"


@dataclass(frozen=True, slots=True)
class Replay:
    """The rows of one package and where to post them."""

    manifest: Manifest
    rows: list[Row]
    url: str
    seed: int

    @classmethod
    def of_package(cls, repository: Path, name: str, *, url: str, seed: int) -> "Replay":
        """Rows of the highest version of `name`. Raises UnknownModel, or PackageError if the package has no rows."""
        folders = [folder for folder in find_packages(repository) if folder.parent.name == name]
        if not folders:
            raise UnknownModel(f"{repository} holds no model {name!r}")
        manifest = read_manifest(folders[-1])
        contents = verify_digests(folders[-1], manifest)
        if REPLAY_FILE not in contents:
            raise PackageError(f"{name}/{manifest.version} has no {REPLAY_FILE}")
        lines = [orjson.loads(line) for line in contents[REPLAY_FILE].splitlines()]
        if not lines:
            raise PackageError(f"{name}/{manifest.version}: {REPLAY_FILE} is empty")
        rows = [Row(line["instance"], line.get("sensitive_features") or {}, line.get("label")) for line in lines]
        return cls(manifest, rows, url, seed)

    @property
    def draws_groups(self) -> bool:
        """Whether groups are invented, because the data has none."""
        return bool(self.manifest.sensitive_features) and not any(row.groups for row in self.rows)

    @property
    def announcement(self) -> str:
        """What is about to be sent, in one line."""
        groups = "with groups drawn at random, as the data has none" if self.draws_groups else "with their own groups"
        groups = groups if self.manifest.sensitive_features else "without groups"
        return f"{len(self.rows)} unseen rows of {self.manifest.name}/{self.manifest.version}, {groups} -> {self.url}"

    def batches(self, scenario: Scenario = AS_RECORDED, *, rate: float, batch: int = 1) -> Iterator[list[Row]]:
        """What each request holds, without end, in an order that the seed decides: `batch` rows, `rate` times a second.

        A scenario changes neither the order of the rows nor the groups that are drawn for them.
        """
        rows = self._rows(scenario)
        for number in itertools.count():
            changed = scenario.holds(number / rate)
            yield [after if changed else before for before, after in itertools.islice(rows, batch)]

    def _rows(self, scenario: Scenario) -> Iterator[tuple[Row, Row]]:
        """Each row as recorded and as the scenario has it, pass after pass."""
        dice, of_scenario = random.Random(self.seed), random.Random(self.seed + 2)
        while True:
            drawn = [self._grouped(row, dice) for row in dice.sample(self.rows, len(self.rows))]
            yield from zip(drawn, scenario.applied(drawn, of_scenario), strict=True)

    def _grouped(self, row: Row, dice: random.Random) -> Row:
        if row.groups:
            return row
        features = self.manifest.sensitive_features
        return replace(row, groups={feature.name: dice.choice(feature.groups) for feature in features})

    def run(
        self, scenario: Scenario = AS_RECORDED, *, rate: float, count: int, batch: int = 1, outcomes: float = 0.0
    ) -> Outcome:
        """Post `count` requests of `batch` rows, `rate` a second, and for a share `outcomes` of the rows what was true.

        A `count` of 0 goes on until SIGINT or SIGTERM, which end any run early; what was sent is still awaited.
        """
        return asyncio.run(self._run(scenario, rate, count, batch, outcomes))

    async def _run(self, scenario: Scenario, rate: float, count: int, batch: int, outcomes: float) -> Outcome:
        outcome = Outcome()
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        limits = httpx.Limits(max_connections=MOST_UNANSWERED)
        model = f"{self.url.rstrip('/')}/v1/models/{self.manifest.name}"
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, limits=limits) as client:
            with Progress(*columns) as progress:
                bar = progress.add_task("replay", total=count or None)
                async with asyncio.TaskGroup() as group:
                    posting = _Posting(client, model, outcome, group, progress, bar)
                    batches = itertools.islice(self.batches(scenario, rate=rate, batch=batch), count or None)
                    dice = random.Random(self.seed + 1)
                    _cancelled_by_signals(group.create_task(posting.send(batches, scenario, rate, outcomes, dice)))
        return outcome


@dataclass(frozen=True, slots=True)
class _Posting:
    """The requests of one run: each is a task of `group`."""

    client: httpx.AsyncClient
    model: str
    outcome: Outcome
    group: asyncio.TaskGroup
    progress: Progress
    bar: TaskID

    async def send(
        self, batches: Iterator[list[Row]], scenario: Scenario, rate: float, outcomes: float, dice: random.Random
    ) -> None:
        """Each batch at its time, with the labels that are to be known of it."""
        start = time.perf_counter()
        said = str(AS_RECORDED)
        for number, rows in enumerate(batches):
            await asyncio.sleep(start + number / rate - time.perf_counter())
            if said != (now := str(scenario if scenario.holds(number / rate) else AS_RECORDED)):
                said = now
                self._say(f"{number / rate:.0f} s: {said}")
            labels = [row.label if dice.random() < outcomes else None for row in rows]
            task = self.group.create_task(self._post(rows, labels))
            task.add_done_callback(lambda _: self.progress.advance(self.bar))

    def _say(self, line: str) -> None:
        self.progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

    async def _post(self, rows: Sequence[Row], labels: Sequence[Label | None]) -> None:
        """One prediction and, where a label is known, how it turned out."""
        start = time.perf_counter()
        try:
            response = await self.client.post(f"{self.model}:predict", content=_body(rows), headers=JSON)
            self.outcome.statuses[str(response.status_code)] += 1
            self.outcome.seconds.append(time.perf_counter() - start)
            if response.status_code == 200 and any(label is not None for label in labels):
                known = {"outcomes": _outcomes(response.json()["predictions"], labels)}
                answer = await self.client.post(f"{self.model}:outcomes", content=orjson.dumps(known), headers=JSON)
                self.outcome.outcomes[str(answer.status_code)] += 1
        except (httpx.HTTPError, httpx.InvalidURL):
            self.outcome.statuses["error"] += 1


def _body(rows: Sequence[Row]) -> bytes:
    request: dict[str, Any] = {"instances": [row.instance for row in rows]}
    if any(row.groups for row in rows):
        request["sensitive_features"] = [row.groups for row in rows]
    return orjson.dumps(request)


def _outcomes(predictions: Sequence[dict[str, Any]], labels: Sequence[Label | None]) -> list[dict[str, Any]]:
    pairs = zip(predictions, labels, strict=True)
    return [{"id": prediction["id"], "label": label} for prediction, label in pairs if label is not None]


def _cancelled_by_signals(task: asyncio.Task[None]) -> None:
    """The first signal ends the sending, the next the program.

    The first process of a container is ended by SIGTERM only if it handles it.
    """
    loop = asyncio.get_running_loop()
    signals = signal.SIGINT, signal.SIGTERM

    def cancel() -> None:
        task.cancel()
        for number in signals:
            loop.remove_signal_handler(number)

    with contextlib.suppress(NotImplementedError):  # Windows
        for number in signals:
            loop.add_signal_handler(number, cancel)
