"""The model package's manifest: what training promises serving.

Knows names, types, ranges, classes, groups and digests. Knows neither ONNX Runtime nor HTTP nor how a model is made;
both the offline package and the service read and write through these classes, so that a promise means one thing.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from service.errors import PackageError

MODEL_FILE = "model.onnx"
EXPLAINER_FILE = "explainer.onnx"
DOUBLED_EXPLAINER_FILE = "explainer-doubled.onnx"
BACKGROUND_FILE = "background.npy"
GOLDEN_FILE = "golden.json"
REFERENCE_FILE = "reference.json"
CARD_FILE = "card.md"
REPLAY_FILE = "replay.jsonl"
MANIFEST_FILE = "manifest.json"

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MODEL_VERSION = re.compile(r"[1-9][0-9]*")

RESERVED_GROUPS = ("unknown", "declined", "other")
LARGEST_FLOAT32 = 3.4028234663852886e38
# Above this, float32 no longer holds every whole number, and a model would see a neighbour of what was sent.
LARGEST_EXACT_INTEGER = 2**24

Label = StrictStr | StrictInt | StrictBool
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


Part = TypeVar("Part", bound=BaseModel)


def digest_bytes(content: bytes) -> str:
    """SHA-256 of `content` in the form that manifests carry, `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _distinct(values: list[Any]) -> list[Any]:
    # 0 == False in Python, yet both are labels: compare with the type.
    if len({(type(value), value) for value in values}) != len(values):
        raise ValueError("must not repeat a value")
    return values


Distinct = AfterValidator(_distinct)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Feature(_Part):
    """One column of `X`, in the caller's own units.

    `minimum` and `maximum` (inclusive) are what is possible, declared by hand; never the observed range.
    A categorical feature enters `X` as the index of its value in `categories`; a missing value as NaN. `reason` is what
    a person is told when this feature pushed toward the adverse decision; `{value}` in it stands for value and unit.
    """

    name: str = Field(min_length=1, max_length=200)
    kind: Literal["numeric", "integer", "binary", "categorical"]
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    nullable: bool = False
    description: str = ""
    reason: str | None = None
    categories: Annotated[list[str], Field(min_length=1), Distinct] | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.kind == "categorical") != (self.categories is not None):
            raise ValueError("categories belong to a categorical feature, and to no other")
        low, high = self.bounds
        if self.kind in ("binary", "categorical"):
            if self.minimum is not None or self.maximum is not None:
                raise ValueError(f"a {self.kind} feature has no minimum or maximum")
        elif low > high:
            raise ValueError("minimum must not exceed maximum")
        elif max(abs(low), abs(high)) > LARGEST_FLOAT32:
            raise ValueError("minimum and maximum must be representable as float32")
        elif self.kind == "integer" and max(abs(low), abs(high)) > LARGEST_EXACT_INTEGER:
            raise ValueError(f"an integer feature lies within +-{LARGEST_EXACT_INTEGER}, where float32 is exact")
        return self

    def accepts(self, number: float | None) -> bool:
        """Whether `number`, as it stands in `X` (None for missing), is a value of this feature."""
        if number is None:
            return self.nullable
        if self.categories is not None:
            return number in range(len(self.categories))
        low, high = self.bounds
        return low <= number <= high and (self.kind == "numeric" or number == int(number))

    def reason_text(self, value: Any) -> str:
        """The reason with this value, as posted."""
        shown = "missing" if value is None else f"{value} {self.unit}" if self.unit else str(value)
        template = self.reason or f"{self.name.replace('_', ' ')}: {{value}}"
        return template.replace("{value}", shown)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest accepted value: the declared ones, else what float32 can hold."""
        if self.kind == "binary":
            return 0.0, 1.0
        widest = LARGEST_EXACT_INTEGER if self.kind == "integer" else LARGEST_FLOAT32
        low = -widest if self.minimum is None else self.minimum
        high = widest if self.maximum is None else self.maximum
        return low, high


class SensitiveFeature(_Part):
    """An attribute that callers may send for the monitor. The model never sees it."""

    name: str = Field(min_length=1, max_length=200)
    groups: Annotated[list[str], Field(min_length=1, max_length=20), Distinct]
    reference_group: str

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if reserved := sorted(set(self.groups) & set(RESERVED_GROUPS)):
            raise ValueError(f"reserved group names: {', '.join(reserved)}")
        if self.reference_group not in self.groups:
            raise ValueError("reference_group must be one of groups")
        return self


class Plan(_Part):
    """What decides the numbers of an estimate, and how many rows of the model it takes."""

    plan_id: Digest
    n_evals: int = Field(ge=0)


class ExplainerInfo(_Part):
    """How `explainer.onnx` explains, and what its calibration measured.

    `plan_id` covers everything that decides the numbers; `n_evals` counts the model rows behind one explanation;
    `background_id` is the digest of the rows that the explainer averages over. `doubled`, of an estimate, describes
    `explainer-doubled.onnx`, which is run where a caller's tolerance asks for more.
    """

    algorithm: Literal["linear", "tree", "enumeration", "stratified_wls"]
    plan_id: Digest
    n_evals: int = Field(ge=0)
    background_rows: int = Field(ge=1)
    background_id: Digest
    doubled: Plan | None = None
    calibration: dict[str, Any] = {}

    @property
    def exact(self) -> bool:
        """Whether the values carry no sampling error."""
        return self.algorithm != "stratified_wls"


class Provenance(_Part):
    """Where the model comes from: enough to train it again and get the same digests."""

    seed: int
    data_fingerprint: str
    libraries: dict[str, str] = {}
    metrics: dict[str, Any] = {}


class Manifest(_Part):
    """The contract of one model package.

    `classes` are in the column order of the graph's `probability` output. In a binary model `threshold` applies to the
    probability of `positive_class`; a multi-class model answers with the most probable class and has no threshold.
    """

    name: str = Field(pattern=f"^{MODEL_NAME.pattern}$", max_length=100)
    version: str = Field(pattern=f"^{MODEL_VERSION.pattern}$", max_length=18)
    task: Literal["binary", "multiclass"]
    link: Literal["logit", "softmax", "identity"]
    created_at: str
    description: str
    classes: Annotated[list[Label], Field(min_length=2), Distinct]
    positive_class: Label | None = None
    favourable_outcome: Label | None = None
    threshold: float | None = Field(default=None, ge=0, le=1)
    features: Annotated[list[Feature], Field(min_length=1)]
    sensitive_features: list[SensitiveFeature] = []
    intersections: list[Annotated[list[str], Field(min_length=2), Distinct]] = []
    explainer: ExplainerInfo | None = None
    digests: dict[str, Digest]
    provenance: Provenance

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        _check_names("features", (feature.name for feature in self.features))
        sensitive = [feature.name for feature in self.sensitive_features]
        _check_names("sensitive_features", sensitive)
        if unknown := sorted({name for names in self.intersections for name in names} - set(sensitive)):
            raise ValueError(f"intersections name undeclared sensitive features: {', '.join(unknown)}")
        if self.task == "binary":
            self._check_binary()
        elif self.threshold is not None:
            raise ValueError("a multi-class model has no threshold")
        if len({str(label) for label in self.classes}) != len(self.classes):
            raise ValueError("classes must differ as text: that is how metrics and probabilities name them")
        for role in ("positive_class", "favourable_outcome"):
            if getattr(self, role) is not None and getattr(self, role) not in self.classes:
                raise ValueError(f"{role} must be one of classes")
        if (self.explainer is not None) != (EXPLAINER_FILE in self.digests):
            raise ValueError(f"explainer and a digest of {EXPLAINER_FILE} belong together")
        if (self.explainer is not None and self.explainer.doubled is not None) != (
            DOUBLED_EXPLAINER_FILE in self.digests
        ):
            raise ValueError(f"explainer.doubled and a digest of {DOUBLED_EXPLAINER_FILE} belong together")
        if MODEL_FILE not in self.digests or GOLDEN_FILE not in self.digests:
            raise ValueError(f"digests must name {MODEL_FILE} and {GOLDEN_FILE}")
        return self

    def _check_binary(self) -> None:
        if len(self.classes) != 2:
            raise ValueError("a binary model has two classes")
        if self.link == "softmax":
            raise ValueError("a binary model's link is logit or identity")
        if self.positive_class is None or self.favourable_outcome is None or self.threshold is None:
            raise ValueError("a binary model states positive_class, favourable_outcome and threshold")

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns of `X`, in order."""
        return [feature.name for feature in self.features]

    @cached_property
    def positive_index(self) -> int:
        """Column of `probability` that belongs to `positive_class` (binary models)."""
        return self.classes.index(self.positive_class)  # type: ignore[arg-type]

    def to_json(self) -> str:
        """The manifest as it stands in `manifest.json`, with a trailing newline."""
        return self.model_dump_json(indent=1, exclude_none=True) + "\n"


def _check_names(where: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{where} repeat the name {name!r}")
        seen.add(name)


class Golden(_Part):
    """Rows whose answer is known: `rows` `(8, d)`, null where `X` holds NaN; `the rest as the graph gives it."""

    rows: Annotated[list[list[float | None]], Field(min_length=1)]
    margin: list[list[float]]
    probability: list[list[float]]

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        for name in ("rows", "margin", "probability"):
            table: list[list[Any]] = getattr(self, name)
            if len(table) != len(self.rows) or len({len(row) for row in table}) != 1:
                raise ValueError(f"{name} must hold {len(self.rows)} rows of equal length")
        return self

    def check(self, features: list[Feature]) -> None:
        """Raise PackageError unless every row is one that a caller may post."""
        for number, row in enumerate(self.rows):
            if len(row) != len(features):
                raise PackageError(f"golden row {number} has {len(row)} values, the manifest names {len(features)}")
            for feature, value in zip(features, row, strict=True):
                if not feature.accepts(value):
                    raise PackageError(f"golden row {number}: {feature.name} does not accept its value")


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder/manifest.json`, where folder is `.../NAME/VERSION`.

    Raises PackageError, naming the field, if it is absent, malformed, or that of another package.
    """
    manifest = parse_part(_read(folder, MANIFEST_FILE), MANIFEST_FILE, Manifest)
    if (manifest.name, manifest.version) != (folder.parent.name, folder.name):
        raise PackageError(f"{MANIFEST_FILE} is that of {manifest.name}/{manifest.version}")
    return manifest


def parse_part(content: bytes, file_name: str, kind: type[Part]) -> Part:
    """Parse the JSON `content` of `file_name` as `kind`; PackageError says which field is wrong."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PackageError(f"{file_name}: {where or 'whole'}: {first['msg']}") from error


def verify_digests(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """Read every file that the manifest vouches for and return its bytes by name.

    Raises PackageError for a file that is absent or is not the one that was packaged. Callers build from the returned
    bytes, so that what was checked is what runs.
    """
    contents: dict[str, bytes] = {}
    for file_name, expected in sorted(manifest.digests.items()):
        if Path(file_name).name != file_name:
            raise PackageError("digests may name files of the package only")
        contents[file_name] = _read(folder, file_name)
        if digest_bytes(contents[file_name]) != expected:
            raise PackageError(f"{file_name} is not the file that was packaged (its digest differs)")
    return contents


def _read(folder: Path, file_name: str) -> bytes:
    try:
        return (folder / file_name).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise PackageError(f"{file_name} cannot be read: {getattr(error, 'strerror', 'impossible name')}") from error
