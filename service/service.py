"""What lives as long as the application: every object is made here and handed to whoever needs it."""

import time
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from service.api.drift import DriftReports
from service.api.fairness import FairnessReports
from service.api.recording import Recorder
from service.api.reports import ReportThread
from service.api.sampling import Sampler
from service.bulk.endpoint import Score
from service.leaving import SeeingOff
from service.manifest import MODEL_FILE
from service.monitor.counters import Counters
from service.monitor.exposition import MonitorExposition, check_series
from service.monitor.metrics import Metrics, ModelCollector
from service.monitor.monitor import FairnessMonitor
from service.records.outcomes import RESULTS
from service.records.records import Records
from service.reloading import Reloading
from service.runtime.limiter import Limiter
from service.runtime.repository import Model, Repository, Runtime, load_package, open_repository
from service.runtime.session import check_one_runtime
from service.runtime.threads import available_cpus
from service.settings import Settings
from service.upkeep import Upkeep
from service.waterfall import Waterfalls


class Service:
    """The loaded models, what watches and records them, and whether requests are welcome."""

    def __init__(self, settings: Settings, *, watched: bool) -> None:
        self.settings = settings
        self._watched = watched
        self.repository = Repository()
        self.draining = False
        self.waterfalls = Waterfalls()
        self.limiter = Limiter(max_rows=settings.max_explain_rows)
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.registry.register(
            ModelCollector(loaded=self._loaded, refused=lambda: list(self.repository.reasons()))
        )
        self.monitor = FairnessMonitor()
        self.exposition = MonitorExposition(self._counters)
        self.metrics.watch_monitor(lambda: self.monitor.failures, lambda: self.monitor.last_success_seconds)
        self.records = self._make_records()
        self.recorder = Recorder(
            self.records,
            self.monitor if watched else None,
            features=settings.record_features,
            explanations=settings.record_explanations,
        )
        self.upkeep = None
        if self.records is not None:
            self.upkeep = Upkeep(self.records, self.recorder, self.monitor, retention_days=settings.retention_days)
        self.seeing_off = SeeingOff(self.upkeep, self._forget)
        self.reloading = Reloading(
            lambda: self.repository,
            settings.models,
            load=self._load,
            admit=self._admit,
            exchanged=self._exchanged,
            refused=self.metrics.count_load_failure,
        )
        self.report_thread = ReportThread(self._save_sums, timeout_seconds=settings.report_timeout_seconds)
        self.fairness = FairnessReports(
            self.records,
            lambda name, version: self._model(name, version).manifest,
            self.report_thread,
            suppress=settings.suppress_small_cells,
            retention_days=settings.retention_days,
        )
        self.drift = DriftReports(
            self.records,
            self.recorder,
            self._model,
            self.report_thread,
            suppress=settings.suppress_small_cells,
            retention_days=settings.retention_days,
        )
        self.score = Score(
            lambda: self.repository,
            max_scorings=settings.max_scorings,
            max_batch_bytes=settings.max_score_batch_bytes,
            max_spool_bytes=settings.max_spool_bytes,
            timeout_seconds=settings.request_timeout_seconds,
            count=self.metrics.count_scored,
        )
        self.sampler = Sampler(settings.explain_sample_ratio, self.limiter, self.monitor, self.metrics)

    def _make_records(self) -> Records | None:
        if self.settings.audit == "off":
            return None
        records = Records(
            self.settings.records_url,
            sync=self.settings.audit_sync,
            audit=self.settings.audit,
            max_rows=self.settings.max_audit_rows,
            observe=self.metrics.count_commit,
        )
        self.metrics.watch_records(lambda: records.writer.waiting_rows)
        return records

    def open(self) -> None:
        """Load the models. Raises ConfigurationError or PackageError where starting makes no sense."""
        check_one_runtime()
        self.reloading.begin()
        self.repository = open_repository(
            self.settings.models, self._load, pinned=self.settings.pinned, refused=self.metrics.count_load_failure
        )
        for model in self.repository:
            self.metrics.expect(model.manifest, fates=RESULTS)
        if self.records is not None:
            self.records.open(model.manifest for model in self.repository)

    def check_records(self) -> None:
        """Raise ConfigurationError if the records are those of another release."""
        if self.records is not None:
            self.records.check()

    def start(self) -> None:
        """Begin what goes on beside the requests."""
        if self.upkeep is not None:
            self.upkeep.start(self.repository)
        if self.settings.poll_seconds > 0:
            self.reloading.poll(self.settings.poll_seconds)

    def reload(self) -> None:
        """Load what has changed, soon."""
        self.reloading.begin_load_all()

    async def close(self) -> None:
        """Finish what is under way: runs, counts, records."""
        await self.reloading.close()
        self.sampler.close()
        self.score.close()
        self.limiter.close()
        self.waterfalls.close()
        self.report_thread.close()
        await self.repository.close()
        give_up = time.monotonic() + self.settings.shutdown_seconds
        if self.records is not None:
            await self.records.drain(self.settings.shutdown_seconds)  # what is recorded by then is counted, and saved
        await self.seeing_off.close()
        if self.upkeep is not None:
            self.upkeep.close(self.repository)
        if self.records is not None:
            await self.records.close(max(0.0, give_up - time.monotonic()))
        self.monitor.close()

    def scrape(self) -> bytes:
        """The exposition of everything that is counted."""
        return generate_latest(self.metrics.registry) + self.exposition.text().encode()

    def why_not_ready(self) -> list[str]:
        """Reasons not to be sent requests; empty when ready."""
        if self.draining:
            return ["the service is shutting down"]
        reasons = self.repository.why_not_ready()
        if self.records is not None and self.records.awaited and self.records.writer.trouble is not None:
            reasons.append(self.records.writer.trouble)
        return reasons

    def _load(self, folder: Path) -> Model:
        """Of a package, in whichever thread."""
        runtime = Runtime(
            device=self.settings.device,
            threads=self.settings.threads or available_cpus(),
            max_batch_rows=self.settings.max_batch_rows,
            max_queue_rows=self.settings.max_queue_rows,
            gpu_memory_bytes=self.settings.gpu_memory_bytes,
        )
        accept = partial(check_series, most=self.settings.max_series)
        return load_package(folder, runtime, self.metrics.batch_observer, accept)

    async def _admit(self, model: Model) -> None:
        """What the records say of a package comes before the first prediction."""
        if self.records is not None:
            await self.records.note(model.manifest)

    def _exchanged(self, old: Model | None, new: Model | None) -> None:
        """See `old` off; show from the start what will be counted of `new`."""
        if new is not None:
            self.metrics.expect(new.manifest, fates=RESULTS)
        if old is not None and new is not None:
            self.metrics.forget_features(old.manifest, new.manifest)
        if old is not None:
            self.seeing_off.begin(old, self.recorder.watched(old) if self._watched else None)

    def _counters(self) -> list[Counters]:
        """What a scrape shows: of what is served, and of what is on its way and nothing else serves under its key."""
        models = list(self.repository)
        served = {model.key for model in models}
        leaving = [counters for key, counters in self.seeing_off.counters().items() if key not in served]
        return self.monitor.snapshot([(model, model.manifest, model.reference) for model in models], leaving)

    def _forget(self, key: str) -> None:
        """The last of a model has gone; another package may have come under its key."""
        if self.repository.loaded(key) is None:
            self.metrics.forget_model(*key.split("/"))

    def _model(self, name: str, version: str | None) -> Model:
        return self.repository.latest(name) if version is None else self.repository.version(name, version)

    async def _save_sums(self) -> None:
        """A report shall see what was counted just now; where that cannot be saved, it says so itself."""
        if self.upkeep is not None and self.records is not None and self.records.writer.trouble is None:
            await self.upkeep.save(self.repository)

    def _loaded(self) -> list[tuple[tuple[str, str], dict[str, str], int]]:
        return [
            (
                (model.manifest.name, model.manifest.version),
                {
                    "digest": model.manifest.digests[MODEL_FILE],
                    "provider": model.session.provider,
                    "device": model.session.device,
                },
                model.batcher.waiting_rows,
            )
            for model in self.repository
        ]
