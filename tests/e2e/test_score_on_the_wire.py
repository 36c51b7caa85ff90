"""`:score` over a socket: both directions at once, callers who stop or leave; memory; the command line."""

import contextlib
import http.client
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from rows import ARROW, Answers, arrow, table
from servers import CHECKOUT, environment, eventually

HEAD = "POST /v1/models/{model}:score HTTP/1.1\r\nhost: test\r\ncontent-type: {type}\r\n{more}\r\n\r\n"


def head(more, model="toy"):
    return HEAD.format(model=model, type=ARROW["content-type"], more=more).encode()


def chunked(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.fixture
def connect():
    opened = []

    def open_one(server):
        opened.append(socket.create_connection(("127.0.0.1", server.port), timeout=20))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


def finish(connection):
    """The status and the answers, read to the end of the response."""
    response = http.client.HTTPResponse(connection, method="POST")
    response.begin()
    return response.status, response.read()


def resident(server):
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def halves(rows=100):
    """A stream of two batches, cut in the middle of the second."""
    body = arrow(table(*[{}] * rows), batch_rows=rows // 2)
    return body[: -rows // 2], body[-rows // 2 :]


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_answers_come_before_the_body_has_ended(server, connect, framing):
    """The first batch is answered while the second is awaited; then another request on the same connection."""
    first, second = halves()
    connection = connect(server)
    if framing == "length":
        connection.sendall(head(f"content-length: {len(first) + len(second)}") + first)
    else:
        connection.sendall(head("transfer-encoding: chunked") + chunked(first))
    early = b""
    while b"legitimatefraud" not in early:
        early += connection.recv(1)
    rest = second if framing == "length" else chunked(second) + b"0\r\n\r\n"
    connection.sendall(rest)
    while not early.endswith(b"\r\n0\r\n\r\n"):
        early += connection.recv(65536)
    connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: test\r\n\r\n")
    assert finish(connection) == (200, b'{"live":true}')


def test_a_long_upload_may_take_longer_than_a_request(start, connect):
    """As long as something comes; when nothing does, the answer says so and ends."""
    server = start(request_timeout_seconds=1)
    first, second = halves()
    for lasting in (True, False):
        connection = connect(server)
        connection.sendall(head(f"content-length: {len(first) + len(second)}\r\nconnection: close") + first)
        for place in range(6 if lasting else 0):
            time.sleep(0.25)
            connection.sendall(second[place : place + 1])
        if lasting:
            connection.sendall(second[6:])
        status, content = finish(connection)
        found = Answers(content)
        assert (status, found.rows) == (200, 100 if lasting else 50)
        assert found.error == (None if lasting else "body: it did not arrive in time")


def test_a_bad_row_is_told_while_the_caller_still_sends(server, connect):
    """The rest of the body is read and forgotten, and the connection goes on."""
    rows = table(*[{}] * 300_000)
    hours = rows["hour"].to_numpy().copy()
    hours[200_000] = 99
    body = arrow(rows.set_column(1, "hour", pa.array(hours)), batch_rows=50_000)
    connection = connect(server)
    connection.sendall(head(f"content-length: {len(body)}") + body)
    status, content = finish(connection)
    assert status == 200
    assert Answers(content).rows == 200_000
    connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: test\r\n\r\n")
    assert finish(connection) == (200, b'{"live":true}')


def test_a_caller_who_leaves_frees_the_place(start, connect):
    """Two places: two callers who send nothing more hold them, a third is told to come back, until one leaves."""
    server = start(max_scorings=2)
    first, _ = halves()
    held = [connect(server) for _ in range(2)]
    for connection in held:
        connection.sendall(head("content-length: 1000000") + first)
        connection.recv(1)
    body = arrow(table())
    refused = server.http.post("/v1/models/toy:score", content=body, headers=ARROW)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    held[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    held[0].close()
    assert eventually(lambda: server.http.post("/v1/models/toy:score", content=body, headers=ARROW).status_code == 200)
    assert "Traceback" not in server.log


def test_a_caller_who_does_not_read_is_dropped(start, connect):
    """After the time that a request has; until then little is kept of what it sends and would be answered."""
    server = start(request_timeout_seconds=1, max_scorings=1)
    assert server.http.post("/v1/models/toy:score", content=arrow(table()), headers=ARROW).status_code == 200
    before = resident(server)
    piece = arrow(table(*[{}] * 20_000))
    start_of_stream = len(pa.ipc.read_message(piece).serialize())
    batch = piece[start_of_stream:-8]
    connection = connect(server)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(head(f"content-length: {start_of_stream + 1000 * len(batch)}") + piece[:start_of_stream])
    with pytest.raises((TimeoutError, ConnectionError)):  # noqa: PT012 - which of them fails depends on buffers
        for _ in range(1000):
            connection.sendall(batch)
    assert resident(server) - before < 150 * 2**20

    def free():
        return server.http.post("/v1/models/toy:score", content=arrow(table()), headers=ARROW).status_code == 200

    assert eventually(free)
    assert "Traceback" not in server.log


def test_memory_is_bounded_however_long_the_stream(server, connect):
    """Two million rows of 29 bytes, in chunks without an end that is known before."""
    piece = arrow(table(*[{}] * 20_000))
    start_of_stream = len(pa.ipc.read_message(piece).serialize())
    batch = piece[start_of_stream:-8]
    connection = connect(server)
    connection.sendall(head("transfer-encoding: chunked\r\nconnection: close") + chunked(piece[:start_of_stream]))
    received = []
    connection.sendall(chunked(batch))
    received.append(connection.recv(2**16))
    before = resident(server)
    highest = 0
    for _ in range(99):
        connection.settimeout(20)
        connection.sendall(chunked(batch))
        connection.settimeout(0.001)
        with contextlib.suppress(TimeoutError):
            received.append(connection.recv(2**20))
        highest = max(highest, resident(server))
    connection.settimeout(20)
    connection.sendall(b"0\r\n\r\n")
    while data := connection.recv(2**20):
        received.append(data)
    assert b"2000000" in b"".join(received)[-2000:]
    assert highest - before < 100 * 2**20


@pytest.fixture
def rows_file(tmp_path):
    rows = table(*[{"amount": number % 1000} for number in range(50_000)])
    rows = rows.append_column("id", pa.array([f"row-{number}" for number in range(50_000)]))
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=5000)
    pyarrow.csv.write_csv(rows, tmp_path / "rows.csv")
    with pa.ipc.new_stream(tmp_path / "rows.arrows", rows.schema) as writer:
        writer.write_table(rows, max_chunksize=5000)
    with pa.ipc.new_file(tmp_path / "rows.arrow", rows.schema) as writer:
        writer.write_table(rows, max_chunksize=5000)
    return tmp_path / "rows.parquet"


def read(path):
    match path.suffix:
        case ".parquet":
            return pq.read_table(path)
        case ".csv":
            return pyarrow.csv.read_csv(path)
        case ".arrow":
            return pa.ipc.open_file(path).read_all()
    return pa.ipc.open_stream(path).read_all()


@pytest.mark.parametrize("given", [".parquet", ".csv", ".arrow", ".arrows"])
def test_the_command_scores_every_form_into_every_form(command, toys, rows_file, tmp_path, given):
    """With the columns to keep, in order, and the same answers."""
    expected = None
    for wanted in (".parquet", ".csv", ".arrow", ".arrows"):
        output = tmp_path / f"out{wanted}"
        done = command(
            "score",
            "toy",
            rows_file.with_suffix(given),
            "-o",
            output,
            "--keep",
            "id,hour",
            "--models",
            toys,
            device="cpu",
        )
        assert done.returncode == 0, done.stderr
        found = read(output)
        assert found.column_names == ["id", "hour", "prediction", "probability"]
        assert found["id"].to_pylist() == [f"row-{number}" for number in range(50_000)]
        labels = [str(label) for label in found["prediction"].to_pylist()]
        expected = expected or labels
        assert labels == expected
        assert sorted(path.name for path in tmp_path.glob("out*.*.*")) == []


def test_the_command_names_a_bad_row_and_writes_nothing(command, toys, tmp_path):
    """Exit code 1."""
    pq.write_table(table({}, {"hour": 99}), tmp_path / "rows.parquet")
    done = command(
        "score", "toy", tmp_path / "rows.parquet", "-o", tmp_path / "out.csv", "--models", toys, device="cpu"
    )
    assert done.returncode == 1
    assert "row 1, hour: a whole number from 0 to 23 is expected" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_killed_command_goes_on_where_it_was(command, toys, tmp_path):
    """`kill -9` after the first parts: no row twice, none lost, the same answers as without."""
    levels = [float(number % 7) for number in range(60_000)]
    slow = pa.table({"level": levels, "turns": [20_000 if number % 4096 == 0 else 0 for number in range(60_000)]})
    pq.write_table(slow, tmp_path / "rows.parquet", row_group_size=3000)
    arguments = [
        "score",
        "slow",
        tmp_path / "rows.parquet",
        "-o",
        tmp_path / "out.arrows",
        "--models",
        toys,
        "--part-rows",
        3000,
    ]
    whole = [*arguments[:4], tmp_path / "whole.arrows", *arguments[5:]]
    settings = {"device": "cpu"}
    assert command(*whole, **settings).returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=CHECKOUT,
        env=environment(**settings),
        stderr=subprocess.DEVNULL,
    )
    parts = tmp_path / "out.arrows.parts"
    try:
        assert eventually(lambda: len(list(parts.glob("*.arrow"))) >= 2 or process.poll() is not None)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert parts.exists()
    assert not (tmp_path / "out.arrows").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.arrow")}
    done = command(*arguments, "--resume", **settings)
    assert done.returncode == 0, done.stderr
    assert kept
    assert not parts.exists()
    assert read(tmp_path / "out.arrows").equals(read(tmp_path / "whole.arrows"))


def test_a_run_is_not_resumed_with_another_input(command, toys, tmp_path):
    """Nor with other columns: the parts would not fit together."""
    pq.write_table(table({}), tmp_path / "rows.parquet")
    parts = tmp_path / "out.csv.parts"
    parts.mkdir()
    (parts / "journal.json").write_text("{}")
    arguments = ["score", "toy", tmp_path / "rows.parquet", "-o", tmp_path / "out.csv", "--models", toys]
    done = command(*arguments, "--resume", device="cpu")
    assert done.returncode == 2
    assert "of another input" in done.stderr
    assert command(*arguments, device="cpu").returncode == 0


def test_the_command_without_pyarrow_says_so(command, toys, tmp_path, monkeypatch):
    """One line that names the extra, before the file is looked at; exit code 2."""
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError('no', name='pyarrow')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    done = command("score", "toy", tmp_path / "none.csv", "-o", tmp_path / "out.csv", "--models", toys, device="cpu")
    assert done.returncode == 2
    assert done.stderr == "plumbline: score needs the extra plumbline[bulk], not installed here\n"
    assert not (tmp_path / "out.csv").exists()
