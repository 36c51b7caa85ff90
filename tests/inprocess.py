"""The application in this process: its lifespan runs, requests go straight to ASGI, no socket.

`Client` is synchronous, because most tests ask one thing after another; `together` sends requests at the same time.
"""

import asyncio
import json
import tempfile
from contextlib import contextmanager

import httpx

from service.app import create_app
from service.settings import read_settings

JSON = {"content-type": "application/json"}


class Client:
    """Sends requests to an application on an event loop of its own."""

    def __init__(self, runner, app, http):
        self._runner = runner
        self.app = app
        self.http = http

    def request(self, method, path, **arguments):
        return self._runner.run(self.http.request(method, path, **arguments))

    def run(self, work):
        """Await `work` on the application's event loop."""
        return self._runner.run(work)

    def get(self, path, **arguments):
        return self.request("GET", path, **arguments)

    def predict(self, body, model="toy", **arguments):
        """Post `body` (bytes, or anything that JSON can say) to the model; `toy/versions/9` names a version."""
        return self._runner.run(self._predict(body, model, **arguments))

    def together(self, *bodies, model="toy"):
        """Post all bodies in the same turn of the event loop; the responses in the same order."""
        return self.mixed(*((model, body) for body in bodies))

    def mixed(self, *requests):
        """The same for pairs of a model and a body."""

        async def gather():
            return await asyncio.gather(*(self._predict(body, model) for model, body in requests))

        return self._runner.run(gather())

    def at_once(self, *requests):
        """Send (method, path, what JSON can say or None) in the same turn; the responses in the same order."""

        async def gather():
            return await asyncio.gather(
                *(self.http.request(method, path, json=body) for method, path, body in requests)
            )

        return self._runner.run(gather())

    def wait(self, seconds=0.02):
        """Let the application go on for so long."""
        self._runner.run(asyncio.sleep(seconds))

    async def _predict(self, body, model, **arguments):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = JSON | arguments.pop("headers", {})
        return await self.http.post(f"/v1/models/{model}:predict", content=content, headers=headers, **arguments)


@contextmanager
def serving(models, **settings):
    """A Client of `create_app` on the repository `models`, from start-up to shutdown, with records of its own."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        settings = {"records_url": f"sqlite:///{folder}/records.db"} | settings
        app = create_app(read_settings(models=models, **settings))
        lifespan = app.router.lifespan_context(app)
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://plumbline")
        runner.run(lifespan.__aenter__())
        try:
            yield Client(runner, app, http)
        finally:
            runner.run(http.aclose())
            runner.run(lifespan.__aexit__(None, None, None))
