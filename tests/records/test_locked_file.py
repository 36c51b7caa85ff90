"""A file of SQLite that another process holds: predictions wait for it, and nothing else waits for them."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

from toy import request

HELD_SECONDS = 1.8
# Far above what a healthy event loop takes on a busy machine, and below what the file is held.
AT_ONCE_SECONDS = 1.0


def test_a_locked_file_delays_and_fails_nothing(start, tmp_path):
    """Predictions and outcomes wait for the lock and are then answered; the event loop answers meanwhile."""
    file = tmp_path / "records.db"
    server = start(f"sqlite:///{file}")
    assert server.predict(request(ids=["before"])).status_code == 200
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with ThreadPoolExecutor() as executor:
        waiting = [executor.submit(server.predict, request(ids=[f"{number}"])) for number in range(3)]
        outcomes = {"outcomes": [{"id": "before", "label": "fraud"}]}
        waiting.append(executor.submit(server.http.post, "/v1/models/toy:outcomes", json=outcomes))
        durations = []
        while time.monotonic() - began < HELD_SECONDS:
            asked = time.monotonic()
            assert server.http.get("/v2/health/live").status_code == 200
            durations.append(time.monotonic() - asked)
        assert not any(future.done() for future in waiting)
        other.execute("COMMIT")
        other.close()
        assert [future.result().status_code for future in waiting] == [200] * 4
    assert sorted(durations)[len(durations) // 2] < 0.1
    assert max(durations) < AT_ONCE_SECONDS
    assert server.http.get("/v2/health/ready").status_code == 200
