"""One server process on one core: started, asked until it answers, ended."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.errors import MeasurementFailed
from bench.machine import ROOT

START_SECONDS = 60.0
STOP_SECONDS = 10.0
JSON = {"content-type": "application/json"}
# Settings of the caller's shell, and tracing by coverage, would measure something else.
NOT_INHERITED = ("PLUMBLINE_", "COVERAGE_")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A process that was started, and where its output goes."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.url = url
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Of the server's process."""
        return self._process.pid

    def first_answer(self, body: bytes) -> Any:
        """The answer to a POST of `body`, as soon as the server listens. Raises MeasurementFailed if it is no 200."""
        end = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < end:
            try:
                answer = httpx.post(self.url, content=body, headers=JSON, timeout=START_SECONDS, trust_env=False)
            except httpx.ConnectError:
                time.sleep(0.1)
                continue
            except httpx.HTTPError as error:
                raise MeasurementFailed(f"{self.url}: {error!r}; {self.state()}") from error
            if answer.status_code != 200:
                raise MeasurementFailed(f"{self.url} answered {answer.status_code}: {answer.text[:500]}")
            return answer.json()
        raise MeasurementFailed(f"{self.url} did not answer; {self.state()}")

    def state(self) -> str:
        """Whether the process runs, and its last lines."""
        code = self._process.poll()
        lines = self._log.read_text(errors="replace").splitlines()[-10:]
        return "\n".join(["the server runs:" if code is None else f"the server ended with {code}:", *lines])


@contextmanager
def running(
    command: Sequence[str], url: str, *, core: int | str, log: Path, settings: dict[str, str]
) -> Iterator[Server]:
    """`command` as a process pinned to `core`, its output in `log`, `settings` in its environment; ended on leaving."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    with log.open("wb") as output:
        # taskset becomes the command, so that the process to end is the server itself.
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            cwd=ROOT,
            env=inherited | settings,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Server(process, url, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
