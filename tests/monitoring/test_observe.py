"""`make observe`: a service under traffic, watched by the real Prometheus, and nothing left when it ends."""

import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from servers import CHECKOUT, environment, eventually

from k8s.monitoring.observe import NotStarted, Parts, prometheus_settings

START_SECONDS, SCRAPE_SECONDS, STOP_SECONDS = 60, 60, 30


@contextmanager
def observing(folder, **environ):
    """The running command and what it has printed, `printed()`; killed at the end if it is still there."""
    output = folder / "output"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "k8s.monitoring.observe"],
            cwd=CHECKOUT,
            env=environment() | environ,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        assert eventually(lambda: "Ctrl-C" in output.read_text(), seconds=START_SECONDS), output.read_text()
        yield process, output.read_text
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        finally:
            process.kill()


def address(printed, name):
    """HOST:PORT behind a name."""
    return re.search(rf"^{name} +http://(127\.0\.0\.1:\d+)", printed, re.MULTILINE)[1]


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ended(process, how, printed):
    """Ends it; it leaves neither a process nor a file."""
    started, folder = children(process.pid), Path(re.search(r"Logs +(/\S+)", printed())[1])
    assert started
    assert folder.is_dir()
    process.send_signal(how)
    assert process.wait(STOP_SECONDS) == 0, printed()
    assert printed().endswith("ending\n")
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert not folder.exists()


def test_prometheus_sees_the_service_and_records_series(tmp_path):
    """From the printed addresses alone; then an interrupt ends all of it."""
    for program in ("prometheus", "prometheus-alertmanager"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed (Debian: {program})")
    with observing(tmp_path) as (process, printed):
        service, prometheus, alertmanager = (
            address(printed(), name) for name in ("Service", "Prometheus", "Alertmanager")
        )
        http = httpx.Client(base_url=f"http://{prometheus}", trust_env=False, timeout=10)

        def values(expression):
            answer = http.get("/api/v1/query", params={"query": expression}).json()
            return [float(series["value"][1]) for series in answer["data"]["result"]]

        with http:
            assert eventually(lambda: values("up") == [1], seconds=SCRAPE_SECONDS)
            recorded = 'model_group:plumbline_selection_rate:ratio_increase2m{sensitive_feature="sex"}'
            assert eventually(lambda: len(values(recorded)) >= 2, seconds=SCRAPE_SECONDS)
            (told,) = http.get("/api/v1/alertmanagers").json()["data"]["activeAlertmanagers"]
            assert alertmanager in told["url"]
        report = httpx.get(f"http://{service}/v1/models/diagnosis/fairness?window=1h", trust_env=False, timeout=10)
        assert report.status_code == 200
        ended(process, signal.SIGINT, printed)


def test_without_prometheus_it_says_what_is_missing_and_serves(tmp_path):
    """The reports are there, and the traffic runs."""
    with observing(tmp_path, PATH=str(tmp_path)) as (process, printed):
        assert re.search(r"^Missing +prometheus \(Debian: apt-get install prometheus\)", printed(), re.MULTILINE)
        assert "Prometheus  " not in printed()
        with httpx.Client(base_url=f"http://{address(printed(), 'Service')}", trust_env=False) as http:
            assert eventually(lambda: "plumbline_predictions_total{" in http.get("/metrics").text)
        ended(process, signal.SIGTERM, printed)


def test_a_part_that_ends_is_told_with_its_last_words(tmp_path):
    """Instead of waiting for it."""
    with ExitStack() as stack:
        parts = Parts(tmp_path, stack)
        parts.start("service", sys.executable, "-c", "print('the reason'); raise SystemExit(3)")
        with pytest.raises(NotStarted, match=r"service has ended with exit code 3:\nthe reason"):
            parts.wait_for("service", "http://127.0.0.1:1/")


def test_prometheus_is_told_of_alertmanager_only_where_there_is_one():
    """Else it would log an error every few seconds."""
    assert "alerting" not in prometheus_settings("127.0.0.1:1", None)
    assert "127.0.0.1:2" in str(prometheus_settings("127.0.0.1:1", "127.0.0.1:2")["alerting"])
