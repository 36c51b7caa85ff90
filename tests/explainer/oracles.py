"""The libraries that explanations are compared with: a skip where one is missing, a failure where all was asked for."""

import importlib
import os
import warnings

import pytest


def need(name):
    """The module `name`, or a skip that says what to install; a failure under PLUMBLINE_TEST_REQUIRE_ALL=1."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError:
        reason = f"{name} is not installed; the development requirements bring it"
        if os.environ.get("PLUMBLINE_TEST_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
