"""A real Prometheus that scrapes one address twice a second and evaluates rules over a short window.

With an Alertmanager behind it, alerts arrive at a webhook.
"""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from datetime import datetime

import httpx
import pytest
from servers import CHECKOUT, eventually, free_port

WINDOW, INTERVAL = "2m", "2s"
SCRAPE_INTERVAL = "500ms"
START_SECONDS, STOP_SECONDS = 60, 60


def rules(*, kind="fairness", window=WINDOW, for_="0s"):
    """A rule file as the command line renders it; alerts fire while, and only while, they hold."""
    command = [sys.executable, "-m", "k8s.monitoring.render_rules", "--kind", kind, "--window", window]
    command += ["--interval", INTERVAL, "--for", for_, "--keep-firing-for", "0s"]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=60).stdout


class Prometheus:
    """A running Prometheus, asked by its HTTP API."""

    def __init__(self, http):
        self._http = http

    def query(self, expression, **at):
        """[(labels without the metric's name, value)] at one moment."""
        found = self._ask("query", query=expression, **at)["result"]
        return [
            ({name: value for name, value in series["metric"].items() if name != "__name__"}, float(series["value"][1]))
            for series in found
        ]

    def values_over(self, expression, **over):
        """The values of all series at all steps from `start` to `end`."""
        found = self._ask("query_range", query=expression, **over)["result"]
        return [float(value) for series in found for _, value in series["values"]]

    def value(self, expression, **at):
        """The value of the one series that the expression gives; None for none."""
        found = self.query(expression, **at)
        assert len(found) < 2, found
        return found[0][1] if found else None

    def alerts(self):
        """Labels of the alerts that fire now."""
        return [alert["labels"] for alert in self._ask("alerts")["alerts"] if alert["state"] == "firing"]

    def rule_errors(self):
        """What went wrong with rules so far."""
        return [rule["lastError"] for group in self._groups() for rule in group["rules"] if rule.get("lastError")]

    def evaluated_since(self, moment):
        """Whether every rule was evaluated, in the same round, after `moment` (aware datetime)."""
        return all(datetime.fromisoformat(group["lastEvaluation"]) > moment for group in self._groups())

    def _groups(self):
        return self._ask("rules")["groups"]

    def _ask(self, what, **parameters):
        response = self._http.get(f"/api/v1/{what}", params=parameters)
        assert response.status_code == 200, response.text
        return response.json()["data"]


@contextmanager
def scraping(folder, port, rule_files=None, alertmanager=None):
    """A Prometheus that scrapes 127.0.0.1:`port`, gone at the end. Skips where it is not installed.

    `rule_files` are texts, those of `rules()` by default; `alertmanager` is the port of one.
    """
    if not shutil.which("prometheus"):
        pytest.skip("Prometheus is not installed (Debian: prometheus)")
    for number, text in enumerate([rules()] if rule_files is None else rule_files):
        (folder / f"rules-{number}.yaml").write_text(text, encoding="utf-8")
    target = {"job_name": "plumbline", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    settings = {
        "global": {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": ["rules-*.yaml"],
        "scrape_configs": [target],
    }
    if alertmanager is not None:
        settings["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]}
    (folder / "prometheus.yml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    own_port = free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{own_port}",
    ]
    with started(folder / "prometheus.log", command, own_port) as http:
        yield Prometheus(http)


@contextmanager
def alerting(folder, webhook):
    """The port of an Alertmanager that tells the URL `webhook` at once; gone at the end. Skips where there is none."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if not program:
        pytest.skip("Alertmanager is not installed (Debian: prometheus-alertmanager)")
    route = {"receiver": "test", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
    settings = {"route": route, "receivers": [{"name": "test", "webhook_configs": [{"url": webhook}]}]}
    (folder / "alertmanager.yml").write_text(json.dumps(settings), encoding="utf-8")
    port = free_port()
    command = [
        program,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with started(folder / "alertmanager.log", command, port):
        yield port


@contextmanager
def started(log_file, command, port):
    """A client of the process that `command` starts at `port`, when it is ready; it is ended, whatever happens."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as http:
            assert eventually(lambda: _ready(http), seconds=START_SECONDS), log_file.read_text()
            yield http
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
