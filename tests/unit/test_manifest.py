"""What a manifest may promise, and what it may not."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.errors import PackageError
from service.manifest import Feature, Manifest, SensitiveFeature, digest_bytes, read_manifest, verify_digests

DIGEST = "sha256:" + "0" * 64


def promise(**changes: Any) -> dict[str, Any]:
    return {
        "name": "credit",
        "version": "1",
        "task": "binary",
        "link": "logit",
        "created_at": "2026-01-01T00:00:00Z",
        "description": "Will it be paid back?",
        "classes": ["paid", "default"],
        "positive_class": "default",
        "favourable_outcome": "paid",
        "threshold": 0.3,
        "features": [{"name": "income", "kind": "numeric", "minimum": 0}],
        "sensitive_features": [{"name": "sex", "groups": ["female", "male"], "reference_group": "male"}],
        "digests": {"model.onnx": DIGEST, "golden.json": DIGEST},
        "provenance": {"seed": 7, "data_fingerprint": "x"},
    } | changes


def test_manifest_survives_its_json() -> None:
    """What is written is what is read, labels with their JSON type."""
    manifest = Manifest.model_validate(promise(classes=[0, 1], positive_class=1, favourable_outcome=0))
    assert Manifest.model_validate_json(manifest.to_json()) == manifest
    assert manifest.classes == [0, 1]
    assert manifest.positive_index == 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "../up"}, "name"),
        ({"version": "01"}, "version"),
        ({"version": "0"}, "version"),
        ({"classes": ["paid", "paid"]}, "repeat"),
        ({"classes": ["a", "b", "c"]}, "two classes"),
        ({"positive_class": "maybe"}, "positive_class"),
        ({"favourable_outcome": None}, "states positive_class"),
        ({"threshold": None}, "threshold"),
        ({"threshold": 1.5}, "threshold"),
        ({"link": "softmax"}, "link"),
        ({"task": "multiclass"}, "no threshold"),
        ({"features": []}, "features"),
        ({"features": [{"name": "a", "kind": "numeric"}, {"name": "a", "kind": "binary"}]}, "repeat"),
        ({"intersections": [["sex", "age"]]}, "age"),
        ({"digests": {"model.onnx": DIGEST}}, "golden.json"),
        ({"digests": {"model.onnx": "md5:0", "golden.json": DIGEST}}, "digests"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_incoherent_manifest_is_refused(changes: dict[str, Any], complaint: str) -> None:
    """The message names what is wrong."""
    with pytest.raises(ValidationError, match=complaint):
        Manifest.model_validate(promise(**changes))


@pytest.mark.parametrize(
    "feature",
    [
        {"kind": "categorical"},
        {"kind": "numeric", "categories": ["a"]},
        {"kind": "categorical", "categories": ["a", "a"]},
        {"kind": "categorical", "categories": ["a"], "minimum": 0},
        {"kind": "binary", "maximum": 1},
        {"kind": "numeric", "minimum": 2, "maximum": 1},
        {"kind": "numeric", "maximum": 1e39},
        {"kind": "integer", "maximum": 2**24 + 1},
    ],
)
def test_incoherent_feature_is_refused(feature: dict[str, Any]) -> None:
    """Ranges, kinds and categories must fit each other and float32."""
    with pytest.raises(ValidationError):
        Feature.model_validate({"name": "f"} | feature)


def test_data_value_other_is_a_group_and_the_reserved_other_is_not() -> None:
    """Groups are verbatim and case-sensitive; `unknown`, `declined` and `other` are reserved."""
    assert SensitiveFeature(name="race", groups=["Other", "A"], reference_group="A").groups == ["Other", "A"]
    with pytest.raises(ValidationError, match="reserved"):
        SensitiveFeature(name="race", groups=["other", "A"], reference_group="A")


def test_manifest_of_another_package_is_refused(tmp_path: Path) -> None:
    """A copied folder does not answer under a new name."""
    folder = tmp_path / "mortgage" / "1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(Manifest.model_validate(promise()).to_json())
    with pytest.raises(PackageError, match="credit/1"):
        read_manifest(folder)


def test_changed_file_is_refused_and_right_ones_are_returned(tmp_path: Path) -> None:
    """Callers get the very bytes that were checked."""
    files = {"model.onnx": b"graph", "golden.json": b"rows"}
    digests = {name: digest_bytes(content) for name, content in files.items()}
    manifest = Manifest.model_validate(promise(digests=digests))
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert verify_digests(tmp_path, manifest) == files
    (tmp_path / "golden.json").write_bytes(b"other rows")
    with pytest.raises(PackageError, match=r"golden\.json is not the file"):
        verify_digests(tmp_path, manifest)


def test_digest_cannot_name_a_file_outside_the_package(tmp_path: Path) -> None:
    """A manifest is not a way to read the machine's files."""
    digests = {"model.onnx": DIGEST, "golden.json": DIGEST, "../secret": DIGEST}
    with pytest.raises(PackageError, match="of the package only"):
        verify_digests(tmp_path, Manifest.model_validate(promise(digests=digests)))
