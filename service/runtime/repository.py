"""The models that are loaded: packages read from disk, checked, and each with its session and its batcher.

Knows the repository's layout `NAME/VERSION/` and when a model may answer. Knows no HTTP.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from service.errors import NotReady, PackageError, PlumblineError, ProviderError, UnknownModel
from service.manifest import (
    CARD_FILE,
    DOUBLED_EXPLAINER_FILE,
    EXPLAINER_FILE,
    GOLDEN_FILE,
    MODEL_FILE,
    MODEL_NAME,
    MODEL_VERSION,
    Golden,
    Manifest,
    parse_part,
    read_manifest,
    verify_digests,
)
from service.reference import Reference, read_reference
from service.runtime.batcher import Batcher
from service.runtime.explainer import Explainer, open_explainer
from service.runtime.session import Session, open_session

log = structlog.get_logger(__name__)

# A longer name, or one of other characters, cannot be a model's and is not repeated.
LONGEST_ECHOED_NAME = 100

Observe = Callable[[str, str], Callable[[int, float], None]]
# Raises PackageError for a package that the service as it is set up must not serve.
Accept = Callable[[Manifest, Reference | None], None]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Model:
    """One loaded version: its promises, its session, its queue."""

    manifest: Manifest
    golden: Golden
    session: Session
    batcher: Batcher
    card: str | None
    explainer: Explainer | None = None
    doubled: Explainer | None = None
    reference: Reference | None = None

    @property
    def key(self) -> str:
        """`NAME/VERSION`."""
        return f"{self.manifest.name}/{self.manifest.version}"


@dataclass(frozen=True, slots=True)
class Runtime:
    """How sessions and batchers are built; the part of the settings that this layer needs."""

    device: str = "cpu"
    threads: int = 1
    max_batch_rows: int = 256
    max_queue_rows: int = 4096
    gpu_memory_bytes: int = 0


def _observe_nothing(name: str, version: str) -> Callable[[int, float], None]:
    return lambda rows, seconds: None


@dataclass(slots=True)
class Repository:
    """Every version of every model that is loaded, and why the others are not.

    `models` and the dictionaries in it are exchanged, never changed, so that other threads may look at them. Who takes
    a `Model` from here keeps it until the request is answered: that is what lets an exchanged one drain.
    """

    models: dict[str, dict[int, Model]] = field(default_factory=dict)
    # NAME/VERSION -> why, of what was refused at start: not ready. `refusals` are later ones: what served goes on.
    failures: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    pinned: Mapping[str, int] = field(default_factory=dict)
    unloaded: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[Model]:
        for versions in self.models.values():
            yield from versions.values()

    def latest(self, name: str) -> Model:
        """The default version of `name`: the pinned one, else the highest.

        Raises UnknownModel, or NotReady if it was found and refused, or is pinned and not loaded.
        """
        versions = self.models.get(name)
        if not versions:
            raise self._absent(name)
        model = self.default(name)
        if model is None:
            raise NotReady(f"the default version of model {name!r} is not loaded; see /v2/health/ready")
        return model

    def default(self, name: str) -> Model | None:
        """The same, or None."""
        versions = self.models.get(name, {})
        return versions.get(self.pinned.get(name, max(versions, default=0)))

    def version(self, name: str, version: str) -> Model:
        """Exactly this version. Raises UnknownModel, or NotReady if it was found and refused."""
        versions = self.models.get(name)
        if not versions:
            raise self._absent(name)
        if MODEL_VERSION.fullmatch(version) and len(version) <= 18 and int(version) in versions:
            return versions[int(version)]
        if f"{name}/{version}" in self.reasons():
            raise NotReady(f"this version of {name!r} was refused at load; see /v2/health/ready")
        raise UnknownModel(f"Request for unknown model: {name!r} has no such version")

    def versions(self, name: str) -> list[int]:
        """The loaded versions of `name`, ascending."""
        return sorted(self.models.get(name, ()))

    def loaded(self, key: str) -> Model | None:
        """The model with this key, if it is loaded."""
        name, _, version = key.partition("/")
        return self.models.get(name, {}).get(int(version))

    def reasons(self) -> dict[str, str]:
        """NAME/VERSION -> why the package that was last seen there was refused."""
        return self.failures | self.refusals

    def put(self, model: Model) -> Model | None:
        """Serve `model` from now on; what served under its version until now, if anything did."""
        name, version = model.manifest.name, int(model.manifest.version)
        before = self.models.get(name, {})
        self.models = self.models | {name: before | {version: model}}
        self.forget(model.key)
        return before.get(version)

    def remove(self, model: Model) -> None:
        """Serve `model` no longer."""
        name, version = model.manifest.name, int(model.manifest.version)
        left = {number: other for number, other in self.models[name].items() if number != version}
        others = {other: versions for other, versions in self.models.items() if other != name}
        self.models = others | {name: left} if left else others

    def refuse(self, key: str, reason: str) -> None:
        """Note why a package that came later is not served."""
        kind = "failures" if key in self.failures else "refusals"
        setattr(self, kind, getattr(self, kind) | {key: reason})

    def forget(self, key: str) -> None:
        """There is nothing to say of this package any more."""
        self.failures = {other: reason for other, reason in self.failures.items() if other != key}
        self.refusals = {other: reason for other, reason in self.refusals.items() if other != key}

    def why_not_ready(self) -> list[str]:
        """Reasons, empty when all that was there at start and each default version is loaded, and there is one."""
        reasons = [f"{key}: {reason}" for key, reason in self.failures.items()]
        reasons += [
            f"{name}: its default version, {version}, is not loaded"
            for name, version in self.pinned.items()
            if version not in self.models.get(name, {}) and name not in self.unloaded
        ]
        return reasons or ([] if self.models else ["no model is loaded"])

    def _absent(self, name: str) -> Exception:
        if name in self.unloaded:
            return UnknownModel(f"Request for unknown model: {name!r} is unloaded")
        if any(key.partition("/")[0] == name for key in self.reasons()):
            return NotReady(f"model {name!r} was refused at load; see /v2/health/ready")
        possible = MODEL_NAME.fullmatch(name) and len(name) <= LONGEST_ECHOED_NAME
        return UnknownModel(f"Request for unknown model: {repr(name) if possible else 'it'} is not found")

    async def close(self) -> None:
        """Let every batcher finish what it runs."""
        for model in self:
            await model.batcher.close()


def find_packages(root: Path) -> list[Path]:
    """The folders `root/NAME/VERSION`, by name and version. Other files and folders are ignored.

    Raises PackageError if `root` is not a folder, or one cannot be listed: what cannot be seen has not gone.
    """
    if not root.is_dir():
        raise PackageError(f"{root}: no such folder")
    models = [folder for folder in _folders(root) if MODEL_NAME.fullmatch(folder.name)]
    found = [folder for model in models for folder in _folders(model) if MODEL_VERSION.fullmatch(folder.name)]
    return sorted(found, key=lambda folder: (folder.parent.name, int(folder.name)))


def _folders(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.is_dir()]
    except FileNotFoundError:  # it went in between
        return []
    except OSError as error:
        raise PackageError(f"{folder}: cannot be read: {error.strerror}") from error


def _accept_all(manifest: Manifest, reference: Reference | None) -> None:
    pass


def load_package(
    folder: Path, runtime: Runtime, observe: Observe = _observe_nothing, accept: Accept = _accept_all
) -> Model:
    """Read, verify, build, warm up and check one package.

    Raises PackageError if anything disagrees with its manifest, ProviderError if it cannot run on the asked device.
    """
    with _step("manifest"):
        manifest = read_manifest(folder)
    with _step("files"):
        contents = verify_digests(folder, manifest)
        card = _text(contents, CARD_FILE)
    with _step("reference"):
        reference = read_reference(contents, manifest)
    with _step("series"):
        accept(manifest, reference)
    with _step("golden_rows"):
        golden = parse_part(contents[GOLDEN_FILE], GOLDEN_FILE, Golden)
    with _step("graph"):
        session = open_session(
            contents[MODEL_FILE],
            manifest,
            device=runtime.device,
            threads=runtime.threads,
            memory_bytes=runtime.gpu_memory_bytes,
            max_rows=runtime.max_batch_rows,
        )
    with _step("golden_rows"):
        session.warm_up(golden, max_rows=runtime.max_batch_rows)
    batcher = Batcher(
        session.run,
        max_batch_rows=runtime.max_batch_rows,
        max_queue_rows=runtime.max_queue_rows,
        seconds=session.seconds,
        inline=not session.on_gpu,
        observe=observe(manifest.name, manifest.version),
    )
    with _step("explainer"):
        explainer, doubled = (
            open_explainer(
                contents[name],
                manifest,
                device=session.device,
                may_move=runtime.device == "auto",
                memory_bytes=runtime.gpu_memory_bytes,
            )
            if name in contents
            else None
            for name in (EXPLAINER_FILE, DOUBLED_EXPLAINER_FILE)
        )
    return Model(manifest, golden, session, batcher, card, explainer, doubled, reference)


@contextmanager
def _step(name: str) -> Iterator[None]:
    """What is refused inside is refused in this step, one of LOADING_STEPS."""
    try:
        yield
    except PackageError as error:
        error.step = name
        raise


def _text(contents: dict[str, bytes], file_name: str) -> str | None:
    try:
        return contents[file_name].decode() if file_name in contents else None
    except UnicodeDecodeError as error:
        raise PackageError(f"{file_name} is not UTF-8") from error


def open_repository(
    root: Path,
    load: Callable[[Path], Model],
    *,
    pinned: Mapping[str, int],
    refused: Callable[[str, PlumblineError], None] = lambda name, error: None,
) -> Repository:
    """Load every package under `root`. One that is refused is logged and kept with its reason, not served."""
    repository = Repository(pinned=pinned)
    for folder in find_packages(root):
        key = f"{folder.parent.name}/{folder.name}"
        try:
            model = load(folder)
        except (PackageError, ProviderError) as error:
            repository.failures[key] = str(error)
            log_refused(key, error)
            refused(folder.parent.name, error)
            continue
        repository.put(model)
        log_loaded(model)
    return repository


def log_loaded(model: Model) -> None:
    """Say what serves from now on."""
    log.info(
        "model loaded",
        model=model.key,
        provider=model.session.provider,
        device=model.session.device,
        digest=model.manifest.digests[MODEL_FILE],
    )


def log_refused(key: str, error: Exception) -> None:
    """Say what does not serve, and why."""
    log.error("model refused", model=key, reason=str(error))
