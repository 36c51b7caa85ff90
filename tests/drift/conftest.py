"""The toy with a reference, served in this process."""

from contextlib import ExitStack

import pytest
import toy
from drift_truth import Package
from explained import add_explainer, linear_explainer
from inprocess import serving
from referenced import add_reference


@pytest.fixture
def folder(tmp_path):
    """A package of the toy with a reference, an explainer and an intersection; its repository is `models`."""
    made = toy.write_toy(tmp_path / "models", intersections=[["sex", "age_band"]])
    add_explainer(made, linear_explainer())
    return add_reference(made)


@pytest.fixture
def package(folder):
    """What its files say."""
    return Package(folder)


@pytest.fixture
def serve(tmp_path):
    """Start an application: `serve(models, **settings)`; nothing is explained unasked, nothing is hidden."""
    with ExitStack() as stack:

        def start(models=tmp_path / "models", **settings):
            chosen = {"device": "cpu", "explain_sample_ratio": 0, "suppress_small_cells": False} | settings
            return stack.enter_context(serving(models, **chosen))

        yield start
