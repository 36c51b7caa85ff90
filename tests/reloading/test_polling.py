"""PLUMBLINE_POLL_SECONDS: the repository's folder is looked at, and what changed there is served."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import toy
from structlog.testing import capture_logs

from service.runtime.folder import look
from service.settings import read_settings

POLL = 0.02
# Some looks, after which something that should not happen would have.
LOOKS = 10 * POLL


@pytest.fixture
def polled(operator):
    """An operator of a service of `toy` 1 that looks often."""
    operator.write(1, bias=-4.0)
    operator.serve(poll_seconds=POLL, repository_control=False)
    return operator


def serves(operator, version, model="toy"):
    return lambda: operator.client.predict(toy.request(), model=model).json().get("model_version") == version


def test_nothing_is_looked_at_by_default() -> None:
    """Who changes a folder under a running service says when it is complete."""
    assert read_settings().poll_seconds == 0


def test_a_new_version_appears_by_a_rename(polled) -> None:
    """And a new model."""
    polled.write(2, bias=-3.0)
    assert polled.eventually(serves(polled, "2"))
    polled.write(1, name="other")
    assert polled.eventually(serves(polled, "1", "other"))


def test_a_rebuilt_version_is_exchanged(polled) -> None:
    """As soon as its manifest is another one."""
    before = polled.answer()
    polled.write(1, bias=-3.0)
    assert polled.eventually(lambda: polled.answer()[1] > before[1])


def test_a_removed_version_goes(polled) -> None:
    """What is left answers."""
    polled.write(2)
    assert polled.eventually(serves(polled, "2"))
    polled.remove(2)
    assert polled.eventually(serves(polled, "1"))
    polled.until_gone(2)
    assert polled.index() == {"toy/1": ("READY", "")}


def test_a_folder_without_a_manifest_is_not_touched(polled) -> None:
    """Nobody says that it is a package yet; with its manifest it is."""
    with tempfile.TemporaryDirectory() as aside, capture_logs() as logs:
        made = toy.write_toy(aside, version=2)
        folder = polled.models / "toy" / "2"
        folder.mkdir()
        for file in sorted(made.iterdir()):
            if file.name != "manifest.json":
                shutil.copy(file, folder)
        polled.pause(LOOKS)
        assert polled.index() == {"toy/1": ("READY", "")}
        assert not [line for line in logs if line["log_level"] == "error"]
        shutil.copy(made / "manifest.json", folder)
        assert polled.eventually(serves(polled, "2"))


def test_a_folder_that_loses_its_manifest_is_not_touched(polled) -> None:
    """Somebody rebuilds it in place."""
    (polled.models / "toy" / "1" / "manifest.json").unlink()
    polled.pause(LOOKS)
    assert polled.answer()[0] == "1"
    assert polled.index() == {"toy/1": ("READY", "")}


def test_what_is_refused_is_tried_again_when_its_files_change_and_not_before(polled) -> None:
    """Once in the log; then repaired."""
    with capture_logs() as logs:
        with tempfile.TemporaryDirectory(dir=polled.models.parent) as aside:
            made = toy.write_toy(aside, version=2)
            (made / "model.onnx").write_bytes(b"x")
            polled.place(made, polled.models / "toy" / "2")
        assert polled.eventually(lambda: polled.index().get("toy/2", "")[:1] == ("UNAVAILABLE",))
        polled.pause(LOOKS)
    assert len([line for line in logs if line["event"] == "model refused"]) == 1
    assert polled.metric("plumbline_model_load_failures_total", model_name="toy", step="files") == 1
    assert polled.answer()[0] == "1"
    assert polled.ready()
    polled.write(2)
    assert polled.eventually(serves(polled, "2"))


def test_a_folder_that_is_empty_all_of_a_sudden_is_taken_for_a_lost_one(polled) -> None:
    """A volume that is not mounted; said once. What was loaded serves on, and changes are seen when it is back."""
    with capture_logs() as logs:
        aside = polled.models.rename(polled.models.parent / "aside")
        polled.pause(LOOKS)
        polled.models.mkdir()
        polled.pause(LOOKS)
    said = [line["reason"] for line in logs if line["event"] == "repository not looked at"]
    assert [reason.partition(": ")[2] for reason in said] == [
        "no such folder",
        "empty all of a sudden; what is loaded is kept",
    ]
    assert polled.answer()[0] == "1"
    assert polled.ready()
    polled.models.rmdir()
    aside.rename(polled.models)
    polled.write(2)
    assert polled.eventually(serves(polled, "2"))


def test_a_model_that_cannot_be_listed_has_not_gone(polled, monkeypatch) -> None:
    """A disk that fails, rights that are wrong for a moment: what was loaded serves on."""
    list_folder = Path.iterdir

    def fail(folder):
        if folder.name == "toy":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return list_folder(folder)

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(Path, "iterdir", fail)
        polled.pause(LOOKS)
    assert [line["reason"] for line in logs if line["event"] == "repository not looked at"] == [
        f"{polled.models / 'toy'}: cannot be read: Permission denied"
    ]
    assert polled.answer()[0] == "1"
    assert polled.ready()
    polled.write(2)
    assert polled.eventually(serves(polled, "2"))


def test_files_that_cannot_be_seen_are_no_reason_to_act(tmp_path) -> None:
    """One that goes while it is looked at: the package is there, and none of its files is known."""
    folder = toy.write_toy(tmp_path)
    assert look(tmp_path)["toy/1"].has_manifest
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    [package] = look(tmp_path).values()
    assert (package.key, package.stamp, package.has_manifest) == ("toy/1", (), False)


def test_an_unloaded_model_stays_unloaded(operator) -> None:
    """Looking is no reason to load what an operator unloaded; loading is."""
    operator.write(1)
    operator.write(name="other")
    operator.serve(poll_seconds=POLL)
    operator.unload()
    operator.write(2)
    operator.pause(LOOKS)
    assert operator.client.predict(toy.request()).status_code == 404
    assert operator.load().status_code == 200
    assert operator.answer()[0] == "2"
