"""`python -m service records`: what an auditor and a data protection officer do with the records of a real service."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from servers import CHECKOUT, running
from toy import ROW, request


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, toys):
    """The database of a stopped server: three predictions with features, one of them with its outcome."""
    log_file = tmp_path_factory.mktemp("stopped") / "server.log"
    with running(log_file, toys, record_features="true", record_explanations="true") as server:
        groups = [{"sex": "female", "age_band": "50+"}, {"sex": "quetzal"}, {}]
        body = request({"amount": 2}, {}, {"entry_mode": "online"}, ids=["a", "b", "c"], sensitive_features=groups)
        assert server.predict(body).status_code == 200
        joined = server.http.post("/v1/models/toy:outcomes", json={"outcomes": [{"id": "a", "label": "fraud"}]})
        assert joined.json()["joined"] == 1
        server.stop()
    return log_file.with_suffix(".db")


@pytest.fixture
def recorded(stopped, tmp_path):
    """The URL of a copy of it, for one test."""
    for file in stopped.parent.glob(f"{stopped.name}*"):
        shutil.copy(file, tmp_path)
    return f"sqlite:///{tmp_path / stopped.name}"


def test_export_writes_every_record_with_its_features(command, recorded, tmp_path):
    """Typed columns: a time is a time, features are as posted, groups are declared ones."""
    file = tmp_path / "records.parquet"
    run = command("records", "export", "toy", file, records_url=recorded)
    assert run.returncode == 0, run.stderr
    assert "3 predictions of toy" in run.stdout
    rows = {row["id"]: row for row in pq.read_table(file).to_pylist()}
    assert rows.keys() == {"a", "b", "c"}
    assert rows["a"]["features"] == ROW | {"amount": 2}
    assert rows["a"]["groups"] == {"age_band": "50+", "sex": "female"}
    assert rows["b"]["groups"] == {"age_band": "unknown", "sex": "other"}
    assert (rows["a"]["actual"], rows["b"]["actual"]) == ("fraud", None)
    assert rows["a"]["predicted_at"] < rows["a"]["outcome_at"]
    assert rows["a"]["model_version"] == "10"
    assert rows["a"]["digest"].startswith("sha256:")


def test_export_takes_a_stretch_of_time(command, recorded, tmp_path):
    """Before there was anything there is nothing, and the file says so; an impossible date is refused."""
    file = tmp_path / "records.parquet"
    run = command("records", "export", "toy", file, "--until", "2026-01-01", records_url=recorded)
    assert run.returncode == 0, run.stderr
    assert pq.read_table(file).num_rows == 0
    run = command("records", "export", "toy", file, "--since", "2026-13-01", records_url=recorded)
    assert run.returncode == 2


def test_export_that_cannot_be_written_leaves_nothing(command, recorded, tmp_path):
    """Exit code 2 and the reason, no half file."""
    run = command("records", "export", "toy", tmp_path / "nowhere" / "records.parquet", records_url=recorded)
    assert run.returncode == 2
    assert "nowhere" in run.stderr
    assert not (tmp_path / "nowhere").exists()


def test_erased_people_are_gone_and_still_count(command, recorded, start, tmp_path):
    """Their ids are unknown to outcomes and exports, the report has as many predictions as before."""
    run = command("records", "erase", "toy", "a", "zz", records_url=recorded)
    assert run.returncode == 1  # one of the two was not there
    assert "1 of 2 predictions erased" in run.stdout
    file = tmp_path / "records.parquet"
    command("records", "export", "toy", file, records_url=recorded)
    rows = {row["id"]: row for row in pq.read_table(file).to_pylist()}
    (erased,) = rows.keys() - {"b", "c"}
    assert erased.startswith("erased:")
    assert rows[erased]["features"] is None
    server = start(records_url=recorded, suppress_small_cells="false")
    report = server.http.get("/v1/models/toy/fairness").json()
    assert (report["n"], report["labelled"]) == (3, 1)
    again = {"outcomes": [{"id": "a", "label": "fraud"}]}
    assert server.http.post("/v1/models/toy:outcomes", json=again).json()["unknown"] == 1


def test_prune_deletes_what_is_past_its_retention(command, recorded):
    """Nothing is older than a day here."""
    run = command("records", "prune", records_url=recorded, retention_days=1)
    assert run.returncode == 0
    assert "0 predictions older than 1 days deleted" in run.stdout


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:////nowhere/records.db", "no such database"),
        ("mysql://user:quetzal@127.0.0.1/records", "postgresql"),
        ("postgresql+psycopg://user:quetzal@127.0.0.1:9/records", "does not answer"),
        ("sqlite://", "name a file"),
    ],
)
def test_a_database_that_is_not_there_is_named_without_its_password(command, url, reason):
    """Exit code 2, one line."""
    run = command("records", "prune", records_url=url)
    assert run.returncode == 2
    assert reason in run.stderr
    assert "quetzal" not in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("features", ["true", "false"])
def test_explanations_are_recorded_where_a_setting_asks(command, start, tmp_path, features):
    """As they were answered; what they say of the features only where those are recorded as well."""
    explained = one_record(command, start, tmp_path, record_explanations="true", record_features=features)
    kept = json.loads(explained["explanation"])
    assert len(kept["values"]) == 19
    assert ("data" in kept, "reasons" in kept, explained["features"] is not None) == (features == "true",) * 3


def test_nothing_of_a_person_is_recorded_unless_asked_for(command, start, tmp_path):
    """Neither features nor explanation."""
    row = one_record(command, start, tmp_path)
    assert (row["features"], row["explanation"]) == (None, None)


def one_record(command, start, tmp_path, **settings):
    """What is exported of one explained prediction."""
    server = start(CHECKOUT / "models/repository", **settings)
    line = json.loads((CHECKOUT / "models/repository/transaction/1/replay.jsonl").read_text().splitlines()[0])
    answer = server.predict({"instances": [line["instance"]], "explain": True}, model="transaction")
    assert "values" in answer.json()["explanations"][0]
    server.stop()
    file, url = tmp_path / "records.parquet", f"sqlite:///{server.log_file.with_suffix('.db')}"
    assert command("records", "export", "transaction", file, records_url=url).returncode == 0
    (row,) = pq.read_table(file).to_pylist()
    return row


def test_tables_of_another_release_stop_the_start(command, tmp_path, toys):
    """One line that says what to do, no stack trace."""
    url = f"sqlite:///{tmp_path}/records.db"
    with closing(sqlite3.connect(tmp_path / "records.db")) as database, database:
        database.execute("CREATE TABLE plumbline_schema (version INTEGER PRIMARY KEY)")
        database.execute("INSERT INTO plumbline_schema VALUES (99)")
    run = command("serve", "--models", toys, "--port", 0, records_url=url)
    assert run.returncode == 2
    assert "schema version 99" in run.stderr
    assert "run the release that made it, or name a new database" in run.stderr
    assert "Traceback" not in run.stderr + run.stdout


def test_nothing_of_the_erased_is_left_in_the_files(command, recorded, tmp_path):
    """Not in the database and not in its log, though somebody has it open."""
    path = Path(recorded.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("SELECT count(*) FROM predictions").fetchone() == (3,)
        assert b'"amount":2' in path.read_bytes()
        assert command("records", "erase", "toy", "a", records_url=recorded).returncode == 0
        files = path.parent.glob(f"{path.name}*")
        assert not [file.name for file in files if b'"amount":2' in file.read_bytes()]
