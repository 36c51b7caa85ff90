"""What the service does now and then: save what it has added up, forget records past their retention."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial

import structlog

from service.api.recording import Recorder, Watched
from service.errors import PlumblineError, QueueFull
from service.monitor.monitor import FairnessMonitor
from service.records.attributions import DailyAttribution, SaveAttributions
from service.records.drift import SaveDriftCounts, SlotCounts
from service.records.forget import PRUNED_TOGETHER, Prune
from service.records.records import Records
from service.records.writer import Job
from service.runtime.repository import Repository

log = structlog.get_logger(__name__)

SAVE_SECONDS = 10.0
PRUNE_SECONDS = 3600.0
SECONDS_PER_DAY = 86_400
# From submitting to committing, which nobody waits for.
PATIENCE_SECONDS = 60.0


class Upkeep:
    """A task beside the requests; `start` it on the event loop, `close` it before the records."""

    def __init__(self, records: Records, recorder: Recorder, monitor: FairnessMonitor, *, retention_days: int) -> None:
        self._records = records
        self._recorder = recorder
        self._monitor = monitor
        self._retention_seconds = retention_days * SECONDS_PER_DAY
        self._task: asyncio.Task[None] | None = None
        self._leaving: list[Watched] = []

    def start(self, repository: Repository) -> None:
        """Begin; the first time soon after."""
        self._task = asyncio.get_running_loop().create_task(self._work(repository))

    def close(self, repository: Repository) -> None:
        """Save a last time; closing the records waits for it, and not longer than for anything else."""
        if self._task is not None:
            self._task.cancel()
        with contextlib.suppress(QueueFull):
            self._submit(repository)

    async def save(self, repository: Repository) -> None:
        """Write the sums that have changed. Raises what the records raise."""
        await self._save(self._submit(repository))

    def retire(self, watched: Watched) -> None:
        """Save what was counted for this model, although it is in no repository any more, until `let_go`."""
        self._leaving.append(watched)

    async def let_go(self, watched: Watched) -> None:
        """Save a last time what was counted for a model that has gone, however long the database does not answer."""
        while True:
            try:
                await self._save(self._submit_each([watched]))
                break
            except PlumblineError:
                await asyncio.sleep(SAVE_SECONDS)
        self._leaving.remove(watched)

    @staticmethod
    async def _save(submitted: list[tuple[Job, Callable[[], None]]]) -> None:
        for job, saved in submitted:
            await job.answer(time.monotonic() + PATIENCE_SECONDS)
            saved()

    async def prune(self) -> None:
        """Delete what is past its retention, a part at a time."""
        deleted, last = 0, PRUNED_TOGETHER
        while last == PRUNED_TOGETHER:
            job = self._records.submit(Prune(time.time() - self._retention_seconds))
            last = await job.answer(time.monotonic() + PATIENCE_SECONDS)
            deleted += last
        if deleted:
            log.info("records forgotten after their retention", rows=deleted)

    def _submit(self, repository: Repository) -> list[tuple[Job, Callable[[], None]]]:
        """Work under way, and what to do when it is done."""
        self._monitor.flush()
        return self._submit_each([*map(self._recorder.watched, repository), *self._leaving])

    def _submit_each(self, models: Iterable[Watched]) -> list[tuple[Job, Callable[[], None]]]:
        submitted = []
        for watched in models:
            submitted += [*self._attributions(watched), *self._drift(watched)]
        return submitted

    def _attributions(self, watched: Watched) -> Iterator[tuple[Job, Callable[[], None]]]:
        changed = self._monitor.changed_attributions(watched.counters)
        if changed:
            rows = [
                DailyAttribution(watched.package, day, groups, total.rows, total.margin_sum, total.sums.tolist())
                for (day, groups), total in changed.items()
            ]
            numbers = {key: total.rows for key, total in changed.items()}
            job = self._records.submit(SaveAttributions(watched.source, rows))
            yield job, partial(self._monitor.attributions_saved, watched.counters, numbers)

    def _drift(self, watched: Watched) -> Iterator[tuple[Job, Callable[[], None]]]:
        drift = watched.counters.drift
        changed = {} if drift is None else self._monitor.changed_slots(drift)
        if drift is not None and changed:
            rows = [SlotCounts(watched.package, slot, counts.tolist()) for slot, counts in changed.items()]
            job = self._records.submit(SaveDriftCounts(watched.source, rows))
            yield job, partial(self._monitor.slots_saved, drift, changed)

    async def _work(self, repository: Repository) -> None:
        next_prune = time.monotonic()
        while True:
            if time.monotonic() >= next_prune:
                next_prune += PRUNE_SECONDS
                await self._attempt(self.prune())
            await asyncio.sleep(SAVE_SECONDS)
            await self._attempt(self.save(repository))

    @staticmethod
    async def _attempt(work: Awaitable[None]) -> None:
        """The next time will do where the database does not answer, which is logged already, or whatever else fails."""
        try:
            await work
        except PlumblineError:
            return
        except Exception as error:  # noqa: BLE001 - the task must live as long as the service
            log.error("upkeep failed", error=type(error).__name__)
