"""What the integration and end-to-end tests share: the toy packages on disk. Also puts this folder on the path."""

import os

import pytest
import toy


@pytest.fixture(scope="session")
def toys(tmp_path_factory):
    """A repository with every toy package; not to be changed."""
    return toy.write_all(tmp_path_factory.mktemp("toys"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where everything is to be there (PLUMBLINE_TEST_REQUIRE_ALL=1), a test that skips has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("PLUMBLINE_TEST_REQUIRE_ALL") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped although everything is required: {report.longrepr}"
    return report
