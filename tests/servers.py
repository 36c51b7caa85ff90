"""The real server, `python -m service serve`, in a process of its own on a free port of 127.0.0.1."""

import os
import re
import secrets
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

CHECKOUT = Path(__file__).parents[1]
# Far above what it takes, also where other tests keep the machine busy.
START_SECONDS = STOP_SECONDS = 60
# Ports that systems do not give to connections or to whoever asks for any: nobody else takes one meanwhile.
PORTS = range(20_000, 32_000)


@dataclass
class Server:
    """A running `python -m service serve`."""

    process: subprocess.Popen
    log_file: Path
    port: int
    http: httpx.Client

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self):
        """Everything written to standard output and standard error so far."""
        return self.log_file.read_text()

    def predict(self, body, model="toy", **arguments):
        return self.http.post(f"/v1/models/{model}:predict", json=body, **arguments)

    def metrics(self):
        return self.http.get("/metrics").text

    def stop(self):
        """SIGTERM if it still runs, and its exit code."""
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)


def environment(**settings):
    """This environment without the service's settings but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
    return kept | {f"PLUMBLINE_{name.upper()}": str(value) for name, value in settings.items()}


def free_port():
    """A port of 127.0.0.1 for a program that cannot find one by itself."""
    while True:
        port = secrets.choice(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def eventually(claim, *, seconds=20, every=0.02):
    """Wait until `claim()` is true, asking `every` so many seconds; its last value."""
    deadline = time.monotonic() + seconds
    while not (found := claim()) and time.monotonic() < deadline:
        time.sleep(every)
    return found


@contextmanager
def running(log_file, models, python=sys.executable, **settings):
    """A Server on `models` at a free port, started and, whatever happens, gone at the end; run by `python`."""
    command = [python, "-m", "service", "serve", "--models", str(models), "--port", "0"]
    records = f"sqlite:///{log_file.with_suffix('.db')}"
    environ = environment(**{"device": "cpu", "log_format": "json", "records_url": records} | settings)
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, env=environ, stdout=log, stderr=subprocess.STDOUT)
    try:

        def address():
            return (
                re.search(r"running on http://127\.0\.0\.1:(\d+)", log_file.read_text()) or process.poll() is not None
            )

        found = eventually(address, seconds=START_SECONDS)
        assert isinstance(found, re.Match), log_file.read_text()
        port = int(found[1])
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as http:
            yield Server(process, log_file, port, http)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        finally:
            process.kill()
