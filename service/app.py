"""Builds the application: every object is made here and handed to whoever needs it."""

import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from service.api import health, openapi, repository, v1
from service.api.answering import Answering
from service.api.direct import Direct
from service.api.drift import DRIFT_PATH, DriftReports
from service.api.explaining import Explaining
from service.api.fairness import FAIRNESS_PATH, FairnessReports
from service.api.http_errors import HANDLERS
from service.api.observe import Observe
from service.api.outcomes import OUTCOMES_PATH, Outcomes, OutcomesSchema
from service.api.recording import Recorder
from service.api.reports import ReportThread
from service.api.sampling import Sampler
from service.api.v2 import infer as v2_infer
from service.api.v2 import metadata as v2_metadata
from service.bulk import documentation
from service.bulk.endpoint import SCORE_PATH, SCORE_VERSION_PATH, Score
from service.leaving import SeeingOff
from service.manifest import MODEL_FILE
from service.middleware import FairnessMiddleware
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

# A request makes no reference cycles; looking for some after every 700 objects, Python's default, costs 2 %.
GARBAGE_BEFORE_COLLECTION = 20_000

DESCRIPTION = "Predictions that are explained and watched for fairness. See the README for what is promised."


class Service:
    """What lives as long as the application: the loaded models, and whether requests are welcome."""

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


def create_app(settings: Settings, *, watched: bool = True) -> FastAPI:
    """The ASGI application for `settings`. Models are loaded when its lifespan starts, from `app.state.service`.

    Not `watched` is for measuring what the fairness monitor costs; it takes PLUMBLINE_AUDIT=off.
    """
    service = Service(settings, watched=watched)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.open()
        service.start()
        # What is alive now lives until the end; leaving it to the collector stops every request for 50 ms now and then.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_BEFORE_COLLECTION)
        yield
        await service.close()

    app = FastAPIOffline(
        title="Plumbline",
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        exception_handlers=HANDLERS,
        redirect_slashes=False,
        # The framework's own telemetry records exceptions with their messages, which may quote what a caller sent.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = service
    schemas = v1.Schemas(max_instances=settings.max_instances)
    answering = Answering(Explaining(service.limiter, service.metrics), service.recorder, service.sampler)
    predict = partial(
        v1.Predict,
        lambda: service.repository,
        schemas,
        answering,
        refused=service.metrics.count_refused,
        max_body_bytes=settings.max_body_bytes,
        timeout_seconds=settings.request_timeout_seconds,
    )
    outcomes_schema = OutcomesSchema(max_outcomes=settings.max_instances)
    outcomes = Outcomes(
        lambda: service.repository,
        outcomes_schema,
        service.recorder,
        service.monitor,
        service.metrics,
        horizon_days=settings.outcome_horizon_days,
        max_body_bytes=settings.max_body_bytes,
        timeout_seconds=settings.request_timeout_seconds,
    )
    infer = v2_infer.Infer(
        lambda: service.repository,
        schemas,
        answering,
        refused=service.metrics.count_refused,
        max_rows=settings.max_instances,
        max_body_bytes=settings.max_body_bytes,
        timeout_seconds=settings.request_timeout_seconds,
    )
    busiest = [
        Route(v1.PREDICT_PATH, predict(), methods=["POST"]),
        Route(v1.PREDICT_VERSION_PATH, predict(), methods=["POST"]),
        Route(v1.EXPLAIN_PATH, predict(waterfalls=service.waterfalls), methods=["POST"]),
        Route(v1.EXPLAIN_VERSION_PATH, predict(waterfalls=service.waterfalls), methods=["POST"]),
        Route(OUTCOMES_PATH, outcomes, methods=["POST"]),
        Route(v2_infer.INFER_PATH, infer, methods=["POST"]),
        Route(v2_infer.INFER_VERSION_PATH, infer, methods=["POST"]),
        Route(SCORE_PATH, service.score, methods=["POST"]),
        Route(SCORE_VERSION_PATH, service.score, methods=["POST"]),
    ]
    app.router.routes.extend(busiest)
    app.include_router(v1.routes(lambda: service.repository))
    app.router.routes.append(Route(FAIRNESS_PATH, service.fairness.__call__, methods=["GET"]))
    app.router.routes.append(Route(DRIFT_PATH, service.drift.__call__, methods=["GET"]))
    app.include_router(health.routes(service.why_not_ready))
    control = repository.Control(service.reloading.index, service.reloading.load, service.reloading.unload)
    app.include_router(repository.routes(control, allowed=settings.repository_control))
    app.include_router(
        v2_metadata.routes(
            lambda: service.repository, server_name=settings.server_name, max_rows=settings.max_instances
        )
    )

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        service.monitor.flush()  # on the event loop, so that a scrape sees everything that was answered before it
        return Response(await run_in_threadpool(service.scrape), media_type=CONTENT_TYPE_LATEST)

    app.openapi = lambda: documentation.extend(  # type: ignore[method-assign]
        openapi.document(app, service.repository, schemas, outcomes_schema), service.repository
    )
    # Around the framework's own layers, not among them: nothing escapes `Observe`, and `Direct` skips them all.
    answers = Direct(app.build_middleware_stack(), routes=busiest)
    app.middleware_stack = Observe(
        FairnessMiddleware(answers, service.monitor) if watched else answers,
        metrics=service.metrics,
        log_requests=settings.log_requests,
        routes=app.routes,
        busiest=busiest,
    )
    return app
