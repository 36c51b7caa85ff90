"""`python -m service ...`: what it prints, and the exit code that a script can rely on."""

import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
import toy
from servers import CHECKOUT, environment, eventually

REPOSITORY = "models/repository"


def test_check_says_what_each_package_is(command, toys):
    """Exit code 0 and a line for each."""
    result = command("check", toys, "--device", "cpu")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("ok ") for line in lines)
    assert "toy/10: 5 features, binary, CPUExecutionProvider" in result.stdout
    assert "trio/1: 2 features, multiclass" in result.stdout


def test_check_fails_with_the_reason_if_one_package_is_refused(command, tmp_path):
    """Exit code 1; the good one is still reported."""
    toy.write_toy(tmp_path)
    broken = toy.write_toy(tmp_path, name="broken")
    (broken / "model.onnx").write_bytes(b"x")
    result = command("check", tmp_path)
    assert result.returncode == 1
    assert "refused  broken/1: model.onnx is not the file that was packaged" in result.stdout
    assert "ok       toy/1" in result.stdout
    assert result.stderr == ""


def test_check_fails_for_a_gpu_that_is_not_there(command, toys):
    """The device is part of what is checked."""
    result = command("check", toys, "--device", "cuda:7")
    assert result.returncode == 1
    assert "refused  toy/10: cuda:7 was asked for" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("check", "/nonexistent"), "/nonexistent: no such folder"),
        (("check", "/etc/hostname"), "/etc/hostname: no such folder"),
        (("check", "docs"), "there is no package"),
        (("serve", "--models", "/nonexistent"), "/nonexistent: no such folder"),
        (("serve", "--port", "70000"), "PLUMBLINE_PORT: "),
        (("serve", "--device", "tpu"), "PLUMBLINE_DEVICE: "),
        (("replay", "nope"), "holds no model 'nope'"),
        (("replay", "diagnosis", "--models", "/nonexistent"), "/nonexistent: no such folder"),
        (("replay", "diagnosis", "--shift", "nope=2"), "no numeric feature; there are mean_radius, "),
        (("replay", "diagnosis", "--bias", "sex=other"), "no group of sex; there are female, male"),
        (("replay", "diagnosis", "--after", "5"), "--after and --for say when"),
    ],
    ids=" ".join,
)
def test_a_command_that_makes_no_sense_says_why(command, arguments, reason):
    """Exit code 2 and one line, no stack trace."""
    result = command(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("plumbline: ")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("serve",), ("check", REPOSITORY), ("replay", "diagnosis")], ids=" ".join)
def test_a_misspelt_setting_stops_every_command(command, arguments):
    """Before anything else happens."""
    result = command(*arguments, modles="x")
    assert result.returncode == 2
    assert "PLUMBLINE_MODLES" in result.stderr
    assert "Traceback" not in result.stderr


def test_serve_ends_if_its_port_is_taken(command, toys):
    """It does not stay up without it, and the log says why."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = command("serve", "--models", toys, "--port", taken.getsockname()[1])
    assert result.returncode > 0
    assert "address already in use" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize("model", ["diagnosis", "progression", "transaction"])
def test_replay_sends_held_out_rows_to_each_committed_model(command, committed, model):
    """Every row is a good request; a summary, and exit code 0."""
    result = command("replay", model, "--url", committed.url, "--rate", 200, "--count", 40)
    assert result.returncode == 0, result.stdout
    assert f"unseen rows of {model}/1" in result.stdout
    assert "40 x 200; p50 " in result.stdout


def test_replay_sends_batches_and_says_when_they_change(command, start):
    """Every row counts, every truth is posted, and the service sees the shifted values and the exchanged groups."""
    server = start(CHECKOUT / REPOSITORY)
    scenario = "--shift", "mean_texture=1.4", "--bias", "sex=male", "--after", 1, "--for", 0.5
    sending = "--rate", 20, "--count", 40, "--batch", 8, "--outcomes", 1
    result = command("replay", "diagnosis", "--url", server.url, *sending, *scenario)
    assert result.returncode == 0, result.stdout
    assert "40 x 200; outcomes 40 x 200; p50 " in result.stdout
    assert "\n1 s: mean_texture x 1.4, sex male gets unfavourable rows\n" in result.stdout
    assert "s: as recorded\n" in result.stdout
    joined = [line for line in server.metrics().splitlines() if 'model_name="diagnosis",result="joined"' in line]
    assert [line.split()[-1] for line in joined] == ["320.0"]


def rows_run(server):
    """How many rows of `diagnosis` the service has run."""
    found = re.search(r'plumbline_batch_rows_sum\{model_name="diagnosis",model_version="1"\} (\S+)', server.metrics())
    return float(found[1])


@contextmanager
def endless_replay(url):
    """A running replay, killed at the end if it is still there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "replay", "diagnosis", "--url", url, "--rate", "50", "--count", "0"],
        cwd=CHECKOUT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_replay_without_end_ends_when_told_to(committed, ending):
    """With what it has sent answered, a summary and exit code 0: a container stops at once."""
    before = rows_run(committed)
    with endless_replay(committed.url) as process:
        assert eventually(lambda: rows_run(committed) > before), "nothing was sent"
        process.send_signal(ending)
        printed, _ = process.communicate(timeout=20)
    assert process.returncode == 0, printed
    assert " x 200" in printed
    assert "Traceback" not in printed


def test_a_second_signal_ends_a_replay_that_waits_for_answers():
    """Nobody has to wait until requests to a service that hangs have timed out."""
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, endless_replay(f"http://127.0.0.1:{silent.getsockname()[1]}") as process:
        connection, _ = silent.accept()
        with connection:
            assert eventually(lambda: process.send_signal(signal.SIGTERM) or process.poll() is not None)
    assert process.returncode == -signal.SIGTERM


def test_replay_fails_if_the_service_refuses(command, committed, tmp_path):
    """A model that the service does not know: every request counts as failed."""
    folder = toy.write_toy(tmp_path)
    (folder / "replay.jsonl").write_text('{"instance": {"amount": 1}}\n')
    toy.seal(folder)
    result = command("replay", "toy", "--models", tmp_path, "--url", committed.url, "--rate", 200, "--count", 3)
    assert result.returncode == 1
    assert "3 x 404" in result.stdout


def test_replay_fails_if_nobody_answers(command):
    """A closed port is an outcome, not a crash."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = command("replay", "diagnosis", "--url", f"http://127.0.0.1:{port}", "--rate", 200, "--count", 3)
    assert result.returncode == 1
    assert "3 x error" in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:port", "ftp://127.0.0.1"])
def test_replay_refuses_an_address_that_is_none(command, url):
    """Without a stack trace."""
    result = command("replay", "diagnosis", "--url", url, "--rate", 200, "--count", 1)
    assert result.returncode in (1, 2)
    assert "Traceback" not in result.stderr


def test_replay_refuses_a_package_without_rows(command, tmp_path):
    """It says which file is missing."""
    toy.write_toy(tmp_path)
    result = command("replay", "toy", "--models", tmp_path)
    assert result.returncode == 2
    assert "has no replay.jsonl" in result.stderr


def test_replay_refuses_a_package_with_an_empty_file_of_rows(command, tmp_path):
    """It says so instead of looking for a row for ever."""
    folder = toy.write_toy(tmp_path)
    (folder / "replay.jsonl").write_text("")
    toy.seal(folder)
    result = command("replay", "toy", "--models", tmp_path, "--count", 1)
    assert result.returncode == 2
