"""A database of the first release is extended when it is opened: its rows stay, and reports have all that they had."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import toy
from auditlog import FEMALE, MALE, AuditLog
from drift_traffic import Sent, bodies, post
from drift_truth import Package
from inprocess import serving
from referenced import add_reference
from servers import CHECKOUT, environment
from sqlalchemy import inspect, text

from service.errors import ConfigurationError
from service.manifest import read_manifest
from service.records import database
from service.records.database import package_key

# As the first release made them.
VERSION_1 = """
CREATE TABLE plumbline_schema (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE packages (
    package TEXT NOT NULL, model_name TEXT NOT NULL, model_version TEXT NOT NULL, digest TEXT NOT NULL,
    manifest TEXT NOT NULL, PRIMARY KEY (package)
);
CREATE TABLE predictions (
    model_name TEXT NOT NULL, id TEXT NOT NULL, package TEXT NOT NULL, predicted_at DOUBLE PRECISION NOT NULL,
    predicted TEXT NOT NULL, score DOUBLE PRECISION NOT NULL, groups TEXT NOT NULL, probabilities TEXT, features TEXT,
    explanation TEXT, actual TEXT, outcome_at DOUBLE PRECISION, PRIMARY KEY (model_name, id)
){without_rowid};
CREATE INDEX predictions_by_time ON predictions (model_name, predicted_at);
CREATE TABLE attributions (
    package TEXT NOT NULL, day INTEGER NOT NULL, replica TEXT NOT NULL, groups TEXT NOT NULL, rows INTEGER NOT NULL,
    margin_sum DOUBLE PRECISION NOT NULL, sums TEXT NOT NULL, PRIMARY KEY (package, day, replica, groups)
);
INSERT INTO plumbline_schema VALUES (1)
"""
PEOPLE = 60


@contextmanager
def engine(url):
    made = database.make_engine(database.parse_url(url), sync="normal")
    try:
        yield made
    finally:
        made.dispose()


def query(url, *statements, values=None):
    """The rows of the last statement, if it has any; `values` are for a single one, perhaps many times."""
    with engine(url) as made, made.begin() as connection:
        for statement in statements:
            answer = connection.execute(text(statement), values)
        return answer.all() if answer.returns_rows else []


@pytest.fixture
def folder(tmp_path):
    """The package that predicted."""
    return add_reference(toy.write_toy(tmp_path / "models"))


@pytest.fixture
def old(url, folder):
    """The URL of a database of version 1 with predictions, outcomes and attributions of an hour ago."""
    manifest = read_manifest(folder)
    without_rowid = " WITHOUT ROWID" if url.startswith("sqlite") else ""
    query(url, *VERSION_1.format(without_rowid=without_rowid).split(";"))
    package, now = package_key(manifest), time.time() - 3600
    about = {"package": package, "digest": manifest.digests["model.onnx"], "manifest": manifest.to_json()}
    query(url, "INSERT INTO packages VALUES (:package, 'toy', '1', :digest, :manifest)", values=about)
    rows = [
        {"id": f"old {number}", "package": package, "at": now, "groups": FEMALE if number % 2 else MALE}
        for number in range(PEOPLE)
    ]
    query(
        url,
        "INSERT INTO predictions "
        "VALUES ('toy', :id, :package, :at, 'fraud', 0.75, :groups, NULL, NULL, NULL, 'fraud', :at)",
        values=rows,
    )
    query(
        url,
        "INSERT INTO attributions VALUES (:package, :day, 'a replica', :groups, 3, 1.5, '[1.0,2.0,3.0,4.0,5.0]')",
        values={"package": package, "day": int(now // 86_400 * 86_400), "groups": FEMALE},
    )
    return url


def versions(url):
    return [version for (version,) in query(url, "SELECT version FROM plumbline_schema")]


def test_rows_stay_and_the_missing_table_is_made(old, folder):
    """The same database as a new one would be, but for its rows."""
    tables = ("packages", "predictions", "attributions")
    before = {table: sorted(map(str, query(old, f"SELECT * FROM {table}"))) for table in tables}
    with AuditLog.opened(old, [read_manifest(folder)]) as log:
        assert versions(old) == [2]
        assert {table: sorted(map(str, query(old, f"SELECT * FROM {table}"))) for table in tables} == before
        assert inspect(log.engine).has_table("drift_counts")
        assert len(log.stored()) == PEOPLE
        log.append("new")
        assert log.join(("old 1", "fraud"), ("new", "fraud")).counts == {
            **dict.fromkeys(("conflict", "unknown", "expired", "corrected"), 0),
            "joined": 1,
            "duplicate": 1,
        }


def test_reports_go_on(old, folder):
    """Fairness with the old rows; drift from now on."""
    with serving(folder.parent.parent, device="cpu", records_url=old, suppress_small_cells=False) as client:
        package = Package(folder)
        assert client.get("/v1/models/toy/drift").json()["n"] == 0
        sent = post(client, Sent(package), *bodies(40, 10))
        fairness = client.get("/v1/models/toy/fairness").json()
        assert fairness["n"] == PEOPLE + 40
        drift = client.get("/v1/models/toy/drift").json()
        assert drift["n"] == 40
        assert [part["n"] for part in drift["features"][0]["bins"]] == sent.of_feature(0).tolist()
        female = next(group for group in drift["performance"][0]["groups"] if group["group"] == "female")
        assert female["n"] == PEOPLE // 2 + len(sent.mine("sex", "female"))
        assert female["rates"]["true_positive_rate"]["realised"]["denominator"] == PEOPLE // 2


def test_several_replicas_may_extend_it_at_once(old, folder):
    """Eight that start at the same time."""
    replicas = 8
    barrier = threading.Barrier(replicas, timeout=30)

    def start(_):
        with engine(old) as made:
            barrier.wait()
            database.prepare(made, [read_manifest(folder)])

    with ThreadPoolExecutor(replicas) as executor:
        list(executor.map(start, range(replicas)))
    assert versions(old) == [2]
    assert len(query(old, "SELECT * FROM packages")) == 1


def test_an_extension_that_fails_leaves_the_old_database(old, folder, monkeypatch):
    """All or nothing: the next start extends it."""
    with engine(old) as made, monkeypatch.context() as patch:

        def broken(*_):
            raise RuntimeError

        patch.setattr(database, "_package_row", broken)
        with pytest.raises(RuntimeError):
            database.prepare(made, [read_manifest(folder)])
        assert versions(old) == [1]
        assert not inspect(made).has_table("drift_counts")
    with AuditLog.opened(old, [read_manifest(folder)]) as log:
        assert len(log.stored()) == PEOPLE
    assert versions(old) == [2]


@pytest.mark.parametrize("version", [0, 3, 99])
def test_other_versions_are_refused(old, folder, version):
    """The newer and the unheard of; nothing is written."""
    query(old, f"UPDATE plumbline_schema SET version = {version}")
    with engine(old) as made:
        with pytest.raises(ConfigurationError, match=f"schema version {version}, this release knows 2"):
            database.prepare(made, [read_manifest(folder)])
        assert not inspect(made).has_table("drift_counts")
    assert versions(old) == [version]


def test_the_commands_of_the_records_extend_it_too(old):
    """`records prune` before the first start of the new release."""
    command = [sys.executable, "-m", "service", "records", "prune"]
    environ = environment(records_url=old)
    done = subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert versions(old) == [2]
    assert len(query(old, "SELECT * FROM predictions")) == PEOPLE
