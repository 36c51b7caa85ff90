"""Models that serve no longer: they answer what they were asked, their counts are saved, and then they are gone.

Nobody has to say that a model is let go: whoever took it from the repository holds it, as does an inference that is not
counted yet, and when nobody does any more, Python says so.
"""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable

import structlog
from starlette.concurrency import run_in_threadpool

from service.api.recording import Watched
from service.manifest import MODEL_FILE
from service.monitor.counters import Counters
from service.runtime.memory import trim
from service.runtime.repository import Model
from service.upkeep import Upkeep

log = structlog.get_logger(__name__)

# An exception that was raised for a request refers to its own frames, and so to the model: the collector sees to that.
FIRST_COLLECTION_SECONDS = 1.0
LAST_COLLECTION_SECONDS = 60.0


class _Leaving:
    """What is left to do for a model, without holding it."""

    def __init__(self, model: Model, watched: Watched | None) -> None:
        loop = asyncio.get_running_loop()
        self.key = model.key
        self.digest = model.manifest.digests[MODEL_FILE]
        self.batcher = model.batcher
        self.watched = watched
        self.gone = asyncio.Event()

        def tell(_: object) -> None:  # in whichever thread let go last
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self.gone.set)

        self.model = weakref.ref(model, tell)


class SeeingOff:
    """Sees models off. Belongs to one event loop; `close` it before the records."""

    def __init__(self, upkeep: Upkeep | None, forget: Callable[[str], None]) -> None:
        """`forget(key)` is called when a model has gone."""
        self._upkeep = upkeep
        self._forget = forget
        self._leaving: dict[_Leaving, asyncio.Task[None]] = {}

    def begin(self, model: Model, watched: Watched | None) -> None:
        """See off `model`, which is in the repository no longer; the caller lets go of it as well."""
        leaving = _Leaving(model, watched)
        if self._upkeep is not None and watched is not None:
            self._upkeep.retire(watched)
        self._leaving[leaving] = asyncio.get_running_loop().create_task(self._see_off(leaving))

    def counters(self) -> dict[str, Counters]:
        """Those of the models on their way, by key; a scrape shows them where the key is not served."""
        return {leaving.key: leaving.watched.counters for leaving in list(self._leaving) if leaving.watched is not None}

    async def close(self) -> None:
        """Requests are answered by now; what was counted is saved by `Upkeep.close`."""
        for task in self._leaving.values():
            task.cancel()
        if self._leaving:
            await asyncio.wait(self._leaving.values())
        for leaving in self._leaving:
            await leaving.batcher.close()

    async def _see_off(self, leaving: _Leaving) -> None:
        await self._until_gone(leaving)
        await leaving.batcher.close()
        if self._upkeep is not None and leaving.watched is not None:
            await self._upkeep.let_go(leaving.watched)
        del self._leaving[leaving]
        self._forget(leaving.key)
        log.info("model unloaded", model=leaving.key, digest=leaving.digest)
        del leaving
        gc.collect()  # what validated its requests are classes, which refer to themselves
        await run_in_threadpool(trim)

    @staticmethod
    async def _until_gone(leaving: _Leaving) -> None:
        seconds = FIRST_COLLECTION_SECONDS
        while leaving.model() is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(leaving.gone.wait(), seconds)
            if leaving.model() is not None:
                gc.collect()
                seconds = min(2 * seconds, LAST_COLLECTION_SECONDS)
