"""The demonstration without containers: the service under traffic, and what this machine has to watch it.

`python -m k8s.monitoring.observe` runs until it is interrupted, listens on 127.0.0.1 and writes to a temporary folder,
nowhere else, and ends what it started. Without Prometheus the service's own reports are what there is to see.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import quote

import httpx
import typer

from k8s.monitoring.promql import ratio
from k8s.monitoring.render_rules import Kind, render

ROOT = Path(__file__).parents[2]
WINDOW, INTERVAL, SCRAPE_INTERVAL = "2m", "5s", "2s"
FOR, KEEP_FIRING_FOR = "10s", "30s"
MODEL = "diagnosis"
TRAFFIC = ("--rate", "10", "--batch", "8", "--count", "0", "--outcomes", "0.8")
CHANGE = {
    "--shift": ("mean_texture=1.4", "mean_symmetry=1.3", "texture_error=1.8"),
    "--bias": ("age_band=70+",),
}
CHANGE_SECONDS = 240
START_SECONDS, STOP_SECONDS = 60, 15


class NotStarted(Exception):
    """A part of the demonstration did not come up, or ended."""


@dataclass(slots=True)
class Parts:
    """The processes of the demonstration; each writes its log into `folder` and is ended by `stack`."""

    folder: Path
    stack: ExitStack
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *command: str, **settings: str) -> None:
        """Start one part. It has a session of its own, so that Ctrl-C reaches this process alone."""
        log = self.stack.enter_context(self._log(name).open("wb"))
        environ = os.environ | {f"PLUMBLINE_{key.upper()}": value for key, value in settings.items()}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.stack.callback(_end, process)
        self.running[name] = process

    def wait_for(self, name: str, url: str) -> None:
        """Until the part answers 200 at `url`. Raises NotStarted."""
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            self.check()
            if time.monotonic() > deadline:
                raise NotStarted(f"{name} does not answer at {url}:\n{self._tail(name)}")
            time.sleep(0.1)

    def check(self) -> None:
        """Raise NotStarted if a part has ended."""
        for name, process in self.running.items():
            if process.poll() is not None:
                raise NotStarted(f"{name} has ended with exit code {process.returncode}:\n{self._tail(name)}")

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _tail(self, name: str) -> str:
        return "\n".join(self._log(name).read_text(errors="replace").splitlines()[-10:])


def observe(parts: Parts, after: float) -> list[str]:
    """Start all that this machine has; the lines that say where to look."""
    address = f"127.0.0.1:{_port(8000)}"
    serve = sys.executable, "-m", "service", "serve"
    host, port = address.split(":")
    records = f"sqlite:///{parts.folder / 'records.db'}"
    parts.start("service", *serve, host=host, port=port, records_url=records, explain_sample_ratio="0.1")
    parts.wait_for("service", f"http://{address}/v2/health/ready")
    lines = [
        f"Service       http://{address}/docs",
        f"Reports       http://{address}/v1/models/{MODEL}/fairness?window=1h",
        f"              http://{address}/v1/models/{MODEL}/drift?window=1h",
    ]
    lines += _watch(parts, address)
    change = [f"{option}={value}" for option, values in CHANGE.items() for value in values]
    timing = "--after", str(after), "--for", str(CHANGE_SECONDS)
    replay = sys.executable, "-m", "service", "replay", MODEL, "--url", f"http://{address}"
    parts.start("replay", *replay, *TRAFFIC, *change, *timing)
    then = f"{after:g} s as recorded, then for {CHANGE_SECONDS} s {' '.join(change)}"
    return [f"Traffic       {MODEL}: {then}", *lines, f"Logs          {parts.folder}"]


def _watch(parts: Parts, service: str) -> list[str]:
    """Start Alertmanager and Prometheus where they are installed; where to look, and what is missing."""
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        return [
            "Missing       prometheus (Debian: apt-get install prometheus). Without it: no rules, alerts, dashboards"
        ]
    alertmanager, lines = _start_alertmanager(parts)
    address = f"127.0.0.1:{_port(9090)}"
    (parts.folder / "rules").mkdir()
    for kind in get_args(Kind):
        rules = render(WINDOW, kind=kind, interval=INTERVAL, for_=FOR, keep_firing_for=KEEP_FIRING_FOR)
        (parts.folder / "rules" / f"{kind}-{WINDOW}.yaml").write_text(rules, encoding="utf-8")
    settings = prometheus_settings(service, alertmanager)
    (parts.folder / "prometheus.yml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    parts.start(
        "prometheus",
        prometheus,
        f"--config.file={parts.folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={parts.folder / 'prometheus'}",
        f"--web.listen-address={address}",
    )
    parts.wait_for("prometheus", f"http://{address}/-/ready")
    graph = f"g0.tab=0&g0.range_input=10m&g0.expr={quote(ratio('selection_rate', WINDOW))}"
    return [
        f"Prometheus    http://{address}/graph?{graph}",
        f"Alerts        http://{address}/alerts",
        *lines,
        f"Dashboards    k8s/monitoring/dashboards/json, to import into a Grafana with the data source http://{address}",
    ]


def _start_alertmanager(parts: Parts) -> tuple[str | None, list[str]]:
    """Its address, None where it is not installed, and what to tell."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")  # Debian's name, its own
    if program is None:
        return None, ["Missing       alertmanager (Debian: apt-get install prometheus-alertmanager). Alerts stay above"]
    address = f"127.0.0.1:{_port(9093)}"
    parts.start(
        "alertmanager",
        program,
        f"--config.file={ROOT / 'docker' / 'alertmanager' / 'alertmanager.yml'}",
        f"--storage.path={parts.folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    )
    parts.wait_for("alertmanager", f"http://{address}/-/ready")
    return address, [f"Alertmanager  http://{address}"]


def prometheus_settings(service: str, alertmanager: str | None) -> dict[str, Any]:
    """The configuration file, as data; addresses are HOST:PORT."""
    settings: dict[str, Any] = {
        "global": {"scrape_interval": SCRAPE_INTERVAL, "scrape_timeout": SCRAPE_INTERVAL},
        "rule_files": ["rules/*.yaml"],
        "scrape_configs": [{"job_name": "plumbline", "static_configs": [{"targets": [service]}]}],
    }
    if alertmanager is not None:
        settings["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    return settings


def _port(preferred: int) -> int:
    """The preferred port of 127.0.0.1 if it is free, else a free one."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise NotStarted("no port of 127.0.0.1 is free")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(
    after: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long the traffic stays as recorded.")
    ] = 120,
) -> None:
    """Serve a model under traffic that drifts after a while, watched by the Prometheus of this machine."""
    endings = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for ending in endings:
        signal.signal(ending, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="plumbline-") as folder, ExitStack() as stack:
        parts = Parts(Path(folder), stack)
        try:
            typer.echo("\n".join([*observe(parts, after), "Ctrl-C ends all of it."]))
            while True:
                time.sleep(0.5)
                parts.check()
        except KeyboardInterrupt:
            typer.echo("\nending")
        except NotStarted as reason:
            typer.echo(f"observe: {reason}", err=True)
            sys.exit(1)
        finally:  # nothing interrupts the ending of the parts
            for ending in endings:
                signal.signal(ending, signal.SIG_IGN)


if __name__ == "__main__":
    typer.run(main)
