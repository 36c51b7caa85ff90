"""Applications whose repository is a folder of the test's own, and moves in it as operators make them."""

import asyncio
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import toy
from exposition import value
from inprocess import serving

WAIT_SECONDS = 20


class Operator:
    """Changes a repository and asks the service that serves it. `client` is None until `serve`."""

    def __init__(self, models, stack):
        self.models = models
        self.client = None
        self._stack = stack

    def write(self, version=1, *, name="toy", **changes):
        """Write a toy and put it where it belongs in one step, in place of what was there."""
        with tempfile.TemporaryDirectory(dir=self.models.parent) as aside:
            made = toy.write_toy(aside, version=version, name=name, **changes)
            return self.place(made, self.models / name / str(version))

    def place(self, made, folder):
        """Move the folder `made` to `folder`, whose former content goes."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        return made.rename(folder)

    def remove(self, version, name="toy"):
        shutil.rmtree(self.models / name / str(version))

    def serve(self, **settings):
        settings = {"device": "cpu", "repository_control": True} | settings
        self.client = self._stack.enter_context(serving(self.models, **settings))
        return self.client

    def stop(self):
        """Shut the service down."""
        self._stack.close()

    def load(self, name="toy", **arguments):
        return self.client.request("POST", f"/v2/repository/models/{name}/load", **arguments)

    def unload(self, name="toy", **arguments):
        return self.client.request("POST", f"/v2/repository/models/{name}/unload", **arguments)

    def index(self, **arguments):
        """{NAME/VERSION: (state, reason)}."""
        lines = self.client.request("POST", "/v2/repository/index", **arguments).json()
        return {f"{line['name']}/{line['version']}": (line["state"], line["reason"]) for line in lines}

    def answer(self, model="toy", **fields):
        """(version, margin) that a row of margin `bias + 4` gets."""
        answered = self.client.predict(toy.request(**fields), model=model).json()
        return answered["model_version"], answered["predictions"][0]["probability"]

    def metric(self, name, **labels):
        return value(self.client.get("/metrics").text, name, **labels)

    def ready(self):
        return self.client.get("/v2/health/ready").status_code == 200

    def eventually(self, claim):
        """Let the service go on until `claim()` is true; its last value."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := claim()) and time.monotonic() < deadline:
            self.pause(0.02)
        return found

    def pause(self, seconds):
        """Let the service go on so long."""
        self.client.run(asyncio.sleep(seconds))

    def until_gone(self, version, name="toy"):
        """Wait until nothing is counted for this version any more."""
        mark = f'model_name="{name}",model_version="{version}"'
        assert self.eventually(lambda: mark not in self.client.get("/metrics").text)


@pytest.fixture
def operator(tmp_path):
    """An operator of a repository without a model."""
    models = tmp_path / "models"
    models.mkdir()
    with ExitStack() as stack:
        yield Operator(models, stack)


@pytest.fixture
def records(tmp_path):
    """The URL of a database that outlives the application."""
    return f"sqlite:///{tmp_path}/records.db"


@pytest.fixture
def committed():
    """The committed packages."""
    return Path(__file__).parents[2] / "models" / "repository"
