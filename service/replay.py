"""Demo traffic: the held-out rows of a package, posted to a running service at a steady rate.

Open loop: a request is sent when its time has come, whether or not earlier ones were answered, so that a slow service
looks slow.
"""

import asyncio
import itertools
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.errors import PackageError, UnknownModel
from service.manifest import REPLAY_FILE, Manifest, read_manifest, verify_digests
from service.runtime.repository import find_packages

TIMEOUT_SECONDS = 30.0
MOST_UNANSWERED = 512
JSON = {"content-type": "application/json"}


@dataclass(slots=True)
class Outcome:
    """What came back: predictions and outcomes by status (`error` where nothing came), the predictions' durations."""

    statuses: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

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
            return statuses
        cuts = statistics.quantiles(self.seconds, n=100, method="inclusive")
        return f"{statuses}; p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"


@dataclass(frozen=True, slots=True)
class Replay:
    """The rows of one package and where to post them."""

    manifest: Manifest
    rows: list[dict[str, Any]]
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
        rows = [orjson.loads(line) for line in contents[REPLAY_FILE].splitlines()]
        if not rows:
            raise PackageError(f"{name}/{manifest.version}: {REPLAY_FILE} is empty")
        return cls(manifest, rows, url, seed)

    @property
    def draws_groups(self) -> bool:
        """Whether groups are invented, because the data has none."""
        return bool(self.manifest.sensitive_features) and not any(row.get("sensitive_features") for row in self.rows)

    @property
    def announcement(self) -> str:
        """What is about to be sent, in one line."""
        groups = "with groups drawn at random, as the data has none" if self.draws_groups else "with their own groups"
        groups = groups if self.manifest.sensitive_features else "without groups"
        return f"{len(self.rows)} held-out rows of {self.manifest.name}/{self.manifest.version}, {groups} -> {self.url}"

    def requests(self) -> Iterator[tuple[bytes, Any]]:
        """Request bodies of one instance each with its true label, without end, in an order that the seed decides."""
        dice = random.Random(self.seed)
        for _ in itertools.count():
            for row in dice.sample(self.rows, len(self.rows)):
                groups = row.get("sensitive_features") or {
                    feature.name: dice.choice(feature.groups) for feature in self.manifest.sensitive_features
                }
                request = {"instances": [row["instance"]]} | ({"sensitive_features": [groups]} if groups else {})
                yield orjson.dumps(request), row.get("label")

    def run(self, *, rate: float, count: int, outcomes: float = 0.0) -> Outcome:
        """Post `count` requests, `rate` a second, and for a share `outcomes` of the answers what was true."""
        return asyncio.run(self._run(rate, count, outcomes))

    async def _run(self, rate: float, count: int, outcomes: float) -> Outcome:
        outcome = Outcome()
        dice = random.Random(self.seed + 1)
        model = f"{self.url.rstrip('/')}/v1/models/{self.manifest.name}"
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        limits = httpx.Limits(max_connections=MOST_UNANSWERED)
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, limits=limits) as client:
            with Progress(*columns) as progress:
                bar = progress.add_task("replay", total=count)
                async with asyncio.TaskGroup() as group:
                    start = time.perf_counter()
                    for index, (body, label) in enumerate(itertools.islice(self.requests(), count)):
                        await asyncio.sleep(start + index / rate - time.perf_counter())
                        known = label if dice.random() < outcomes else None
                        task = group.create_task(_post(client, model, body, outcome, label=known))
                        task.add_done_callback(lambda _: progress.advance(bar))
        return outcome


async def _post(client: httpx.AsyncClient, model: str, body: bytes, outcome: Outcome, *, label: Any) -> None:
    """One prediction and, where `label` is known, how it turned out."""
    start = time.perf_counter()
    try:
        response = await client.post(f"{model}:predict", content=body, headers=JSON)
        outcome.statuses[str(response.status_code)] += 1
        outcome.seconds.append(time.perf_counter() - start)
        if response.status_code == 200 and label is not None:
            known = {"outcomes": [{"id": response.json()["predictions"][0]["id"], "label": label}]}
            answer = await client.post(f"{model}:outcomes", content=orjson.dumps(known), headers=JSON)
            outcome.outcomes[str(answer.status_code)] += 1
    except (httpx.HTTPError, httpx.InvalidURL):
        outcome.statuses["error"] += 1
