"""`reference.json`: what the model's inputs, scores and explanations looked like when it was packaged.

Drift is measured against these frozen bins and counts. Later parts of the file may be absent: a package of an older
release, or data without labels or groups, has nothing to compare with there, and is served all the same.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.errors import PackageError
from service.manifest import REFERENCE_FILE, Feature, Label, Manifest, parse_part

# What float64 counts exactly.
Count = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(ge=0, le=1)]
Counts = list[Count]
Edges = Annotated[list[float], Field(min_length=2)]
# Enough of a digest to tell the references of one model apart.
ID_DIGITS = 12


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BinCounts(_Part):
    """Rows by bin; those below the first edge, from the last edge on, of no declared category, and missing."""

    bins: Counts
    underflow: Count = 0
    overflow: Count = 0
    other: Count = 0
    missing: Count = 0

    @property
    def n(self) -> int:
        """All rows."""
        return sum(self.bins) + self.underflow + self.overflow + self.other + self.missing


class Observed(_Part):
    """The range of the training rows."""

    minimum: float
    maximum: float


class FeatureReference(_Part):
    """One feature: bin i holds edges[i] <= x < edges[i+1]; a binary or categorical one has a bin for each value."""

    name: str
    kind: Literal["numeric", "integer", "binary", "categorical"]
    edges: Edges | None = None
    categories: list[str] | None = None
    counts: BinCounts
    observed: Observed | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.edges is None) == (self.categories is None):
            raise ValueError("either edges or categories are expected")
        _check_bins(self.edges, self.categories, self.counts)
        return self


class ScoreReference(_Part):
    """The probability of one class."""

    label: Label = Field(alias="class")
    edges: Edges
    counts: BinCounts

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        _check_bins(self.edges, None, self.counts)
        return self


class GroupReference(_Part):
    """Rows of one group; `scores` counts the probability of the positive class in the bins of that class."""

    n: Count
    positives: Count | None = None
    scores: BinCounts | None = None


class Calibrator(_Part):
    """Score -> probability of the positive class, linear between the points, constant beyond them; from n rows."""

    method: Literal["isotonic", "sigmoid"]
    n: Count
    scores: Annotated[list[Share], Field(min_length=1)]
    probabilities: list[Share]

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if len(self.scores) != len(self.probabilities) or sorted(set(self.scores)) != self.scores:
            raise ValueError("scores must ascend, with one probability each")
        return self


class Calibrators(_Part):
    """That of all rows, and by sensitive feature and group those of the groups with rows enough for their own."""

    pooled: Calibrator
    groups: dict[str, dict[str, Calibrator]] = {}


class FeatureAttribution(_Part):
    """Share of the mean |SHAP value| that this feature has.

    `deviation` s makes the standard error of a share from n rows s / sqrt(n).
    """

    name: str
    share: Share
    deviation: float = Field(ge=0)


class AttributionReference(_Part):
    """What explanations of n reference rows were made of, for the class that the monitor explains."""

    n: Annotated[Count, Field(ge=1)]
    features: list[FeatureAttribution]


class Reference(_Part):
    """The whole file; features in the order of the manifest."""

    n: Count
    data_fingerprint: str
    features: list[FeatureReference]
    scores: list[ScoreReference] = []
    groups: dict[str, dict[str, GroupReference]] = {}
    calibrators: Calibrators | None = None
    attributions: AttributionReference | None = None

    def check(self, manifest: Manifest) -> None:
        """Raise PackageError unless this is about the features and classes of `manifest`."""
        mine = [(feature.name, feature.kind) for feature in self.features]
        if mine != [(feature.name, feature.kind) for feature in manifest.features]:
            raise PackageError(f"{REFERENCE_FILE}: its features are not those of the manifest")
        for reference, feature in zip(self.features, manifest.features, strict=True):
            if reference.categories != _categories(feature):
                raise PackageError(f"{REFERENCE_FILE}: the categories of {feature.name} are not those of the manifest")
        labels = [score.label for score in self.scores]
        if any(label not in manifest.classes for label in labels):
            raise PackageError(f"{REFERENCE_FILE}: scores of a class that the manifest does not have")
        if len(set(labels)) < len(labels):
            raise PackageError(f"{REFERENCE_FILE}: scores of a class that stands there twice")
        if self.attributions and [part.name for part in self.attributions.features] != manifest.feature_names:
            raise PackageError(f"{REFERENCE_FILE}: its attributions are not about the features of the manifest")
        self._check_groups(manifest)

    def _check_groups(self, manifest: Manifest) -> None:
        """The data may have groups that are not declared, `unknown` for one, but of declared sensitive features."""
        of_data = self.groups.keys() | (self.calibrators.groups.keys() if self.calibrators else set())
        if not of_data <= {feature.name for feature in manifest.sensitive_features}:
            raise PackageError(f"{REFERENCE_FILE}: groups of a sensitive feature that the manifest does not have")
        cells = [len(score.counts.bins) for score in self.scores if score.label == manifest.positive_class]
        for group in (group for groups in self.groups.values() for group in groups.values()):
            if group.scores is not None and [len(group.scores.bins)] != cells:
                raise PackageError(f"{REFERENCE_FILE}: scores of groups need the bins of the positive class")


def read_reference(contents: dict[str, bytes], manifest: Manifest) -> Reference | None:
    """The reference among the verified files of a package, None without one. Raises PackageError if it is wrong."""
    if REFERENCE_FILE not in contents:
        return None
    reference = parse_part(contents[REFERENCE_FILE], REFERENCE_FILE, Reference)
    reference.check(manifest)
    return reference


def reference_id(manifest: Manifest) -> str:
    """What series say of the reference they were counted for: the beginning of its digest."""
    return manifest.digests[REFERENCE_FILE].removeprefix("sha256:")[:ID_DIGITS]


def _categories(feature: Feature) -> list[str] | None:
    return ["0", "1"] if feature.kind == "binary" else feature.categories


def _check_bins(edges: list[float] | None, categories: list[str] | None, counts: BinCounts) -> None:
    if edges is not None and sorted(set(edges)) != edges:
        raise ValueError("edges must ascend")
    expected = len(edges) - 1 if edges is not None else len(categories or ())
    if len(counts.bins) != expected:
        raise ValueError(f"counts of {expected} bins are expected")
