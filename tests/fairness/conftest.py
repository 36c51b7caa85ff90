"""Services with people in their records: COMPAS on the real server, and whatever a test writes."""

from contextlib import ExitStack

import pytest
import stub
import tables
from inprocess import serving
from servers import running

FEATURES = tuple(tables.COMPAS_REFERENCES)


@pytest.fixture
def serve(tmp_path):
    """Start an application in this process: `serve(models, **settings)`; the test's own folder if none are named."""
    with ExitStack() as stack:
        yield lambda models=tmp_path, **settings: stack.enter_context(serving(models, **{"device": "cpu"} | settings))


@pytest.fixture(scope="session")
def compas():
    """The table."""
    return tables.compas()


@pytest.fixture(scope="session")
def compas_package(tmp_path_factory, compas):
    """A repository with one package that decides as the table does."""
    root = tmp_path_factory.mktemp("compas")
    groups = tables.groups(compas, FEATURES)
    stub.write(root, "compas", tables.COMPAS_REFERENCES, groups=groups, intersections=[FEATURES])
    return root


@pytest.fixture(scope="session")
def compas_records(tmp_path_factory, compas, compas_package):
    """Everybody, with outcomes, in the records of a real server that shows all counts: (server, database file)."""
    folder = tmp_path_factory.mktemp("compas-server")
    people = tables.rows(compas, FEATURES)
    with running(folder / "server.log", compas_package, suppress_small_cells="false") as server:
        stub.predict(server.http, "compas", people)
        stub.label(server.http, "compas", people)
        yield server, folder / "server.db"


@pytest.fixture(scope="session")
def suppressing(tmp_path_factory, compas_records, compas_package):
    """A second real server on the same records, which hides small cells, as is the default."""
    _, database = compas_records
    log_file = tmp_path_factory.mktemp("compas-suppressing") / "server.log"
    with running(log_file, compas_package, records_url=f"sqlite:///{database}") as server:
        yield server
