"""The fairness middleware: hands on after the response has left, however that ended, and is not noticed."""

import asyncio

import pytest

from service.middleware import FairnessMiddleware
from service.monitor.monitor import INFERENCE

SCOPE = {"type": "http", "path": "/"}


class Monitor:
    """Notes what is taken, and when."""

    def __init__(self, events):
        self._events = events

    def take(self, inference):
        self._events.append(("taken", inference))


def call(app, scope=None):
    """(events in order, the scope) of one request through the middleware."""
    events = []
    scope = dict(SCOPE) if scope is None else scope

    async def send(message):
        events.append(("sent", message["type"]))

    async def scenario():
        await FairnessMiddleware(app, Monitor(events))(scope, None, send)

    try:
        asyncio.run(scenario())
    except (RuntimeError, asyncio.CancelledError) as error:
        events.append(("raised", error))
    return events, scope


async def answer(send):
    await send({"type": "http.response.start"})
    await send({"type": "http.response.body"})


def test_an_inference_is_handed_on_after_the_response_has_left():
    """Once, and then it is gone from the scope."""

    async def app(scope, receive, send):
        scope[INFERENCE] = "inference"
        await answer(send)

    events, scope = call(app)
    assert events == [("sent", "http.response.start"), ("sent", "http.response.body"), ("taken", "inference")]
    assert scope == SCOPE


def test_a_request_without_an_inference_hands_on_nothing():
    """Refused, or not a prediction."""

    async def app(scope, receive, send):
        await answer(send)

    assert call(app)[0] == [("sent", "http.response.start"), ("sent", "http.response.body")]


@pytest.mark.parametrize("kind", ["http", "lifespan", "websocket"])
def test_what_the_app_is_called_with_is_what_was_called(kind):
    """The same scope, receive and send, for any kind of connection."""
    given = []

    async def app(*arguments):
        given.extend(arguments)

    scope, receive, send = {"type": kind}, object(), object()
    asyncio.run(FairnessMiddleware(app, Monitor([]))(scope, receive, send))
    assert all(one is other for one, other in zip(given, (scope, receive, send), strict=True))


def test_what_was_decided_counts_also_if_answering_fails():
    """The caller's connection broke: the error is the app's own, with the inference handed on before."""
    broken = RuntimeError("gone")

    async def app(scope, receive, send):
        scope[INFERENCE] = "inference"
        raise broken

    events, _ = call(app)
    assert events == [("taken", "inference"), ("raised", broken)]


def test_an_error_before_any_decision_passes_through():
    """With nothing handed on."""
    broken = RuntimeError("refused")

    async def app(scope, receive, send):
        raise broken

    assert call(app)[0] == [("raised", broken)]


def test_what_was_decided_counts_also_if_the_request_is_cancelled():
    """And the cancellation goes on."""
    events = []

    async def app(scope, receive, send):
        scope[INFERENCE] = "inference"
        await asyncio.sleep(10)

    async def scenario():
        task = asyncio.create_task(FairnessMiddleware(app, Monitor(events))(dict(SCOPE), None, None))
        await asyncio.sleep(0)
        assert events == []
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert events == [("taken", "inference")]


def test_requests_at_once_keep_their_inferences_apart():
    """Each is handed on when its own response has left."""
    events = []

    async def app(scope, receive, send):
        scope[INFERENCE] = scope["path"]
        await asyncio.sleep(0.001 * (3 - scope["path"]))

    async def scenario():
        middleware = FairnessMiddleware(app, Monitor(events))
        await asyncio.gather(*(middleware({"type": "http", "path": number}, None, None) for number in range(3)))

    asyncio.run(scenario())
    assert sorted(events) == [("taken", 0), ("taken", 1), ("taken", 2)]
