"""Training again gives the committed packages."""

import json
import os
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.export import write_package
from service.manifest import read_manifest, verify_digests


def test_two_trainings_give_the_same_bytes(rebuilds):
    """Different processes, working directories and hash seeds: every file is equal, the manifest included."""
    first, second = rebuilds
    assert sorted(os.listdir(first)) == sorted(os.listdir(second))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_training_again_gives_the_committed_package(rebuilds, repository):
    """Same digests on the processor and libraries the package was made with; elsewhere the same model to rounding."""
    rebuilt = read_manifest(rebuilds[0])
    committed = read_manifest(repository / rebuilt.name / "1")
    if rebuilt.provenance.libraries == committed.provenance.libraries:
        assert rebuilt.digests == committed.digests
    else:
        _assert_same_model(rebuilds[0] / "model.onnx", repository / rebuilt.name / "1" / "model.onnx")
        assert rebuilt.threshold == pytest.approx(committed.threshold, abs=1e-3)
    assert rebuilt.features == committed.features
    assert rebuilt.provenance.data_fingerprint == committed.provenance.data_fingerprint


def _assert_same_model(fresh_path, committed_path):
    # Six digits are kept of every weight; 1e-4 leaves room for a few hundred steps of another processor's rounding.
    fresh, committed = (onnx.load(path).graph for path in (fresh_path, committed_path))
    assert [node.op_type for node in fresh.node] == [node.op_type for node in committed.node]
    for one, other in zip(fresh.initializer, committed.initializer, strict=True):
        np.testing.assert_allclose(numpy_helper.to_array(one), numpy_helper.to_array(other), rtol=1e-4, atol=1e-4)


def test_what_a_rebuild_depends_on_is_recorded(package):
    """The manifest names the libraries and the kind of processor."""
    libraries = read_manifest(package).provenance.libraries
    assert {"scikit-learn", "onnxruntime", "onnx", "numpy", "processor"} <= libraries.keys()
    assert {"torch", "skl2onnx"} & libraries.keys()


def test_the_same_package_is_left_untouched(package, tmp_path):
    """Writing equal contents with a later created_at changes no byte and no time stamp."""
    folder = shutil.copytree(package, tmp_path / package.parent.name / "1")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    manifest = read_manifest(folder)
    later = manifest.model_copy(update={"created_at": "2030-01-01T00:00:00Z"})
    written = write_package(tmp_path, later, verify_digests(folder, manifest))
    assert written.existed
    assert written.changed == []
    assert before == {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_another_package_replaces_the_whole_folder(package, tmp_path):
    """A changed file is named, files of the old package go, and nothing unfinished stays behind."""
    folder = shutil.copytree(package, tmp_path / package.parent.name / "1")
    manifest = read_manifest(folder)
    contents = verify_digests(folder, manifest)
    (folder / "left-over.txt").write_text("of an older package")
    contents["card.md"] = b"# Another card\n"
    digests = {**manifest.digests, "card.md": "sha256:" + "0" * 64}
    written = write_package(tmp_path, manifest.model_copy(update={"digests": digests}), contents)
    assert written.changed == ["card.md", "manifest.json"]
    assert (folder / "card.md").read_bytes() == b"# Another card\n"
    assert not (folder / "left-over.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["1"]
    assert json.loads((folder / "manifest.json").read_text())["created_at"] == manifest.created_at
