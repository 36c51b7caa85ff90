"""The audit log as the service uses it: record predictions, join outcomes, add up attributions, forget."""

import contextlib
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from service.errors import ConfigurationError, RecordsUnavailable
from service.manifest import Manifest
from service.records import database
from service.records.append import Append, Appender
from service.records.outcomes import Join, lock
from service.records.writer import Job, Work, Writer

# Two replicas that want the same rows in another order: PostgreSQL ends one of them, which tries again.
TRANSIENT = {"40001", "40P01"}
TRIES = 3
# About a millisecond.
MOST_ROWS_AT_ONCE = 128
NOTING_SECONDS = 10.0


class Records:
    """One database, written by one thread. `writer` takes work from the event loop; `engine` is for readers."""

    def __init__(
        self,
        url: str,
        *,
        sync: database.Sync,
        audit: Literal["before_response", "after_response"],
        max_rows: int,
        observe: Callable[[int, float, Exception | None], None] = lambda rows, seconds, error: None,
    ) -> None:
        """Raises ConfigurationError if `url` is not one of a database that is supported."""
        self.engine: Engine = database.make_engine(database.parse_url(url), sync=sync)
        self.replica = uuid.uuid4().hex
        self.awaited = audit == "before_response"
        # Without a server and without waiting for the disk, a commit is a few writes to memory.
        self._never_waits = self.engine.dialect.name == "sqlite" and sync == "normal"
        self.writer = Writer(
            self._run, keeps=not self.awaited, max_rows=max_rows, at_once=self._run_at_once, observe=observe
        )
        self._appender = Appender(self.engine.dialect.name)
        self._manifests: list[Manifest] = []
        self._prepared = False
        self._connection: Connection | None = None
        self._impatient: sqlite3.Connection | None = None

    def check(self) -> None:
        """Raise ConfigurationError for tables of another release, where the database answers."""
        with contextlib.suppress(RecordsUnavailable):
            database.prepare(self.engine, [])

    def open(self, manifests: Iterable[Manifest]) -> None:
        """Make or check the tables. Raises ConfigurationError for tables of another release.

        A database that does not answer is no reason not to start: it is tried again, and the service is not ready.
        """
        self._manifests = list(manifests)
        try:
            self._prepare()
        except RecordsUnavailable as error:
            self.writer.note_trouble(str(error))

    def submit(self, work: Work) -> Job:
        """Have `work` committed soon; see `Writer.submit`."""
        return self.writer.submit(work)

    async def drain(self, timeout_seconds: float) -> None:
        """Wait until nothing waits to be committed, for so long at most."""
        await self.writer.drain(timeout_seconds)

    async def note(self, manifest: Manifest) -> None:
        """Note a package that is about to be served. Raises RecordsUnavailable, QueueFull or DeadlineExceeded."""
        await self.submit(database.Note(manifest)).answer(time.monotonic() + NOTING_SECONDS)

    async def close(self, timeout_seconds: float) -> None:
        """Commit what waits, for so long at most."""
        await self.writer.close(timeout_seconds)
        if not self.writer.busy:  # else the thread holds the connection, and ends with the process
            self._disconnect()
        if self._impatient is not None:
            self._impatient.close()
        self.engine.dispose()

    def _prepare(self) -> None:
        if not self._prepared:
            database.prepare(self.engine, self._manifests)
            self._prepared = True

    def _run(self, works: list[Work]) -> list[Any]:
        """In the writer's thread: all of it in one transaction, or each alone if one of them cannot be done."""
        try:
            return self._persistently(works)
        except ConfigurationError as error:  # it came back with tables of another release
            raise RecordsUnavailable(str(error)) from error
        except (DataError, IntegrityError):
            if len(works) == 1:
                return [RecordsUnavailable("records: the database refuses the row")]
            return [self._run([work])[0] for work in works]
        except DBAPIError as error:
            raise database.unavailable(error) from error

    def _run_at_once(self, works: list[Work]) -> list[Any] | None:
        """On the event loop: commit rows that are all new, unless somebody else is writing."""
        if not (self._never_waits and self._prepared):
            return None
        appends = [work for work in works if isinstance(work, Append)]
        if len(appends) < len(works) or sum(work.rows for work in appends) > MOST_ROWS_AT_ONCE:
            return None
        try:
            if self._impatient is None:
                self._impatient = database.impatient(self.engine)
            all_new = self._appender.commit_new(self._impatient, appends)
        except (sqlite3.Error, DBAPIError):
            all_new = False
        return [{}] * len(works) if all_new else None  # the thread will find out why, patiently

    def _persistently(self, works: list[Work]) -> list[Any]:
        """Try again where that makes sense: a deadlock, a connection that was closed while it idled."""
        for tries_left in range(TRIES - 1, -1, -1):
            try:
                self._prepare()
                return self._together(works)
            except DBAPIError as error:
                lost = error.connection_invalidated
                self._disconnect()
                if tries_left == 0 or not (lost or getattr(error.orig, "sqlstate", None) in TRANSIENT):
                    raise
        raise AssertionError("unreachable")

    def _together(self, works: list[Work]) -> list[Any]:
        if self._connection is None:
            self._connection = database.writing(self.engine).connect()
        connection = self._connection
        appends = [work for work in works if isinstance(work, Append)]
        with contextlib.suppress(_UsedBefore), connection.begin():
            if not self._appender.all_new(connection, appends):
                raise _UsedBefore
            return self._each(connection, works, {work: {} for work in appends})
        with connection.begin():
            return self._each(connection, works, {work: self._appender.append(connection, work) for work in appends})

    @staticmethod
    def _each(connection: Connection, works: Sequence[Any], appended: dict[Append, Any]) -> list[Any]:
        joins = [work for work in works if isinstance(work, Join)]
        if len(joins) > 1 and connection.dialect.name == "postgresql":  # SQLite has one writer at a time
            lock(connection, joins)
        return [appended[work] if isinstance(work, Append) else work.run(connection) for work in works]

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(DBAPIError):
                self._connection.close()
            self._connection = None


class _UsedBefore(Exception):
    """An id is in the records already; the transaction is rolled back and done row by row."""
