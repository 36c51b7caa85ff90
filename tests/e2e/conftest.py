"""The real server in processes of its own, and a real browser."""

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack

import pytest
from servers import CHECKOUT, environment, running

COMMAND_SECONDS = 60
CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture
def start(tmp_path, toys):
    """Start servers of the test's own: `start(models, **settings)`; the toys if no models are named."""
    with ExitStack() as stack:

        def start_one(models=toys, **settings):
            log_file = tmp_path / f"server-{len(list(tmp_path.glob('server-*')))}.log"
            return stack.enter_context(running(log_file, models, **settings))

        yield start_one


@pytest.fixture(scope="session")
def server(tmp_path_factory, toys):
    """One server of the toys for all tests that leave it as it was; bodies of at most 20,000 bytes."""
    with running(tmp_path_factory.mktemp("server") / "log", toys, max_body_bytes=20_000) as server:
        yield server


@pytest.fixture(scope="session")
def committed(tmp_path_factory):
    """One server of the committed models."""
    with running(tmp_path_factory.mktemp("committed") / "log", CHECKOUT / "models" / "repository") as server:
        yield server


@pytest.fixture
def command():
    """Run `python -m service ...` to its end; the finished process."""

    def run(*arguments, **settings):
        return subprocess.run(
            [sys.executable, "-m", "service", *map(str, arguments)],
            cwd=CHECKOUT,
            env=environment(**settings),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    return run


# For one module only: while it lives, Playwright's event loop keeps others from running in this thread.
@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; skips, saying why, where it is missing, and fails where every check was asked for."""
    executable = shutil.which("chromium")
    if executable is None:
        reason = "Chromium is missing: apt-get install -y --no-install-recommends chromium fonts-dejavu-core"
        (pytest.fail if os.environ.get("PLUMBLINE_TEST_REQUIRE_ALL") == "1" else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS.split())
        yield browser
        browser.close()
