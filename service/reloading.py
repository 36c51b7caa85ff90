"""New, changed and removed packages while requests go on: on request, or by looking at the folder now and then.

A package is read, checked and warmed up in a thread, and noted in the records, before the event loop exchanges one
object for another. Until then, and where the package is refused, the one before serves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import structlog

from service.api.repository import Entry
from service.errors import InferenceError, InvalidRequest, NotReady, PackageError, PlumblineError, UnknownModel
from service.manifest import Manifest
from service.runtime.folder import Found, Stamp, look
from service.runtime.repository import Model, Repository, log_loaded, log_refused

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

UNLOADED = "unloaded"


class Reloading:
    """Keeps a `Repository` in step with its folder. Belongs to one event loop; one package is loaded at a time."""

    def __init__(
        self,
        repository: Callable[[], Repository],
        root: Path,
        *,
        load: Callable[[Path], Model],
        admit: Callable[[Model], Awaitable[None]],
        exchanged: Callable[[Model | None, Model | None], None],
        refused: Callable[[str, PlumblineError], None],
    ) -> None:
        """`load` runs in a thread and may raise PackageError or ProviderError, `admit` InferenceError.

        `exchanged(old, new)` is told in the same turn in which `new` takes the place of `old`, `refused(name, error)`
        of each attempt that failed.
        """
        self._repository = repository
        self._root = root
        self._load = load
        self._admit = admit
        self._exchanged = exchanged
        self._refused = refused
        # What a package looked like when it was last tried, and at the last look.
        self._tried: dict[str, Stamp] = {}
        self._seen: dict[str, Stamp] = {}
        self._loading: str | None = None
        self._lock = asyncio.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="plumbline-load")
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._trouble: str | None = None

    def begin(self) -> None:
        """Note what is in the folder, before it is first loaded."""
        self._tried = {key: package.stamp for key, package in look(self._root).items()}
        self._seen = dict(self._tried)

    def poll(self, seconds: float) -> None:
        """Look at the folder every so many seconds from now on."""
        self._start(self._poll(seconds))

    async def load(self, name: str) -> None:
        """Load what is new of this model or has changed, and let go of versions that are no longer in the folder.

        Raises UnknownModel if nothing of that name is there, NotReady if the folder cannot be read, InvalidRequest with
        the reasons if a package is refused.
        """
        await self._finish(self._load_one(name))

    def begin_load_all(self) -> None:
        """The same for every model that is not unloaded. What is refused is in the log and in the index."""
        if not self._closed:
            self._start(self._attempt(self._load_all))

    async def unload(self, name: str) -> None:
        """Serve no version of `name` until it is loaded again. Raises UnknownModel."""
        await self._finish(self._unload(name))

    def index(self) -> list[Entry]:
        """What is known of every package, by name and version."""
        repository = self._repository()
        reasons = repository.reasons()
        keys = {model.key for model in repository} | reasons.keys() | self._tried.keys()
        keys |= {self._loading} if self._loading else set()
        return [self._entry(key, reasons.get(key, "")) for key in sorted(keys, key=_name_and_number)]

    async def close(self) -> None:
        """Change nothing any more. A package that is being read is read to its end and forgotten."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _entry(self, key: str, reason: str) -> Entry:
        name, _, version = key.partition("/")
        if self._repository().loaded(key) is not None:
            return Entry(name, version, "READY", f"the one before serves: {reason}" if reason else "")
        if key == self._loading:
            return Entry(name, version, "LOADING", "")
        return Entry(name, version, "UNAVAILABLE", UNLOADED if name in self._repository().unloaded else reason)

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Whoever stops waiting for `work`, it is done."""
        if self._closed:
            work.close()
            raise NotReady("the service is shutting down")
        task = self._start(work)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._closed:
                raise NotReady("the service is shutting down") from None
            task.add_done_callback(_retrieve)
            raise

    async def _poll(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._attempt(self._look)

    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        """What nobody waits for: whatever fails is said in the log, and the next time will do."""
        try:
            async with self._lock:
                await work()
        except Exception as error:  # noqa: BLE001 - polling must live as long as the service
            log.error("repository not looked at", error=type(error).__name__)

    async def _look(self) -> None:
        """Load what has changed since it was last tried and did not change since the last look; drop what has gone."""
        if (found := await self._whole_folder()) is None:
            return
        before, self._seen = self._seen, {key: package.stamp for key, package in found.items()}
        for package in found.values():
            settled = before.get(package.key) == package.stamp
            if settled and package.has_manifest and self._tried.get(package.key) != package.stamp:
                await self._try(package)
        self._drop(self._names(found), found)

    async def _load_one(self, name: str) -> None:
        async with self._lock:
            try:
                found = await self._in_thread(look, self._root)
            except PackageError as error:
                self._note_trouble(str(error))
                raise NotReady("load: the folder of the packages cannot be read; the log says why") from error
            mine = [package for package in found.values() if package.name == name]
            if not mine:
                raise UnknownModel(f"Request for unknown model: there is no package of it in {self._root.name}/")
            self._repository().unloaded.discard(name)
            refused = await self._load_changed(mine)
            self._drop([name], found)
            reasons = "; ".join(f"{key}: {error}" for key, error in refused.items())
            if any(isinstance(error, InferenceError) for error in refused.values()):
                raise NotReady(reasons)
            if refused:
                raise InvalidRequest("load", reasons)

    async def _load_all(self) -> None:
        if (found := await self._whole_folder()) is not None:
            await self._load_changed(found.values())
            self._drop(self._names(found), found)

    async def _whole_folder(self) -> dict[str, Found] | None:
        """What is there; None, which is no reason to act, where it cannot be seen or was all taken away."""
        try:
            found = await self._in_thread(look, self._root)
            if not found and self._repository().models:
                raise PackageError(f"{self._root}: empty all of a sudden; what is loaded is kept")
        except PackageError as error:
            self._note_trouble(str(error))
            return None
        self._note_trouble(None)
        return found

    async def _load_changed(self, packages: Iterable[Found]) -> dict[str, PlumblineError]:
        """Also what was refused before: who asks may know why it is another matter now. What is refused, and why."""
        refused = {}
        for package in packages:
            serves = self._repository().loaded(package.key) and package.key not in self._repository().reasons()
            if serves and self._tried.get(package.key) == package.stamp:
                continue
            error = await self._try(package)
            if error is not None:
                refused[package.key] = error
        return refused

    async def _unload(self, name: str) -> None:
        async with self._lock:
            repository = self._repository()
            known = {*repository.models, *(key.partition("/")[0] for key in (*repository.reasons(), *self._tried))}
            if name not in known:
                raise UnknownModel("Request for unknown model: there is nothing of it to unload")
            repository.unloaded.add(name)
            for key in repository.reasons():
                if key.partition("/")[0] == name:
                    repository.forget(key)
            for version in repository.versions(name):
                self._let_go(f"{name}/{version}")

    async def _try(self, package: Found) -> PlumblineError | None:
        """Load one package and exchange it for what serves under its key; why it was refused, if it was."""
        if package.name in self._repository().unloaded:
            return None
        self._tried[package.key], self._loading = package.stamp, package.key
        try:
            model = await self._read(package)
            if model is not None:
                await self._admit(model)
        except PlumblineError as error:
            self._refuse(package, error)
            return error
        finally:
            self._loading = None
        if model is None:
            self._repository().forget(package.key)
        elif not self._closed:
            self._exchanged(self._repository().put(model), model)
            log_loaded(model)
        return None

    async def _read(self, package: Found) -> Model | None:
        """The model, or None where the loaded one is of this very package."""
        loaded = self._repository().loaded(package.key)
        manifest = None if loaded is None else loaded.manifest
        del loaded  # it may be let go meanwhile
        return await self._in_thread(self._load_unless, package, manifest)

    def _load_unless(self, package: Found, manifest: Manifest | None) -> Model | None:
        if manifest is not None and package.holds(manifest):
            return None
        return self._load(package.folder)

    def _refuse(self, package: Found, error: PlumblineError) -> None:
        if isinstance(error, InferenceError):
            del self._tried[package.key]  # not the package's fault: it is tried again
        self._repository().refuse(package.key, str(error))
        self._refused(package.name, error)
        log_refused(package.key, error)

    def _names(self, found: Iterable[str]) -> set[str]:
        known = (*found, *self._tried, *self._repository().reasons(), *(model.key for model in self._repository()))
        return {key.partition("/")[0] for key in known}

    def _drop(self, names: Iterable[str], found: dict[str, Found]) -> None:
        """Let go of versions that are not in the folder, unless all that is left of a model would be refused."""
        repository = self._repository()
        for name in names:
            present = [key for key in found if key.partition("/")[0] == name]
            for key in [key for key in (*self._tried, *repository.reasons()) if key.partition("/")[0] == name]:
                if key not in found:
                    self._tried.pop(key, None)
                    repository.forget(key)
            gone = [version for version in repository.versions(name) if f"{name}/{version}" not in found]
            if present and not any(repository.loaded(key) for key in present):
                continue
            for version in gone:
                self._let_go(f"{name}/{version}")

    def _let_go(self, key: str) -> None:
        model = self._repository().loaded(key)
        if model is not None:
            self._repository().remove(model)
            self._exchanged(model, None)

    def _note_trouble(self, trouble: str | None) -> None:
        """Once, not at every look."""
        if trouble is not None and trouble != self._trouble:
            log.error("repository not looked at", reason=trouble)
        self._trouble = trouble

    def _in_thread(self, function: Callable[..., Answer], *args: Any) -> "asyncio.Future[Answer]":
        return asyncio.get_running_loop().run_in_executor(self._executor, function, *args)


def _name_and_number(key: str) -> tuple[str, int]:
    name, _, version = key.partition("/")
    return name, int(version)


def _retrieve(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()
