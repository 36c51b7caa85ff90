"""Load from `wrk`, a closed loop: each connection sends its next request when it has its answer.

Knows wrk's command line and what it prints; nothing of the servers.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.errors import MeasurementFailed

UNIT_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
# What wrk may take longer than it was told to, until it counts as stuck.
GRACE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of wrk, every request answered with 2xx or 3xx."""

    requests_per_second: float
    p50_seconds: float
    p99_seconds: float


def write_script(path: Path, body: bytes) -> None:
    """A Lua script at `path` that makes every request of wrk a POST of `body`, JSON that holds no `]====]`."""
    path.write_bytes(
        b'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = [====[' + body + b"]====]\n"
    )


def run_wrk(url: str, script: Path, *, connections: int, seconds: int, core: int) -> Measurement:
    """Load `url` from one thread pinned to `core`. Raises MeasurementFailed as `parse_wrk` does, or if wrk fails."""
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    try:
        run = subprocess.run(
            [*command, "-s", str(script), url], capture_output=True, text=True, timeout=seconds + GRACE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementFailed(f"wrk did not end {GRACE_SECONDS} s after its time") from error
    if run.returncode:
        raise MeasurementFailed(f"wrk: {(run.stderr or run.stdout).strip()}")
    return parse_wrk(run.stdout)


def parse_wrk(output: str) -> Measurement:
    """What `wrk --latency` printed.

    Raises MeasurementFailed if a request failed, if none was answered, or if a figure is not there.
    """
    for line in output.splitlines():
        if line.strip().startswith(("Non-2xx", "Socket errors")):
            raise MeasurementFailed(f"not every request was answered well: {line.strip()}")
    rate = float(_find(r"^Requests/sec:\s+([\d.]+)$", output)[1])
    if rate == 0:
        raise MeasurementFailed("no request was answered in the time of the run")
    return Measurement(
        requests_per_second=rate,
        p50_seconds=_percentile(50, output),
        p99_seconds=_percentile(99, output),
    )


def _percentile(percent: int, output: str) -> float:
    found = _find(rf"^\s+{percent}(?:\.0+)?%\s+([\d.]+)(us|ms|s|m|h)$", output)
    return float(found[1]) * UNIT_SECONDS[found[2]]


def _find(pattern: str, output: str) -> re.Match[str]:
    found = re.search(pattern, output, re.MULTILINE)
    if found is None:
        raise MeasurementFailed(f"wrk printed no line like {pattern}")
    return found
