"""The measurements: what wrk prints is understood, and each prints its table. No figure is judged."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import MeasurementFailed
from bench.load import parse_wrk, write_script

ROOT = Path(__file__).parents[2]
OUTPUT = """\
Running 5s test @ http://127.0.0.1:40001/v1/models/diagnosis:predict
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.53ms  412.00us   9.11ms   90.12%
    Req/Sec    20.81k     1.02k   22.60k    70.00%
  Latency Distribution
     50%  {p50}
     75%    1.61ms
     90%    1.80ms
     99%  {p99}
  104093 requests in 5.03s, 25.12MB read
{problem}Requests/sec:  20702.11
Transfer/sec:      5.00MB
"""


def printed(*, p50: str = "1.50ms", p99: str = "2.90ms", problem: str = "") -> str:
    return OUTPUT.format(p50=p50, p99=p99, problem=problem)


@pytest.mark.parametrize(
    ("text", "seconds"), [("492.00us", 0.000492), ("1.50ms", 0.0015), ("1.20s", 1.2), ("1.50m", 90.0)]
)
def test_latencies_are_read_in_every_unit(text: str, seconds: float):
    """Each percentile carries its own unit."""
    assert parse_wrk(printed(p50=text)).p50_seconds == pytest.approx(seconds)
    assert parse_wrk(printed(p99=text)).p99_seconds == pytest.approx(seconds)


def test_the_rate_is_that_of_the_whole_run():
    """Not the per-second rate of the thread, which wrk prints too."""
    assert parse_wrk(printed()).requests_per_second == 20702.11


@pytest.mark.parametrize(
    "problem",
    ["  Non-2xx or 3xx responses: 7\n", "  Socket errors: connect 0, read 3, write 0, timeout 0\n"],
)
def test_a_run_with_failed_requests_gives_no_figures(problem: str):
    """The message says how many failed."""
    with pytest.raises(MeasurementFailed, match=problem.strip()):
        parse_wrk(printed(problem=problem))


def test_a_run_without_an_answer_gives_no_figures():
    """On a machine that is busy otherwise; wrk prints rates and percentiles of 0 then."""
    with pytest.raises(MeasurementFailed, match="no request was answered"):
        parse_wrk(printed(p50="0.00us", p99="0.00us").replace("20702.11", "0.00"))


def test_output_without_percentiles_is_refused():
    """wrk was started without --latency, or prints something new."""
    with pytest.raises(MeasurementFailed, match="50"):
        parse_wrk("Requests/sec:  20702.11\n")


def test_the_script_posts_the_body_as_it_is(tmp_path: Path):
    """In a Lua string that knows no escapes."""
    write_script(tmp_path / "post.lua", b'{"a":[[1.5,"\\u00e9"]]}')
    assert 'wrk.body = [====[{"a":[[1.5,"\\u00e9"]]}]====]' in (tmp_path / "post.lua").read_text()


def run_http(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({} if path is None else {"PATH": path})
    command = [sys.executable, "-m", "bench", "http", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)


@pytest.fixture
def _wrk_and_two_cores():
    missing = []
    if shutil.which("wrk") is None:
        missing.append("wrk is not installed (Debian: apt-get install wrk)")
    if len(os.sched_getaffinity(0)) < 2:
        missing.append("this process may use one core only")
    if missing and os.environ.get("PLUMBLINE_TEST_REQUIRE_ALL") == "1":
        pytest.fail("; ".join(missing))
    if missing:
        pytest.skip("; ".join(missing))


@pytest.mark.usefixtures("_wrk_and_two_cores")
def test_http_prints_all_services_with_their_ratio():
    """One short round, the real service and the baseline under load."""
    run = run_http("--seconds", "3", "--rounds", "1", "--connections", "2")
    assert run.returncode == 0, run.stderr
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in run.stdout.splitlines()]
    table = {row[1]: row for row in rows if row[0] == "2"}
    assert table.keys() == {"plumbline", "no records", "no monitor", "tutorial"}
    assert "2 connections: the monitor alone adds" in run.stdout
    heading = next(row for row in rows if "ratio" in row)
    assert float(table["plumbline"][heading.index("ratio")]) > 0
    assert {line.partition(":")[0] for line in run.stdout.splitlines()} >= {"CPU", "Python", "onnxruntime", "commit"}


def test_http_without_wrk_says_so_and_stops(tmp_path: Path):
    """Exit code 2: nothing was measured, and nothing went wrong."""
    run = run_http(path=str(tmp_path))
    assert run.returncode == 2
    assert "wrk is needed and not installed" in run.stderr


@pytest.mark.parametrize("connections", ["", "0", "1,many", "1,,2"])
def test_http_refuses_connections_that_are_no_numbers(connections: str):
    """Before anything is started."""
    run = run_http("--connections", connections)
    assert run.returncode == 2
    assert "numbers from 1 to 10000" in run.stderr


def printed_rows(*arguments: str) -> list[list[str]]:
    run = subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert run.returncode == 0, run.stderr
    lines = [line.strip() for line in run.stdout.splitlines()]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_alerts_prints_false_alarms_and_power():
    """A row for each size and selection rate; the same seed gives the same figures."""
    rows = printed_rows("alerts", "--runs", "5")
    assert len(rows) == 2 + 4 * 3
    assert rows[2][:2] == ["100", "10%"]
    assert all(0 <= float(cell.removesuffix(" %")) <= 100 for row in rows[2:] for cell in row[2:])
    assert printed_rows("alerts", "--runs", "5") == rows
    assert printed_rows("alerts", "--runs", "5", "--seed", "8") != rows


def test_monitor_prints_what_it_adds_to_a_request():
    """Alone, watched, and the difference of the two."""
    figures = {row[0]: row[1] for row in printed_rows("monitor", "--requests", "3000", "--rounds", "1")[2:]}
    assert figures.keys() == {"alone", "watched", "the monitor's part"}
    assert float(figures["watched"]) > 0


def run_score(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "score", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)


def test_score_prints_both_rates_their_ratio_memory_and_the_bad_row():
    """One request of few rows: it checks itself that all were answered."""
    run = run_score("--rows", "2000", "--rounds", "1")
    assert run.returncode == 0, run.stderr
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in run.stdout.splitlines()]
    table = {row[0]: float(row[1]) for row in rows if row[0] in ("bare session.run", ":score")}
    assert len(table) == 2
    assert all(rate > 0 for rate in table.values())
    assert ["2000 rows", "median rows/s", "(range)", "server CPU ms", "client CPU ms"] in rows
    said = " ".join(run.stdout.split())
    assert re.search(r"ratio \d+\.\d\d, of the best \d+\.\d\d; the server grew by \d+ MB at most", said)
    assert "row 1400 spoilt: 1400 rows were answered, then was told: row 1400, mean_radius: a finite number" in said
    for what in ("alone", "beside scoring"):
        assert re.search(rf"single predictions {what}: p50 \d+\.\d\d ms, p99 \d+\.\d\d ms", said)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("transaction", "bench score: the model has features that are not numbers"),
        ("nope", "holds no model of this name with a replay.jsonl"),
    ],
)
def test_score_refuses_a_model_that_it_cannot_fill(model: str, message: str):
    """Exit code 2: nothing was started."""
    run = run_score("--model", model)
    assert run.returncode == 2
    assert message in run.stderr
