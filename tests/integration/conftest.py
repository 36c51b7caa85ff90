"""Clients of the application in this process."""

from contextlib import ExitStack

import pytest
from inprocess import serving


@pytest.fixture(scope="session")
def client(toys):
    """The toys served with the default settings, by one application for all tests."""
    with serving(toys, device="cpu") as client:
        yield client


@pytest.fixture
def serve(toys):
    """Start an application of the test's own: `serve(models, **settings)`; the toys if no models are named."""
    with ExitStack() as stack:
        yield lambda models=toys, **settings: stack.enter_context(serving(models, **{"device": "cpu"} | settings))
