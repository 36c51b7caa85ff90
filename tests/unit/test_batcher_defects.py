"""The batcher where something around the model is wrong: no caller hangs, and the next one is served."""

import asyncio
import threading

import numpy as np
import pytest
import uvloop

from service.errors import DeadlineExceeded, ModelFailed, NotReady, QueueFull
from service.runtime.batcher import Batcher

PATIENCE = 10.0  # real seconds after which a caller counts as stranded
POISON = -1.0


class Broken(BaseException):
    """What `except Exception` does not catch, like the panic of a native library."""


def double(X):
    return X[:, :1] * 2, X


def batcher(run=double, *, slow=False, **arguments):
    limits = {"max_batch_rows": 8, "max_queue_rows": 64, "seconds": lambda rows: 1.0 if slow else 0.0}
    return Batcher(run, **limits | arguments)


async def ask(queue, *values, timeout_seconds=2 * PATIENCE):
    X = np.array(values, np.float32).reshape(len(values), -1) if values else np.empty((0, 1), np.float32)
    answer = queue.infer(X, timeout_seconds=timeout_seconds)
    margin, _ = await asyncio.wait_for(answer, PATIENCE)
    return margin[:, 0].tolist()


def together(*coroutines):
    async def gather():
        return await asyncio.gather(*coroutines, return_exceptions=True)

    return asyncio.run(gather())


@pytest.mark.parametrize("slow", [False, True], ids=["on the loop", "in a thread"])
def test_rows_that_cannot_be_joined_are_run_apart(slow):
    """Matrices of different widths: each is answered, as it would be alone."""
    queue = batcher(slow=slow)
    assert together(ask(queue, 1), ask(queue, (2, 2)), ask(queue, 3)) == [[2], [4], [6]]


@pytest.mark.parametrize("slow", [False, True], ids=["on the loop", "in a thread"])
def test_outputs_without_columns_are_the_models_failure(slow):
    queue = batcher(lambda X: (X[:, 0], np.where(X[:, 0] > 1, np.inf, 1)), slow=slow)
    assert [type(outcome) for outcome in together(ask(queue, 1), ask(queue, 2))] == [ModelFailed] * 2


@pytest.mark.parametrize("slow", [False, True], ids=["on the loop", "in a thread"])
def test_a_run_that_breaks_off_is_told_to_its_callers_and_not_to_the_next(slow):
    """Whatever a run raises; those who wait behind it are answered."""
    broken = [True]

    def run(X):
        if broken.pop() if broken else False:
            raise Broken
        return double(X)

    queue = batcher(run, slow=slow, max_batch_rows=2)

    async def scenario():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
        return await asyncio.gather(*(ask(queue, value) for value in (1, 2, 3)), return_exceptions=True)

    told: list[BaseException] = []
    first, second, third = asyncio.run(scenario())
    assert (type(first), type(second), third) == (NotReady, NotReady, [6])
    assert [type(error) for error in told] == [Broken]


def test_an_interrupt_from_the_keyboard_stops_the_loop_and_strands_nobody():
    """It arrives while the model runs on the loop."""

    def run(X):
        if X[0, 0] == POISON:
            raise KeyboardInterrupt
        return double(X)

    loop = asyncio.new_event_loop()
    queue = batcher(run)
    interrupted = loop.create_task(ask(queue, POISON))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(interrupted)
    with pytest.raises(NotReady):
        loop.run_until_complete(interrupted)
    assert loop.run_until_complete(ask(queue, 1)) == [2]
    loop.close()


def test_a_defect_in_the_estimate_fails_its_callers_and_not_the_next():
    broken = [True]

    def seconds(rows):
        if broken.pop() if broken else False:
            raise ZeroDivisionError
        return 0.0

    async def scenario():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        return await asyncio.gather(*(ask(queue, value) for value in (1, 2, 3)), return_exceptions=True)

    queue = batcher(seconds=seconds, max_batch_rows=2)
    first, second, third = asyncio.run(scenario())
    assert (type(first), type(second), third) == (NotReady, NotReady, [6])


def test_a_thread_that_cannot_be_started_fails_its_callers_and_not_the_next(monkeypatch):
    """As where the limit of processes is reached."""

    async def scenario():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        with monkeypatch.context() as limited:
            limited.setattr(threading.Thread, "start", refuse)
            with pytest.raises(NotReady):
                await ask(queue, 1)
        return await ask(queue, 2)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    queue = batcher(slow=True)
    assert asyncio.run(scenario()) == [4]


def test_a_deadline_is_kept_though_the_one_in_front_may_wait_longer():
    """Both arrive in the same turn, and the second finds no room in the first one's run."""
    go = threading.Event()

    def run(X):
        assert go.wait(PATIENCE)
        return double(X)

    async def scenario():
        queue = batcher(run, slow=True, max_batch_rows=1)
        patient = asyncio.create_task(ask(queue, 1))
        hurried = asyncio.create_task(ask(queue, 2, timeout_seconds=0.05))
        with pytest.raises(DeadlineExceeded):
            await hurried
        assert not patient.done()
        go.set()
        return await patient

    assert asyncio.run(scenario()) == [2]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_deadlines_less_than_a_millisecond_away_are_deadlines(new_loop):
    """Several callers at once who may hardly wait; uvloop has no timer for so short a time."""
    go = threading.Event()

    def run(X):
        assert go.wait(PATIENCE)
        return double(X)

    async def scenario():
        queue = batcher(run, slow=True)
        patient = asyncio.create_task(ask(queue, 1))
        await asyncio.sleep(0.01)
        hurried = (ask(queue, value, timeout_seconds=0.0002) for value in (2, 3, 4))
        outcomes = await asyncio.gather(*hurried, return_exceptions=True)
        go.set()
        assert await patient == [2]
        return outcomes

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert [type(outcome) for outcome in runner.run(scenario())] == [DeadlineExceeded] * 3


def test_the_thread_ends_although_closing_is_given_up():
    """Whoever closes need not wait for the run."""
    go, threads = threading.Event(), []

    def run(X):
        threads.append(threading.current_thread())
        assert go.wait(PATIENCE)
        return double(X)

    async def scenario():
        queue = batcher(run, slow=True)
        running = asyncio.create_task(ask(queue, 1))
        while not threads:
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.close(), 0.01)
        go.set()
        assert await running == [2]
        await asyncio.to_thread(threads[0].join, PATIENCE)
        return threads[0].is_alive()

    assert asyncio.run(scenario()) is False


def test_finding_the_bad_row_takes_few_runs():
    """One bad row in a thousand, alone or among many callers, does not hold everyone up for a thousand runs."""
    sizes = []

    def run(X):
        sizes.append(len(X))
        if (X == POISON).any():
            raise ValueError
        return double(X)

    bounds = {"max_batch_rows": 256, "max_queue_rows": 4096}
    values = [*range(999), POISON]
    (failed,) = together(ask(batcher(run, **bounds), *values))
    assert failed.row == 999
    assert len(sizes) < 20
    sizes.clear()
    queue = batcher(run, **bounds)
    *answers, failed = together(*(ask(queue, value) for value in values[-256:]))
    assert answers == [[2 * value] for value in values[-256:-1]]
    assert failed.row == 0
    assert len(sizes) < 20


def test_no_rows_are_answered_with_no_rows():
    """Nobody's row is to blame where there is none."""
    queue = batcher()
    assert together(ask(queue), ask(queue, 1)) == [[], [2]]


def test_more_rows_than_may_ever_wait_are_refused():
    """The settings see to it that no request is as large; here it is an error, not a wait."""
    queue = batcher(max_queue_rows=4)
    outcomes = together(ask(queue, *range(5)), ask(queue, *range(4)))
    assert isinstance(outcomes[0], QueueFull)
    assert outcomes[1] == [0, 2, 4, 6]
