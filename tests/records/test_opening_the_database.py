"""Opening the database: tables are made once, those of another release are refused, nobody's password is shown."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from auditlog import AuditLog
from sqlalchemy import func, insert, select, text

from service.errors import ConfigurationError
from service.records import database
from service.records.tables import SCHEMA_VERSION, metadata, packages, schema


def open_engine(url):
    return database.make_engine(database.parse_url(url), sync="normal")


def test_several_replicas_may_make_the_tables_at_once(url, manifests):
    """Eight that start at the same time on an empty database: one version, each package once, no failure."""
    replicas = 8
    barrier = threading.Barrier(replicas, timeout=30)

    def start(_):
        engine = open_engine(url)
        barrier.wait()
        database.prepare(engine, manifests)
        engine.dispose()

    with ThreadPoolExecutor(replicas) as executor:
        list(executor.map(start, range(replicas)))
    engine = open_engine(url)
    with engine.connect() as connection:
        assert connection.execute(select(schema.c.version)).scalars().all() == [SCHEMA_VERSION]
        assert connection.execute(select(func.count()).select_from(packages)).scalar() == len(manifests)
    engine.dispose()


def test_a_new_package_is_added_to_those_that_are_known(url, manifests):
    """An upgraded service on the database of its predecessor."""
    engine = open_engine(url)
    for known in (manifests[:1], manifests, manifests[1:]):
        database.prepare(engine, known)
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(packages)).scalar() == 2
    engine.dispose()


def test_tables_of_another_release_are_refused(url, manifests):
    """The message says what to do; the service does not start, and writes nothing."""
    engine = open_engine(url)
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(insert(schema).values(version=99))
    with pytest.raises(
        ConfigurationError, match=r"schema version 99.*knows 2: run the release that made it"
    ) as refusal:
        database.prepare(engine, manifests)
    assert "PLUMBLINE_RECORDS_URL" in str(refusal.value)
    with pytest.raises(ConfigurationError), AuditLog.opened(url, manifests):
        pass
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(packages)).scalar() == 0
    engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hunter2@host/name",
        "sqlite://",
        "sqlite:///:memory:",
        "hunter2",
        "postgresql+nothing://u:hunter2@h",
    ],
    ids=["another database", "no file", "in memory", "no URL", "an unknown driver"],
)
def test_other_databases_are_refused_without_repeating_the_address(url):
    """It may hold a password."""
    with pytest.raises(ConfigurationError, match="PLUMBLINE_RECORDS_URL") as refusal:
        database.parse_url(url)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(("sync", "pragma"), [("normal", 1), ("full", 2)])
def test_sqlite_is_as_durable_as_was_asked_for(tmp_path, sync, pragma):
    """A write-ahead log in both cases; `full` waits for the disk."""
    engine = database.make_engine(database.parse_url(f"sqlite:///{tmp_path}/records.db"), sync=sync)
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == pragma
        assert connection.execute(text("PRAGMA secure_delete")).scalar() == 1
    engine.dispose()


def test_postgresql_commits_to_the_disk_and_waits_for_nothing_forever(postgresql):
    """Whatever the server's own defaults are."""
    engine = open_engine(postgresql)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "3s"
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "30s"
    engine.dispose()
