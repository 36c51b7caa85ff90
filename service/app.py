"""Builds the application: which path is answered by what."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from service.api import health, openapi, repository, v1
from service.api.answering import Answering
from service.api.direct import Direct
from service.api.drift import DRIFT_PATH
from service.api.explaining import Explaining
from service.api.fairness import FAIRNESS_PATH
from service.api.http_errors import HANDLERS
from service.api.observe import Observe
from service.api.outcomes import OUTCOMES_PATH, Outcomes, OutcomesSchema
from service.api.v2 import infer as v2_infer
from service.api.v2 import metadata as v2_metadata
from service.bulk import documentation
from service.bulk.endpoint import SCORE_PATH, SCORE_VERSION_PATH
from service.middleware import FairnessMiddleware
from service.service import Service
from service.settings import Settings

# A request makes no reference cycles; looking for some after every 700 objects, Python's default, costs 2 %.
GARBAGE_BEFORE_COLLECTION = 20_000

DESCRIPTION = "Predictions that are explained and watched for fairness. See the README for what is promised."


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
