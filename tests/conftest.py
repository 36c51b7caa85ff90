"""What the integration and end-to-end tests share: the toy packages on disk. Also puts this folder on the path."""

import os

import hypothesis
import pytest
import toy

# Where a run decides on something it tries the same examples every time; the search for new ones goes on elsewhere.
hypothesis.settings.register_profile("decides", derandomize=True)
if os.environ.get("PLUMBLINE_TEST_REQUIRE_ALL") == "1":
    hypothesis.settings.load_profile("decides")


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
