"""docs/your-model.md, done as it is written: its files, its commands, and the answers that it shows."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from servers import free_port

CHECKOUT = Path(__file__).parents[2]
DOCUMENT = (CHECKOUT / "docs" / "your-model.md").read_text(encoding="utf-8")
START_SECONDS = 60


def blocks(language):
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def commands():
    """The commands of all `sh` blocks, in order, continued lines joined."""
    text = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [shlex.split(command) for command in re.split(r"\n(?=python|curl)", text.strip())]


def environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
    # Converters warn of their own next release; a reader sees that too, and goes on.
    return kept | {"PYTHONPATH": str(CHECKOUT), "PYTHONWARNINGS": "ignore"}


def run(command, folder):
    """A command that begins with `python`, in `folder`; what it printed."""
    result = subprocess.run(
        [sys.executable, *command[1:]], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@contextmanager
def started(command, folder, port):
    """The service, by the document's own command but on another port, until the block is left."""
    assert command[-1] == "&"
    command = [sys.executable, *command[1:-1]]
    command[command.index("--port") + 1] = str(port)
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def post(command, port):
    """What curl would send, without curl, which not every machine has."""
    url = next(part for part in command if part.startswith("http"))
    body = command[command.index("-d") + 1]
    url = re.sub(r":\d+/", f":{port}/", url)
    headers = {"content-type": "application/json"}
    return httpx.post(url, content=body, headers=headers, trust_env=False, timeout=20).raise_for_status().json()


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Everything up to the running service: what packaging printed, what check printed, and the reply."""
    folder = tmp_path_factory.mktemp("walkthrough")
    (folder / "train.py").write_text(blocks("python")[0], encoding="utf-8")
    train, package, check, serve, curl = commands()
    run(train, folder)
    printed, checked = run(package, folder), run(check, folder)
    port = free_port()
    with started(serve, folder, port):
        return folder, printed, checked, post(curl, port)


def test_packaging_prints_what_the_document_quotes(walked):
    """Every quoted line, whatever the width of the screen."""
    printed = " ".join(walked[1].split())
    (quoted,) = blocks("text")
    for sentence in re.split(r"\n(?=Assumed|Not found|AUROC)", quoted.strip()):
        assert " ".join(sentence.split()) in printed


def test_check_accepts_the_package(walked):
    """The line that begins with ok."""
    assert walked[2].startswith("ok       credit/1: 3 features, binary")


def test_the_service_answers_as_the_document_shows(walked):
    """The same label and probability, to the digits that are shown."""
    shown, (reply,) = json.loads(blocks("json")[0]), [walked[3]]
    assert {key: reply[key] for key in ("model_name", "model_version")} == {
        "model_name": "credit",
        "model_version": "1",
    }
    (expected,), (found,) = shown["predictions"], reply["predictions"]
    assert found["label"] == expected["label"]
    assert found["threshold"] == expected["threshold"]
    assert found["probability"] == pytest.approx(expected["probability"], abs=5e-4)
    (expected,), (found,) = shown["explanations"], reply["explanations"]
    for name in ("feature_names", "status", "algorithm"):
        assert found[name] == expected[name]
    for name in ("values", "base_values", "fx"):
        np.testing.assert_allclose(found[name], expected[name], atol=5e-3)


def test_the_schema_file_of_the_document_is_accepted(walked):
    """Packaging once more with the YAML block, without writing."""
    folder, *_ = walked
    (folder / "features.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    package = commands()[1]
    printed = run([*package, "--schema", "features.yaml", "--dry-run"], folder)
    assert "thousand EUR" in printed
    assert "units and descriptions" not in printed
