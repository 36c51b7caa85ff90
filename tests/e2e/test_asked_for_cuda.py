"""Asked for CUDA where there is none, with ONNX Runtime's real CUDA build: not ready, never the CPU in silence.

That build lists CUDA among its providers on any machine, and a session that asks for it gets the CPU without an error.
It must not be installed beside the other build, so it has an environment of its own, made once from the hashed lock.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys

import pytest
from servers import CHECKOUT, environment, running

INSTALL_SECONDS = 600
REPOSITORY = CHECKOUT / "models" / "repository"
MODELS = ("diagnosis", "progression", "transaction")
# A test of what happens without a GPU must not find one.
WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def cuda_build(pytestconfig):
    """The Python of an environment with onnxruntime-gpu; skips, saying why, where the wheel cannot be had."""
    folder = pytestconfig.cache.mkdir("cuda-build")
    made = subprocess.run(
        [CHECKOUT / "scripts" / "cuda-build", folder],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if made.returncode:
        reason = (made.stderr.strip().splitlines() or ["no output"])[-1]
        shutil.rmtree(folder)
        pytest.skip(f"ONNX Runtime's CUDA build cannot be installed here: {reason}")
    return folder / "bin" / "python"


@pytest.fixture
def serve(cuda_build, tmp_path, monkeypatch):
    """Start the service in that environment on the committed models: `with serve(device=...) as server`."""
    for name, value in WITHOUT_GPU.items():
        monkeypatch.setenv(name, value)
    return lambda **settings: running(tmp_path / "log", REPOSITORY, python=cuda_build, **settings)


def ask(cuda_build, code):
    run = subprocess.run([cuda_build, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return run.stdout.strip()


def log_entries(server, event):
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def instance(model):
    line = (REPOSITORY / model / "1" / "replay.jsonl").read_text().splitlines()[0]
    return json.loads(line)["instance"]


def test_this_build_claims_cuda(cuda_build):
    """Else the tests below would show nothing."""
    assert "CUDAExecutionProvider" in ask(cuda_build, "import onnxruntime as o; print(o.get_available_providers())")


def test_asked_for_cuda_the_service_is_not_ready_and_says_why(serve):
    """In health, log and metrics; no model answers."""
    with serve(device="cuda:0") as server:
        ready = server.http.get("/v2/health/ready")
        assert ready.status_code == 503
        assert server.http.get("/v2/health/live").status_code == 200
        refused = {entry["model"]: entry["reason"] for entry in log_entries(server, "model refused")}
        metrics = server.metrics().splitlines()
        for model in MODELS:
            reason = refused[f"{model}/1"]
            assert reason.startswith("cuda:0 was asked for, but ")
            assert f"{model}/1: {reason}" in ready.json()["error"]
            assert f'plumbline_model_ready{{model_name="{model}",model_version="1"}} 0.0' in metrics
            answer = server.predict({"instances": [instance(model)]}, model=model)
            assert answer.status_code == 503
            assert answer.json().keys() == {"error"}
        assert not [line for line in metrics if line.startswith(("plumbline_model_info{", "plumbline_batch_rows_sum{"))]


def test_the_reason_is_what_is_missing(serve):
    """Not that something went wrong. A machine with CUDA but without a GPU gets as far as the driver or the device."""
    with serve(device="cuda:0") as server:
        reason = server.http.get("/v2/health/ready").json()["error"]
    assert "ONNXRuntimeError" not in reason
    try:
        ctypes.CDLL("libcublasLt.so.13")
    except OSError:
        assert "cuda:0 was asked for, but the CUDA library libcublasLt.so.13 cannot be loaded" in reason


def test_left_to_choose_it_takes_the_cpu_is_ready_and_says_why(serve):
    """With predictions and explanations; the operator who meant the GPU reads a warning for each model."""
    with serve(device="auto") as server:
        assert server.http.get("/v2/health/ready").status_code == 200
        moved = log_entries(server, "the CPU runs this model")
        assert [entry["model"] for entry in moved] == [f"{model}/1" for model in MODELS]
        assert all(entry["level"] == "warning" for entry in moved)
        assert all(entry["reason"].startswith("cuda:0 was asked for, but ") for entry in moved)
        for model in MODELS:
            answer = server.predict({"instances": [instance(model)], "explain": True}, model=model)
            assert answer.status_code == 200
            assert answer.json()["explanations"][0]["status"] in ("exact", "estimate")
            assert 'provider="CPUExecutionProvider"' in server.metrics()


def test_check_refuses_what_serve_would(cuda_build):
    """Exit code 1 and the same reason, before anything is deployed."""
    command = [cuda_build, "-m", "service", "check", REPOSITORY, "--device", "cuda:0"]
    run = subprocess.run(
        command, cwd=CHECKOUT, env=environment() | WITHOUT_GPU, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 1
    assert run.stdout.count("refused  ") == len(MODELS)
    assert "cuda:0 was asked for, but " in run.stdout
    assert run.stderr == ""


def test_the_measurement_runs_with_the_serving_packages_alone(cuda_build):
    """Also on this build: the CPU's figures, and why there are no others."""
    command = [cuda_build, "-m", "bench", "gpu", "--quick", "--json"]
    environ = environment() | WITHOUT_GPU
    run = subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=120, check=True)
    document = json.loads(run.stdout)
    assert document["gpu"] is None
    assert document["no_gpu"]
    assert document["shap"] is None
    assert {(row["model"], row["device"]) for row in document["explain"]} == {(model, "cpu") for model in MODELS}
