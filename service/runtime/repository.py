"""The models that are loaded: packages read from disk, checked, and each with its session and its batcher.

Knows the repository's layout `NAME/VERSION/` and when a model may answer. Knows no HTTP.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from service.errors import NotReady, PackageError, ProviderError, UnknownModel
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
from service.runtime.explainer import Explainer
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


def _observe_nothing(name: str, version: str) -> Callable[[int, float], None]:
    return lambda rows, seconds: None


@dataclass(slots=True)
class Repository:
    """Every version of every model that is loaded, and why the others are not."""

    models: dict[str, dict[int, Model]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Model]:
        for versions in self.models.values():
            yield from versions.values()

    def latest(self, name: str) -> Model:
        """The highest version of `name`. Raises UnknownModel, or NotReady if it was found and refused."""
        versions = self.models.get(name)
        if not versions:
            if any(key.partition("/")[0] == name for key in self.failures):
                raise NotReady(f"model {name!r} was refused at load; see /v2/health/ready")
            possible = MODEL_NAME.fullmatch(name) and len(name) <= LONGEST_ECHOED_NAME
            raise UnknownModel(f"Request for unknown model: {repr(name) if possible else 'it'} is not found")
        return versions[max(versions)]

    def version(self, name: str, version: str) -> Model:
        """Exactly this version. Raises UnknownModel, or NotReady if it was found and refused."""
        newest = self.latest(name)
        if MODEL_VERSION.fullmatch(version) and len(version) <= 18 and int(version) in self.models[name]:
            return self.models[name][int(version)]
        if f"{name}/{version}" in self.failures:
            raise NotReady(f"this version of {name!r} was refused at load; see /v2/health/ready")
        raise UnknownModel(f"Request for unknown model: {newest.manifest.name!r} has no such version")

    def why_not_ready(self) -> list[str]:
        """Reasons, empty when every package found is loaded and checked and there is at least one."""
        reasons = [f"{key}: {reason}" for key, reason in self.failures.items()]
        return reasons or ([] if self.models else ["no model is loaded"])

    async def close(self) -> None:
        """Let every batcher finish what it runs."""
        for model in self:
            await model.batcher.close()


def find_packages(root: Path) -> list[Path]:
    """The folders `root/NAME/VERSION`, by name and version. Other files and folders are ignored.

    Raises PackageError if `root` is not a folder.
    """
    if not root.is_dir():
        raise PackageError(f"{root}: no such folder")
    found = [
        folder
        for folder in root.glob("*/*")
        if folder.is_dir() and MODEL_NAME.fullmatch(folder.parent.name) and MODEL_VERSION.fullmatch(folder.name)
    ]
    return sorted(found, key=lambda folder: (folder.parent.name, int(folder.name)))


def _accept_all(manifest: Manifest, reference: Reference | None) -> None:
    pass


def load_package(
    folder: Path, runtime: Runtime, observe: Observe = _observe_nothing, accept: Accept = _accept_all
) -> Model:
    """Read, verify, build, warm up and check one package.

    Raises PackageError if anything disagrees with its manifest, ProviderError if it cannot run on the asked device.
    """
    manifest = read_manifest(folder)
    contents = verify_digests(folder, manifest)
    card = _text(contents, CARD_FILE)
    reference = read_reference(contents, manifest)
    accept(manifest, reference)
    golden = parse_part(contents[GOLDEN_FILE], GOLDEN_FILE, Golden)
    session = open_session(contents[MODEL_FILE], manifest, device=runtime.device, threads=runtime.threads)
    session.warm_up(golden, max_rows=runtime.max_batch_rows)
    batcher = Batcher(
        session.run,
        max_batch_rows=runtime.max_batch_rows,
        max_queue_rows=runtime.max_queue_rows,
        seconds=session.seconds,
        observe=observe(manifest.name, manifest.version),
    )
    explainer, doubled = (
        Explainer(contents[name], manifest, device=session.device) if name in contents else None
        for name in (EXPLAINER_FILE, DOUBLED_EXPLAINER_FILE)
    )
    return Model(manifest, golden, session, batcher, card, explainer, doubled, reference)


def _text(contents: dict[str, bytes], file_name: str) -> str | None:
    try:
        return contents[file_name].decode() if file_name in contents else None
    except UnicodeDecodeError as error:
        raise PackageError(f"{file_name} is not UTF-8") from error


def open_repository(
    root: Path, runtime: Runtime, observe: Observe = _observe_nothing, accept: Accept = _accept_all
) -> Repository:
    """Load every package under `root`. One that is refused is logged and kept with its reason, not served."""
    repository = Repository()
    for folder in find_packages(root):
        key = f"{folder.parent.name}/{folder.name}"
        try:
            model = load_package(folder, runtime, observe, accept)
        except (PackageError, ProviderError) as error:
            repository.failures[key] = str(error)
            log.error("model refused", model=key, reason=str(error))
            continue
        repository.models.setdefault(folder.parent.name, {})[int(folder.name)] = model
        log.info(
            "model loaded",
            model=key,
            provider=model.session.provider,
            device=model.session.device,
            digest=model.manifest.digests[MODEL_FILE],
        )
    return repository
