"""A real Prometheus that scrapes one address twice a second and evaluates rules over a short window."""

import json
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from datetime import datetime

import httpx
import pytest
from servers import CHECKOUT, eventually

WINDOW, INTERVAL = "2m", "2s"
SCRAPE_INTERVAL = "500ms"
START_SECONDS, STOP_SECONDS = 20, 10


def rules():
    """The rule file of the window, as the command line renders it; alerts fire while, and only while, they hold."""
    command = [sys.executable, "-m", "k8s.monitoring.render_rules", "--window", WINDOW, "--interval", INTERVAL]
    command += ["--for", "0s", "--keep-firing-for", "0s"]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=30).stdout


class Prometheus:
    """A running Prometheus, asked by its HTTP API."""

    def __init__(self, http):
        self._http = http

    def query(self, expression, **at):
        """[(labels without the metric's name, value)] at one moment."""
        response = self._http.get("/api/v1/query", params={"query": expression} | at)
        assert response.status_code == 200, response.text
        found = response.json()["data"]["result"]
        return [
            ({name: value for name, value in series["metric"].items() if name != "__name__"}, float(series["value"][1]))
            for series in found
        ]

    def value(self, expression, **at):
        """The value of the one series that the expression gives; None for none."""
        found = self.query(expression, **at)
        assert len(found) < 2, found
        return found[0][1] if found else None

    def rule_errors(self):
        """What went wrong with rules so far."""
        return [rule["lastError"] for group in self._groups() for rule in group["rules"] if rule.get("lastError")]

    def evaluated_since(self, moment):
        """Whether every rule was evaluated, in the same round, after `moment` (aware datetime)."""
        return all(datetime.fromisoformat(group["lastEvaluation"]) > moment for group in self._groups())

    def _groups(self):
        return self._http.get("/api/v1/rules").json()["data"]["groups"]


@contextmanager
def scraping(folder, port):
    """A Prometheus that scrapes 127.0.0.1:`port`, gone at the end. Skips where it is not installed."""
    if not shutil.which("prometheus"):
        pytest.skip("Prometheus is not installed (Debian: prometheus)")
    (folder / "rules.yaml").write_text(rules(), encoding="utf-8")
    target = {"job_name": "plumbline", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    settings = {
        "global": {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [target],
    }
    (folder / "prometheus.yml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    own_port = _free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{own_port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{own_port}", trust_env=False, timeout=20) as http:
            assert eventually(lambda: _ready(http), seconds=START_SECONDS), (folder / "log").read_text()
            yield Prometheus(http)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        finally:
            process.kill()


def _ready(http):
    try:
        return http.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
