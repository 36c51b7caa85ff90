"""`bench gpu` with a GPU that is pretended, without one, and without shap. No figure is judged."""

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from pretend_gpu import PretendGpu
from typer.testing import CliRunner

from bench.__main__ import cli
from bench.turns import in_turns
from service.runtime import cuda

REPOSITORY = Path(__file__).parents[2] / "models" / "repository"


@pytest.fixture
def repository(tmp_path):
    """One network and the trees, with an explainer for the network only: shap needs seconds for a row of the trees."""
    shutil.copytree(REPOSITORY / "diagnosis", tmp_path / "diagnosis")
    shutil.copytree(REPOSITORY / "transaction", tmp_path / "transaction")
    path = tmp_path / "transaction" / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    (path.parent / "explainer.onnx").unlink()
    del manifest["explainer"], manifest["digests"]["explainer.onnx"]
    path.write_text(json.dumps(manifest))
    return tmp_path


@pytest.fixture
def bench(repository):
    def run(*arguments):
        result = CliRunner().invoke(cli, ["gpu", "--quick", "--repository", str(repository), *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def lines_of(output):
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in output.splitlines()]
    return [row for row in cells if len(row) > 3 and row[0] in ("diagnosis", "transaction")]


@pytest.fixture
def _shap():
    """The library, imported here because its own import warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("shap")


@pytest.fixture
def no_gpu(monkeypatch):
    """Whatever this machine has."""
    monkeypatch.setattr(cuda, "is_built_in", lambda: False)
    monkeypatch.setattr(cuda, "_devices", {})


@pytest.mark.usefixtures("no_gpu", "_shap")
def test_without_a_gpu_the_cpu_is_measured_and_that_is_said(bench):
    """With the reason, and why trees would stay on the CPU anyway."""
    output = bench()
    assert "no GPU: CPU only (this build of ONNX Runtime has no CUDA provider)" in output
    assert {row[2] for row in lines_of(output) if row[1] in ("1", "64")} == {"cpu"}
    assert "transaction runs on the CPU: ONNX Runtime has no CUDA kernel for tree ensembles." in output
    assert "transaction has no explainer." in output


@pytest.mark.usefixtures("_shap")
def test_with_a_gpu_both_are_measured_in_the_same_run(bench, monkeypatch):
    """The GPU's figures as ratios of the CPU's, and of shap's on the same device; trees have no line for the GPU."""
    gpu = PretendGpu().install(monkeypatch)
    document = json.loads(bench("--json", "--device", "0"))
    assert document["no_gpu"] is None
    assert "as cuda:0" in document["gpu"]["GPU"]
    predicted = {(row["model"], row["rows"], row["device"]) for row in document["predict"]}
    assert predicted == {
        *(("diagnosis", rows, device) for rows in (1, 64) for device in ("cpu", "cuda:0")),
        *(("transaction", rows, "cpu") for rows in (1, 64)),
    }
    explained = {(row["contender"], row["device"], row["evaluations"]) for row in document["explain"]}
    assert explained == {
        (contender, device, 31000)
        for contender in ("plumbline", "shap.KernelExplainer")
        for device in ("cpu", "cuda:0")
    }
    assert "diagnosis: margins on the GPU differ by at most 0.0e+00 from the CPU's." in document["notes"]
    assert "diagnosis: values on the GPU differ by at most 0.0e+00 from the CPU's." in document["notes"]
    assert max(rows for rows, _ in gpu.runs) == 2**15  # the evaluations of one of shap's explanations, in one run


@pytest.mark.usefixtures("_shap")
def test_the_tables_hold_a_ratio_for_each_contender(bench, monkeypatch):
    PretendGpu().install(monkeypatch)
    rows = lines_of(bench())
    assert len(rows) == (2 * 2 + 2) + 2 * 2
    assert all(float(cell) > 0 for row in rows for cell in row[4:] if cell)
    assert [row[-1] for row in rows if row[1] == "shap.KernelExplainer"] == ["1", "1"]


@pytest.mark.usefixtures("no_gpu")
def test_without_shap_it_says_so(bench, monkeypatch):
    """The serving environment has no shap."""
    monkeypatch.setitem(sys.modules, "shap", None)
    output = bench()
    assert "shap: not installed, so that there is no baseline of explanations" in output
    assert "KernelExplainer" not in output


def test_a_folder_without_packages_is_refused(tmp_path):
    """Exit code 2: nothing was measured, and nothing went wrong."""
    result = CliRunner().invoke(cli, ["gpu", "--repository", str(tmp_path)])
    assert result.exit_code == 2
    assert "there is no package" in result.stderr


def test_the_offline_package_and_its_libraries_are_not_needed():
    """Where only the serving lock is installed, the measurement still starts."""
    hidden = ("torch", "sklearn", "onnx", "skl2onnx", "threadpoolctl", "pyarrow", "models", "shap", "scipy")
    hide = f"import sys; sys.modules.update(dict.fromkeys({hidden}))"
    code = f"{hide}; from bench.__main__ import cli; cli(['gpu', '--help'])"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=REPOSITORY.parents[1], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


def test_each_function_runs_in_turn_until_it_ran_long_and_often_enough():
    """The first call of each is not counted; a fast one does not wait for a slow one."""
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "ab"}
    figures = in_turns(functions, rows=3, seconds=0.0, least_runs=2)
    assert calls == ["a", "b"] * 3
    assert {key: found.runs for key, found in figures.items()} == {"a": 2, "b": 2}
    assert all(found.p50_seconds <= found.p99_seconds for found in figures.values())
