"""`python -m models package` as typed: what it prints, how it refuses, and `python -m service check` on the outcome."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bringing import write_csv
from graphs import single

CHECKOUT = Path(__file__).parents[2]


def run(*arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def arguments(rows, tmp_path):
    """A complete command."""
    (tmp_path / "given.onnx").write_bytes(single("Identity").SerializeToString())
    data = write_csv(tmp_path / "rows.csv", rows.with_label(rows.y))
    files = ["--onnx", tmp_path / "given.onnx", "--data", data, "--repository", tmp_path / "repository"]
    return ["models", "package", *files, "--label", "y", "--sensitive", "sex,age_band", "--name", "credit"]


def test_a_package_is_written_and_passes_the_check(arguments, tmp_path):
    """What was understood and assumed is printed; `service check` accepts the repository."""
    result = run(*arguments, "--reference", "sex=male", "--range", "age=18:110")
    assert result.returncode == 0, result.stderr
    for words in (
        "from 18 to 110",
        "female, male",
        "Assumed: The output `score` is a margin",
        "Not found: ranges of 2",
    ):
        assert words in result.stdout
    assert "wrote credit version 1: 9 files" in result.stderr
    checked = run("service", "check", tmp_path / "repository")
    assert checked.returncode == 0
    assert "ok       credit/1" in checked.stdout
    card = run("models", "card", "credit", "--repository", tmp_path / "repository")
    assert card.stdout == (tmp_path / "repository" / "credit" / "1" / "card.md").read_text()


def test_a_dry_run_reports_and_writes_nothing(arguments, tmp_path):
    """The same report."""
    result = run(*arguments, "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "Assumed" in result.stdout
    assert "nothing was written" in result.stderr
    assert not (tmp_path / "repository").exists()


def test_a_refusal_is_one_line_with_exit_code_1(arguments, tmp_path):
    """No traceback, nothing written, and what had been understood until then is shown."""
    result = run(*arguments, "--threshold", "0.5", "--positive", "maybe")
    assert result.returncode == 1
    assert "error: --positive: unknown label 'maybe'" in result.stderr
    assert "Traceback" not in result.stderr
    assert "output score" in result.stdout
    assert not (tmp_path / "repository").exists()


def test_check_refuses_a_damaged_package_with_the_reason(arguments, tmp_path):
    """A changed byte, a missing file, an edited promise: exit code 1, and which package it is."""
    assert run(*arguments).returncode == 0
    folder = tmp_path / "repository" / "credit" / "1"
    sound = {path.name: path.read_bytes() for path in folder.iterdir()}
    damages = {
        "model.onnx": (sound["model.onnx"] + b" ", "digest differs"),
        "golden.json": (None, "golden.json cannot be read"),
        "manifest.json": (sound["manifest.json"].replace(b'"threshold": 0.5', b'"threshold": 1.5'), "threshold"),
    }
    for name, (content, reason) in damages.items():
        (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
        checked = run("service", "check", tmp_path / "repository")
        assert checked.returncode == 1
        assert "refused  credit/1" in checked.stdout
        assert reason in checked.stdout
        (folder / name).write_bytes(sound[name])
