"""A server under the name that Triton's clients insist on, and what clients of others find there."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from servers import CHECKOUT, environment, running

CLIENTS = Path(os.environ.get("PLUMBLINE_TEST_CLIENTS", CHECKOUT / ".venv" / "clients")) / "bin" / "python"
CLIENT_SECONDS = 240


@pytest.fixture(scope="session")
def triton(tmp_path_factory):
    """A server of the committed models that says it is `triton`."""
    repository = CHECKOUT / "models" / "repository"
    with running(tmp_path_factory.mktemp("triton") / "log", repository, server_name="triton") as server:
        yield server


@pytest.fixture(scope="session")
def clients(triton):
    """Run a script in the environment of clients; check -> "passed", or a traceback. Each script runs once."""
    reports = {}

    def run(script):
        if not CLIENTS.exists():
            pytest.skip("clients of the protocol are missing: scripts/clients")
        if script not in reports:
            finished = subprocess.run(
                [CLIENTS, Path(__file__).with_name(script), triton.url],
                env=environment(),
                capture_output=True,
                text=True,
                timeout=CLIENT_SECONDS,
                check=False,
            )
            assert finished.returncode == 0, finished.stderr
            reports[script] = json.loads(finished.stdout.rpartition("\n{")[2].join(("{", "")))
        return reports[script]

    return run
