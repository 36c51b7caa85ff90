"""The whole service on a GPU that is pretended: placement, answers, explanations, and what is told about them."""

import json
from pathlib import Path

import pytest
from pretend_gpu import PretendGpu

REPOSITORY = Path(__file__).parents[2] / "models" / "repository"


@pytest.fixture
def gpu(monkeypatch):
    return PretendGpu().install(monkeypatch)


def instances(model, count):
    lines = (REPOSITORY / model / "1" / "replay.jsonl").read_text().splitlines()[:count]
    return [json.loads(line)["instance"] for line in lines]


def test_left_to_choose_each_model_runs_where_it_can(gpu, serve):
    """Networks and their explainers on the GPU, trees and theirs on the CPU; all answer as on the CPU."""
    on_gpu, on_cpu = serve(REPOSITORY, device="auto"), serve(REPOSITORY, device="cpu")
    assert on_gpu.get("/v2/health/ready").status_code == 200
    for model, device in {"diagnosis": "cuda:0", "progression": "cuda:0", "transaction": "cpu"}.items():
        assert on_gpu.get(f"/v1/models/{model}").json()["device"] == device
        body = {"instances": instances(model, 5), "explain": True}
        found, expected = (client.predict(body, model=model).json() for client in (on_gpu, on_cpu))
        for key in ("label", "probability"):
            assert [entry[key] for entry in found["predictions"]] == [entry[key] for entry in expected["predictions"]]
        values = [[entry["values"] for entry in answer["explanations"]] for answer in (found, expected)]
        assert values[0] == values[1]
    # A model and its one or two explainers: diagnosis has a doubled plan.
    assert len(gpu.sessions) == 3 + 2
    assert len(gpu.arenas) == 1
    assert len({thread for _, thread in gpu.runs}) == 1


def test_metrics_say_where_each_model_runs(gpu, serve):
    """And how many rows a run had that callers sent, not those that filled a bucket."""
    client = serve(REPOSITORY, device="auto", max_batch_rows=8)
    client.predict({"instances": instances("diagnosis", 3)}, model="diagnosis")
    metrics = client.get("/metrics").text.splitlines()
    info = {line for line in metrics if line.startswith("plumbline_model_info{")}
    assert any('"diagnosis"' in line and 'device="cuda:0"' in line and "CUDAExecution" in line for line in info)
    assert any('"transaction"' in line and 'device="cpu"' in line and "CPUExecution" in line for line in info)
    assert 'plumbline_batch_rows_sum{model_name="diagnosis",model_version="1"} 3.0' in metrics


def test_asked_for_the_gpu_what_cannot_run_there_is_not_ready(gpu, serve):
    """The others answer; the service as a whole is not ready."""
    client = serve(REPOSITORY, device="cuda:0")
    ready = client.get("/v2/health/ready")
    assert ready.status_code == 503
    reason = "transaction/1: cuda:0 was asked for, but ONNX Runtime has CUDA kernels for only a part of the graph"
    assert ready.json()["error"] == reason
    assert client.predict({"instances": instances("transaction", 1)}, model="transaction").status_code == 503
    assert client.predict({"instances": instances("diagnosis", 1)}, model="diagnosis").status_code == 200


def test_without_memory_a_request_is_answered_from_halves_or_fails_with_an_error(gpu, serve):
    """A 500 that quotes nothing; the next request that fits is answered."""
    client = serve(REPOSITORY, device="auto", gpu_memory_bytes=2**30)
    body = {"instances": instances("diagnosis", 16)}
    expected = client.predict(body, model="diagnosis").json()["predictions"]
    gpu.most_rows = 8
    halves = client.predict(body, model="diagnosis").json()["predictions"]
    assert [row["probability"] for row in halves] == [row["probability"] for row in expected]
    gpu.most_rows = 0
    failed = client.predict(body, model="diagnosis")
    assert failed.status_code == 500
    assert "memory" not in failed.text
    gpu.most_rows = 1
    assert client.predict({"instances": body["instances"][:1]}, model="diagnosis").status_code == 200
