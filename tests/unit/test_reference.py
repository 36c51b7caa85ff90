"""reference.json: what is accepted, and what is refused with the place that is wrong."""

import json
from pathlib import Path

import pytest
from frozen import ATTRIBUTIONS, CALIBRATORS, GROUPS, PARTS, SCORES, document, frozen_manifest
from pydantic import ValidationError

from service.errors import PackageError
from service.manifest import read_manifest, verify_digests
from service.reference import Reference, read_reference, reference_id

PACKAGES = sorted((Path(__file__).parents[2] / "models" / "repository").glob("*/*"))
POOLED = CALIBRATORS["pooled"]


def read(manifest=None, **changes):
    """The reference made by hand with changes, as a package's file."""
    return read_reference({"reference.json": json.dumps(document(**changes)).encode()}, manifest or frozen_manifest())


def features(number, **changes):
    """The features, one of them changed; a part changed to None is left out."""
    part = {key: value for key, value in (PARTS[number] | changes).items() if value is not None}
    return [*PARTS[:number], part, *PARTS[number + 1 :]]


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.parent.name)
def test_the_committed_packages_are_accepted(folder):
    """Whole: with calibrators and attributions."""
    manifest = read_manifest(folder)
    reference = read_reference(verify_digests(folder, manifest), manifest)
    assert [part.name for part in reference.features] == manifest.feature_names
    assert reference.calibrators is not None
    assert reference.attributions is not None
    assert reference_id(manifest) == manifest.digests["reference.json"][7:19]


def test_a_package_without_the_file_has_no_reference():
    """And is served all the same."""
    assert read_reference({}, frozen_manifest()) is None


def test_a_reference_by_hand_is_accepted():
    """With everything, as the other tests use it."""
    reference = read()
    assert reference.n == 1000
    assert reference.features[0].counts.n == 1000
    assert reference.scores[0].label == "yes"


@pytest.mark.parametrize(
    "missing",
    [
        ("calibrators",),
        ("attributions",),
        ("calibrators", "attributions", "groups"),
        ("calibrators", "attributions", "groups", "scores"),
    ],
    ids=" ".join,
)
def test_a_reference_of_an_older_release_is_accepted(missing):
    """Later parts may be absent."""
    read(**dict.fromkeys(missing))


def test_groups_without_scores_or_labels_are_accepted():
    """Counts alone."""
    reference = read(groups={"sex": {"female": {"n": 3, "positives": 1}, "male": {"n": 2}}}, calibrators=None)
    assert reference.groups["sex"]["female"].scores is None


def test_groups_of_the_data_that_are_not_declared_are_accepted():
    """Rows without a group, or of one that nobody is compared with."""
    groups = {"sex": GROUPS["sex"] | {"diverse": {"n": 1}}}
    calibrators = {"pooled": POOLED, "groups": {"sex": {"unknown": POOLED, "diverse": POOLED}}}
    assert read(groups=groups, calibrators=calibrators).groups["sex"].keys() >= {"unknown", "diverse"}


def test_counts_that_are_not_there_are_zero():
    """Older files name only what occurred."""
    counts = read().features[1].counts
    assert (counts.underflow, counts.overflow, counts.other, counts.missing) == (0, 0, 0, 0)


BINS, MORE_BINS = {"bins": [500, 300, 200]}, {"bins": [500, 300, 100, 100]}
REFUSED = {
    "a feature less": ({"features": PARTS[:-1]}, "its features are not those of the manifest"),
    "a feature more": ({"features": [*PARTS, PARTS[0]]}, "its features are not those of the manifest"),
    "another order": ({"features": PARTS[::-1]}, "its features are not those of the manifest"),
    "another name": ({"features": features(0, name="sum")}, "its features are not those of the manifest"),
    "another kind": ({"features": features(1, kind="numeric")}, "its features are not those of the manifest"),
    "no such kind": ({"features": features(1, kind="date")}, r"features\.1\.kind"),
    "other categories": (
        {"features": features(3, categories=["chip", "online", "missing"])},
        "the categories of entry are not those of the manifest",
    ),
    "binary categories": (
        {"features": features(2, categories=["no", "yes"])},
        "the categories of abroad are not those of the manifest",
    ),
    "edges for a category": (
        {"features": features(3, categories=None, edges=[0, 1, 2, 3])},
        "the categories of entry are not those of the manifest",
    ),
    "categories for a number": (
        {"features": features(1, edges=None, categories=["a", "b"])},
        "the categories of hour are not those of the manifest",
    ),
    "edges and categories": ({"features": features(1, categories=["a", "b"])}, r"features\.1.*either edges or"),
    "neither": ({"features": features(1, edges=None)}, r"features\.1.*either edges or"),
    "edges that fall": ({"features": features(1, edges=[0, 24, 6])}, r"features\.1.*edges must ascend"),
    "edges that repeat": ({"features": features(1, edges=[0, 6, 6])}, r"features\.1.*edges must ascend"),
    "one edge": ({"features": features(1, edges=[0])}, r"features\.1\.edges"),
    "an edge that is no number": ({"features": features(1, edges=[0, "six", 24])}, r"features\.1\.edges"),
    "a count too few": ({"features": features(1, counts={"bins": [1000]})}, r"features\.1.*counts of 2 bins"),
    "a count too many": ({"features": features(3, counts=MORE_BINS)}, r"features\.3.*counts of 3 bins"),
    "a negative count": ({"features": features(1, counts={"bins": [-1, 5]})}, r"features\.1\.counts\.bins\.0"),
    "half a row": ({"features": features(1, counts={"bins": [0.5, 5]})}, r"features\.1\.counts\.bins\.0"),
    "an unknown count": (
        {"features": features(1, counts={"bins": [1, 5], "lost": 3})},
        r"features\.1\.counts\.lost",
    ),
    "scores of an unknown class": ({"scores": [SCORES[0] | {"class": "maybe"}]}, "scores of a class"),
    "scores of a class of another type": ({"scores": [SCORES[0] | {"class": 1}]}, "scores of a class"),
    "scores of a class twice": ({"scores": SCORES * 2}, "scores of a class that stands there twice"),
    "too many counts of scores": ({"scores": [SCORES[0] | {"counts": MORE_BINS}]}, r"scores\.0.*counts of 3 bins"),
    "score edges that fall": ({"scores": [SCORES[0] | {"edges": [0.5, 0.25, 0.1, 0]}]}, r"scores\.0.*ascend"),
    "groups of an undeclared sensitive feature": (
        {"groups": GROUPS | {"region": {"coast": {"n": 5}}}},
        "groups of a sensitive feature that the manifest does not have",
    ),
    "calibrators of an undeclared sensitive feature": (
        {"calibrators": {"pooled": POOLED, "groups": {"region": {"coast": POOLED}}}},
        "groups of a sensitive feature that the manifest does not have",
    ),
    "group scores of another length": (
        {"groups": GROUPS | {"sex": {"female": {"n": 1000, "scores": MORE_BINS}}}},
        "scores of groups need the bins of the positive class",
    ),
    "group scores without scores": ({"scores": []}, "scores of groups need the bins of the positive class"),
    "attributions of other features": (
        {"attributions": ATTRIBUTIONS | {"features": ATTRIBUTIONS["features"][::-1]}},
        "its attributions are not about the features of the manifest",
    ),
    "a share above 1": (
        {"attributions": {"n": 5, "features": [{"name": "amount", "share": 1.5, "deviation": 0}]}},
        r"attributions\.features\.0\.share",
    ),
    "an unknown calibrator": (
        {"calibrators": {"pooled": POOLED | {"method": "beta"}}},
        r"calibrators\.pooled\.method",
    ),
    "a calibrator without points": (
        {"calibrators": {"pooled": POOLED | {"scores": [], "probabilities": []}}},
        r"calibrators\.pooled\.scores",
    ),
    "points that fall": (
        {"calibrators": {"pooled": POOLED | {"scores": [0.5, 0.1, 0.9]}}},
        r"calibrators\.pooled.*scores must ascend",
    ),
    "points that repeat": (
        {"calibrators": {"pooled": POOLED | {"scores": [0.1, 0.1, 0.9]}}},
        r"calibrators\.pooled.*scores must ascend",
    ),
    "a probability too few": (
        {"calibrators": {"pooled": POOLED | {"probabilities": [0.1, 0.9]}}},
        r"calibrators\.pooled.*one probability each",
    ),
    "a probability above 1": (
        {"calibrators": {"pooled": POOLED | {"probabilities": [0.1, 0.9, 1.1]}}},
        r"calibrators\.pooled\.probabilities\.2",
    ),
    "calibrators without a pooled one": ({"calibrators": {"groups": {}}}, r"calibrators\.pooled"),
    "a calibrator of a group": (
        {"calibrators": {"pooled": POOLED, "groups": {"sex": {"female": POOLED | {"scores": [0.3]}}}}},
        r"calibrators\.groups\.sex\.female",
    ),
    "no number of rows": ({"n": None}, r"\bn\b"),
    "no features": ({"features": None}, "features"),
    "a part nobody knows": ({"drift": []}, "drift"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_reference_is_refused_with_its_place(changes, message):
    """A package that cannot be compared with is not loaded."""
    with pytest.raises(PackageError, match=r"reference\.json.*" + message):
        read(**changes)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"n": NaN}', b"\xff"])
def test_what_is_no_reference_is_refused(content):
    """Or no JSON."""
    with pytest.raises(PackageError, match=r"reference\.json"):
        read_reference({"reference.json": content}, frozen_manifest())


def test_group_scores_need_a_positive_class():
    """Of whose scores they would be."""
    four = frozen_manifest(classes=("yes", "no", "maybe", "never"))
    with pytest.raises(PackageError, match="scores of groups need"):
        read(four)
    assert read(four, groups={}).scores[0].label == "yes"


@pytest.mark.parametrize("part", ["counts", "attributions"])
def test_counts_that_no_float_holds_or_nobody_was_explained_for_are_refused(part) -> None:
    """They would fail later, where the model answers."""
    content = json.loads(json.dumps(document()))
    if part == "counts":
        content["features"][0]["counts"]["bins"][0] = 2**63
    else:
        content["attributions"]["n"] = 0
    with pytest.raises(ValidationError):
        Reference.model_validate(content)
