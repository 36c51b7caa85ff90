"""A real PostgreSQL in processes of its own, on a free port of 127.0.0.1, with a database for each test.

Root starts it as the user `postgres`, whom Debian's package makes: PostgreSQL refuses root.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psycopg
from servers import free_port

INSTALL = "apt-get install -y --no-install-recommends postgresql"
USER = "postgres"
START_SECONDS = 60


def missing():
    """Why no server can be started here; None if one can."""
    if programs() is None:
        return f"PostgreSQL is missing: {INSTALL}"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(USER)
        except KeyError:
            return f"PostgreSQL refuses root, and there is no user {USER}: {INSTALL}"
        if shutil.which("runuser") is None:
            return "PostgreSQL refuses root, and runuser is missing: run the tests as another user"
    return None


def programs():
    """The folder of initdb and pg_ctl; Debian keeps them off the path."""
    on_path = shutil.which("initdb")
    if on_path is not None and shutil.which("pg_ctl") is not None:
        return Path(on_path).parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Postgresql:
    """A server that runs, or stands still for as long as `stopped` is entered."""

    def __init__(self, data, port):
        self._data = data
        self._databases = 0
        self._runs = False
        self.port = port

    def url(self, database):
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement, database=USER):
        """Run a statement of the test's own; the rows of its answer, if it has one."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, dbname=database, autocommit=True
        ) as connection:
            answer = connection.execute(statement)
            return answer.fetchall() if answer.description else []

    @contextmanager
    def database(self):
        """The URL of a new, empty database, gone at the end."""
        self._databases += 1
        name = f"records_{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def start(self):
        """Start it, if it does not run, and wait until it answers."""
        if self._runs:
            return
        # What was written survives a killed server also without fsync, which is about the machine's end.
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._control("start", "-w", "-t", START_SECONDS, "-o", options, "-l", self._data / "log")
        self._runs = True

    def stop(self):
        """End it in the middle of whatever it does, as a crash would."""
        self._control("stop", "-w", "-m", "immediate")
        self._runs = False

    @contextmanager
    def stopped(self):
        """Nothing answers at its port meanwhile."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def _control(self, *arguments):
        _as_user(programs() / "pg_ctl", "-D", self._data, *arguments)


@contextmanager
def serving():
    """A Postgresql with empty data, from start to stop."""
    with tempfile.TemporaryDirectory(prefix="plumbline-postgresql-") as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, USER)
        data = Path(folder) / "data"
        _as_user(programs() / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        server = Postgresql(data, free_port())
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _as_user(*command):
    prefix = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    # A server keeps the files that it was started with: with a pipe, this would wait for the server's end.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [*prefix, *map(str, command)], cwd="/", stdout=output, stderr=subprocess.STDOUT, check=False
        )
        output.seek(0)
        assert done.returncode == 0, output.read().decode()
