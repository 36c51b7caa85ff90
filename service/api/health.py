"""Is the process alive, and may it be sent requests? (Open Inference Protocol paths, both spellings of ready.)"""

from collections.abc import Callable

from fastapi import APIRouter
from starlette.responses import Response

from service.api.http_errors import JSONResponse


def routes(why_not_ready: Callable[[], list[str]]) -> APIRouter:
    """`/v2/health/live` and `/v2/health/ready`; not ready is a 503 that says why."""
    router = APIRouter(tags=["health"], prefix="/v2/health")

    @router.get("/live", summary="The process answers")
    async def live() -> Response:
        return JSONResponse({"live": True})

    @router.get("/ready", summary="Every model is loaded, warmed up and checked; else 503")
    async def ready() -> Response:
        reasons = why_not_ready()
        if reasons:
            return JSONResponse({"ready": False, "live": True, "error": "; ".join(reasons)}, 503)
        return JSONResponse({"ready": True, "live": True})

    return router
