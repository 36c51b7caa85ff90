"""Clients of a toy package with explainers."""

from contextlib import ExitStack

import pytest
import toy
from explained import add_explainer, linear_explainer
from inprocess import serving


@pytest.fixture
def serve_explained(tmp_path):
    """Serve one toy package with explainers: `serve_explained(explainer, doubled, algorithm=..., **settings)`."""
    with ExitStack() as stack:

        def start(explainer=None, doubled=None, *, algorithm="linear", manifest=None, **settings):
            folder = toy.write_toy(tmp_path, **(manifest or {}))
            add_explainer(folder, explainer or linear_explainer(), doubled, algorithm=algorithm)
            return stack.enter_context(serving(tmp_path, device="cpu", **settings))

        yield start
