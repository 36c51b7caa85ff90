"""What the service does now and then: save the sums of attributions, forget records past their retention."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable

import structlog

from service.api.recording import Recorder
from service.errors import PlumblineError, QueueFull
from service.monitor.counters import AttributionTotal, Counters
from service.monitor.monitor import FairnessMonitor
from service.records.attributions import DailyAttribution, SaveAttributions
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

    def start(self, repository: Repository) -> None:
        """Begin; the first time soon after."""
        self._task = asyncio.get_running_loop().create_task(self._work(repository))

    def close(self, repository: Repository) -> None:
        """Save a last time; closing the records waits for it, and not longer than for anything else."""
        if self._task is not None:
            self._task.cancel()
        with contextlib.suppress(QueueFull):
            self._submit_attributions(repository)

    async def save_attributions(self, repository: Repository) -> None:
        """Write the sums that have changed. Raises what the records raise."""
        for counters, changed, job in self._submit_attributions(repository):
            await job.answer(time.monotonic() + PATIENCE_SECONDS)
            self._monitor.attributions_saved(counters, {key: total.rows for key, total in changed.items()})

    async def prune(self) -> None:
        """Delete what is past its retention, a part at a time."""
        deleted, last = 0, PRUNED_TOGETHER
        while last == PRUNED_TOGETHER:
            job = self._records.submit(Prune(time.time() - self._retention_seconds))
            last = await job.answer(time.monotonic() + PATIENCE_SECONDS)
            deleted += last
        if deleted:
            log.info("records forgotten after their retention", rows=deleted)

    def _submit_attributions(
        self, repository: Repository
    ) -> list[tuple[Counters, dict[tuple[int, str], AttributionTotal], Job]]:
        self._monitor.flush()
        submitted = []
        for model in repository:
            watched = self._recorder.watched(model)
            changed = self._monitor.changed_attributions(watched.counters)
            if changed:
                rows = [
                    DailyAttribution(watched.package, day, groups, total.rows, total.margin_sum, total.sums.tolist())
                    for (day, groups), total in changed.items()
                ]
                job = self._records.submit(SaveAttributions(self._records.replica, rows))
                submitted.append((watched.counters, changed, job))
        return submitted

    async def _work(self, repository: Repository) -> None:
        next_prune = time.monotonic()
        while True:
            if time.monotonic() >= next_prune:
                next_prune += PRUNE_SECONDS
                await self._attempt(self.prune())
            await asyncio.sleep(SAVE_SECONDS)
            await self._attempt(self.save_attributions(repository))

    @staticmethod
    async def _attempt(work: Awaitable[None]) -> None:
        """The next time will do where the database does not answer, which is logged already, or whatever else fails."""
        try:
            await work
        except PlumblineError:
            return
        except Exception as error:  # noqa: BLE001 - the task must live as long as the service
            log.error("upkeep failed", error=type(error).__name__)
