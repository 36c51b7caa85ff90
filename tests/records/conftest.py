"""Databases for the audit log, SQLite and a real PostgreSQL; the audit log and real servers on them."""

from contextlib import ExitStack

import postgresql as server
import pytest
from auditlog import AuditLog
from servers import running

from service.manifest import Manifest


@pytest.fixture(scope="session")
def postgresql_server():
    """One server for all tests; skips, saying what to install, where none can be started."""
    if reason := server.missing():
        pytest.skip(reason)
    with server.serving() as running:
        yield running


@pytest.fixture
def postgresql(postgresql_server):
    """The URL of an empty database of PostgreSQL."""
    with postgresql_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/records.db"
    return request.getfixturevalue("postgresql")


@pytest.fixture
def manifests(toys):
    """The packages that decide: `toy` in versions 9 and 10."""
    return [
        Manifest.model_validate_json((toys / "toy" / version / "manifest.json").read_text()) for version in ("9", "10")
    ]


@pytest.fixture
def open_log(url, manifests):
    """Open the audit log: `open_log(audit=..., sync=...)`; each is a replica of its own on the same database."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(AuditLog.opened(url, manifests, **settings))


@pytest.fixture
def log(open_log):
    """One replica, as most tests need it."""
    return open_log()


@pytest.fixture
def log_on_postgresql(postgresql, manifests):
    """One replica on PostgreSQL."""
    with AuditLog.opened(postgresql, manifests) as log:
        yield log


@pytest.fixture
def start(tmp_path, toys):
    """Start replicas: `start(url, models, **settings)`; of the toys if no models are named."""
    with ExitStack() as stack:

        def start_one(url, models=toys, **settings):
            log_file = tmp_path / f"server-{len(list(tmp_path.glob('server-*')))}.log"
            return stack.enter_context(running(log_file, models, records_url=url, **settings))

        yield start_one
