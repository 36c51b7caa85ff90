"""Opening the database of the audit log: connections, durability, and whether this release can read it."""

import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, cast

from sqlalchemy import Engine, create_engine, event, func, insert, inspect, select, update
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from service.errors import ConfigurationError, RecordsUnavailable
from service.manifest import Manifest, digest_bytes
from service.records.replace import insert_into
from service.records.tables import EXTENDED_VERSIONS, SCHEMA_VERSION, metadata, packages, schema

Sync = Literal["normal", "full"]

# How long a statement may wait for a lock, and a connection for its server.
BUSY_SECONDS = 3
STATEMENT_SECONDS = 30
# Any number that no other application takes; held while tables are made, as several replicas may start at once.
SCHEMA_LOCK = 7_586_286_254

PACKAGE_DIGITS = 16


def parse_url(text: str) -> URL:
    """The database's address. Raises ConfigurationError, which does not repeat the password, for other databases."""
    try:
        url = make_url(text)
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError):
        url = None
    if url is None or url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigurationError("PLUMBLINE_RECORDS_URL: sqlite:///FILE or postgresql+psycopg://... is expected")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ConfigurationError("PLUMBLINE_RECORDS_URL: records in memory are no records; name a file")
    return url


def open_existing(text: str, *, sync: Sync) -> Engine:
    """An engine for a database that somebody else keeps. Raises ConfigurationError where SQLite has no such file."""
    url = parse_url(text)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        raise ConfigurationError(f"{url.database}: no such database; PLUMBLINE_RECORDS_URL names another one")
    return make_engine(url, sync=sync)


def make_engine(url: URL, *, sync: Sync) -> Engine:
    """An engine whose commits are as durable as `sync` says. Connects to nothing yet."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}, hide_parameters=True
        )
        event.listen(engine, "connect", lambda connection, _: _prepare_sqlite(connection, sync))
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    options = f"-c synchronous_commit=on -c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={BUSY_SECONDS}s"
    # TCP gives up on a server that has gone without a word.
    arguments = {"connect_timeout": BUSY_SECONDS, "tcp_user_timeout": 1000 * BUSY_SECONDS, "options": options}
    return create_engine(
        url, connect_args=arguments, hide_parameters=True, pool_pre_ping=True, pool_size=3, max_overflow=2
    )


def _prepare_sqlite(connection: sqlite3.Connection, sync: Sync) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, see _begin_sqlite
    _write_ahead(connection)
    for pragma in (
        f"synchronous={'FULL' if sync == 'full' else 'NORMAL'}",
        "secure_delete=ON",  # what is erased is overwritten
    ):
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log: the first time SQLite takes the file for itself, and does not wait for it."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def impatient(engine: Engine) -> sqlite3.Connection:
    """A connection to SQLite that fails where it would wait for another writer, and leaves checkpoints to others."""
    pooled = engine.raw_connection()
    connection = cast(sqlite3.Connection, pooled.driver_connection)
    pooled.detach()
    for pragma in ("busy_timeout=0", "wal_autocheckpoint=0"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _begin_sqlite(connection: Connection) -> None:
    # Taking the write lock first: a transaction that reads and then writes would fail where it should wait.
    immediate = connection.get_execution_options().get("plumbline_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def writing(engine: Engine) -> Engine:
    """The same engine for transactions that write."""
    return engine.execution_options(plumbline_writes=True)


def prepare(engine: Engine, manifests: Iterable[Manifest]) -> None:
    """Make the tables where there are none, extend those of an earlier release, check, and note the packages.

    Raises ConfigurationError for tables of another version, RecordsUnavailable if the database does not answer.
    """
    try:
        with writing(engine).begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
            if not inspect(connection).has_table(schema.name):
                metadata.create_all(connection)
                connection.execute(insert(schema).values(version=SCHEMA_VERSION))
            found = connection.execute(select(func.max(schema.c.version))).scalar()
            if found in EXTENDED_VERSIONS:
                metadata.create_all(connection)
                connection.execute(update(schema).values(version=SCHEMA_VERSION))
                found = SCHEMA_VERSION
            if found != SCHEMA_VERSION:
                raise _of_another_version(found)
            _note(connection, manifests)
    except DBAPIError as error:
        raise unavailable(error) from error


def check(engine: Engine) -> None:
    """Whether predictions and packages can be read, without making or extending anything.

    Raises ConfigurationError for tables of another version, RecordsUnavailable if the database does not answer.
    """
    try:
        with engine.connect() as connection:
            there = inspect(connection).has_table(schema.name)
            found = connection.execute(select(func.max(schema.c.version))).scalar() if there else None
    except DBAPIError as error:
        raise unavailable(error) from error
    if found not in (SCHEMA_VERSION, *EXTENDED_VERSIONS):
        raise _of_another_version(found)


def _of_another_version(found: int | None) -> ConfigurationError:
    return ConfigurationError(
        f"records: the database has schema version {found}, this release knows {SCHEMA_VERSION}: "
        "run the release that made it, or name a new database in PLUMBLINE_RECORDS_URL"
    )


class Note:
    """Work: note a package that is about to be served."""

    rows = 1
    may_be_given_up = True

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def run(self, connection: Connection) -> None:
        """Note it, unless it has been."""
        _note(connection, [self.manifest])


def _note(connection: Connection, manifests: Iterable[Manifest]) -> None:
    """Another replica may do the same at this moment."""
    if rows := list(map(_package_row, manifests)):
        connection.execute(insert_into(connection, packages).on_conflict_do_nothing(), rows)


def package_key(manifest: Manifest) -> str:
    """What a record says of the package that decided: the beginning of its manifest's digest."""
    return digest_bytes(manifest.to_json().encode()).removeprefix("sha256:")[:PACKAGE_DIGITS]


def _package_row(manifest: Manifest) -> dict[str, Any]:
    return {
        "package": package_key(manifest),
        "model_name": manifest.name,
        "model_version": manifest.version,
        "digest": manifest.digests["model.onnx"],
        "manifest": manifest.to_json(),
    }


def unavailable(error: DBAPIError) -> RecordsUnavailable:
    """`error` without its message, which quotes the statement and its values."""
    return RecordsUnavailable(f"records: the database does not answer ({type(error.orig).__name__})")
