"""The batcher: each caller gets its own rows' answer, whatever arrives together, fails, waits or leaves."""

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import DeadlineExceeded, ModelFailed, NotReady, QueueFull
from service.runtime.batcher import Batcher, Floats, Outputs

POISON, INFINITE, UNDEFINED = -1.0, -2.0, -3.0


def model(X: Floats) -> Outputs:
    """Margin 10 x, probability x; POISON raises, INFINITE has an infinite margin, UNDEFINED a probability of NaN."""
    if (X == POISON).any():
        raise RuntimeError("poisoned")
    margin = np.where(X[:, :1] == INFINITE, np.inf, X[:, :1] * 10).astype(np.float32)
    positive = np.where(X[:, :1] == UNDEFINED, np.nan, X[:, :1]).astype(np.float32)
    return margin, np.hstack([1 - positive, positive])


def rows(*values: float) -> Floats:
    return np.array(values, np.float32).reshape(-1, 1)


def batcher(run: Callable[[Floats], Outputs] = model, *, slow: bool = False, **bounds: int) -> Batcher:
    limits = {"max_batch_rows": 8, "max_queue_rows": 64} | bounds
    return Batcher(run, seconds=lambda rows: 1.0 if slow else 0.0, **limits)


async def ask(queue: Batcher, *values: float, timeout_seconds: float = 10.0) -> list[float]:
    margin, _ = await queue.infer(rows(*values), timeout_seconds=timeout_seconds)
    return margin[:, 0].tolist()


class Gate:
    """A model that waits until it is let go, and says when it has started."""

    def __init__(self) -> None:
        self.started, self.go = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def __call__(self, X: Floats) -> Outputs:
        self.sizes.append(len(X))
        self.started.set()
        assert self.go.wait(10)
        return model(X)

    async def entered(self) -> None:
        await asyncio.to_thread(self.started.wait, 10)


def test_requests_of_one_turn_share_a_run() -> None:
    """Five callers of the same turn cost one run, and each gets its own answer."""
    sizes: list[int] = []

    def counting(X: Floats) -> Outputs:
        sizes.append(len(X))
        return model(X)

    async def scenario() -> list[list[float]]:
        queue = batcher(counting)
        return await asyncio.gather(*(ask(queue, value) for value in (1, 2, 3, 4, 5)))

    assert asyncio.run(scenario()) == [[10], [20], [30], [40], [50]]
    assert sizes == [5]


def test_no_run_exceeds_the_row_limit() -> None:
    """A request larger than a batch is run in parts; its answer comes back whole and in order."""
    sizes: list[int] = []

    def counting(X: Floats) -> Outputs:
        sizes.append(len(X))
        return model(X)

    async def scenario() -> list[float]:
        return await ask(batcher(counting), *range(20))

    assert asyncio.run(scenario()) == [10.0 * value for value in range(20)]
    assert sizes == [8, 8, 4]


@pytest.mark.parametrize("slow", [False, True], ids=["on the loop", "in a thread"])
@pytest.mark.parametrize(("bad", "message"), [(POISON, "failed"), (INFINITE, "not finite"), (UNDEFINED, "not finite")])
def test_a_bad_row_fails_only_its_own_request(slow: bool, bad: float, message: str) -> None:
    """The request with the bad row is told which row; its batch-mates are answered."""

    async def scenario() -> list[object]:
        queue = batcher(slow=slow)
        return await asyncio.gather(ask(queue, 1), ask(queue, 2, bad, 3), ask(queue, 4), return_exceptions=True)

    first, failed, last = asyncio.run(scenario())
    assert (first, last) == ([10.0], [40.0])
    assert isinstance(failed, ModelFailed)
    assert failed.row == 1
    assert message in str(failed)


def test_queue_is_bounded_in_rows() -> None:
    """While the model is busy, rows over the bound are refused at once with a time to come back."""

    async def scenario() -> None:
        gate = Gate()
        queue = batcher(gate, slow=True, max_queue_rows=4)
        running = asyncio.create_task(ask(queue, 1))
        await gate.entered()
        waiting = asyncio.create_task(ask(queue, 2, 3, 4))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull) as refused:
            await ask(queue, 5, 6)
        assert refused.value.retry_after_seconds > 0
        assert queue.waiting_rows == 3
        gate.go.set()
        assert await running == [10]
        assert await waiting == [20, 30, 40]
        assert queue.waiting_rows == 0

    asyncio.run(scenario())


def test_deadline_passes_for_the_running_and_the_waiting() -> None:
    """Callers are told at their deadline, not when the slow model is done; later callers are served."""

    async def scenario() -> None:
        gate = Gate()
        queue = batcher(gate, slow=True)
        running = asyncio.create_task(ask(queue, 1, timeout_seconds=0.05))
        await gate.entered()
        waiting = asyncio.create_task(ask(queue, 2, timeout_seconds=0.01))
        patient = asyncio.create_task(ask(queue, 3))
        for task in (waiting, running):
            with pytest.raises(DeadlineExceeded):
                await task
        assert not patient.done()
        gate.go.set()
        assert await patient == [30]

    asyncio.run(scenario())


def test_cancelled_caller_leaves_the_queue() -> None:
    """A caller that goes away frees its rows and strands nobody."""

    async def scenario() -> None:
        gate = Gate()
        queue = batcher(gate, slow=True)
        running = asyncio.create_task(ask(queue, 1))
        await gate.entered()
        leaving, staying = asyncio.create_task(ask(queue, 2, 3)), asyncio.create_task(ask(queue, 4))
        await asyncio.sleep(0)
        leaving.cancel()
        running.cancel()
        await asyncio.sleep(0)
        assert queue.waiting_rows == 1
        gate.go.set()
        assert await staying == [40]
        assert gate.sizes == [1, 1]

    asyncio.run(scenario())


def test_closing_answers_what_runs_and_refuses_the_rest() -> None:
    """Nobody hangs when a model is unloaded."""

    async def scenario() -> None:
        gate = Gate()
        queue = batcher(gate, slow=True)
        running = asyncio.create_task(ask(queue, 1))
        await gate.entered()
        waiting = asyncio.create_task(ask(queue, 2))
        await asyncio.sleep(0)
        closing = asyncio.create_task(queue.close())
        await asyncio.sleep(0)
        gate.go.set()
        await closing
        assert await running == [10]
        for late in (waiting, ask(queue, 3)):
            with pytest.raises(NotReady):
                await late

    asyncio.run(scenario())


def test_a_defect_in_the_observer_fails_its_callers_and_not_the_next() -> None:
    """Even an error of our own around a run leaves no caller waiting."""
    broken = [True]

    def observe(rows: int, seconds: float) -> None:
        if broken.pop() if broken else False:
            raise ValueError("a defect")

    async def scenario() -> None:
        queue = Batcher(model, max_batch_rows=8, max_queue_rows=64, observe=observe)
        with pytest.raises(ModelFailed):
            await asyncio.wait_for(ask(queue, 1), 5)
        assert await ask(queue, 2) == [20]

    asyncio.run(scenario())


request = st.tuples(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, POISON, INFINITE]), min_size=1, max_size=12),
    st.sampled_from(["wait", "cancel", "impatient"]),
    st.integers(0, 3),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(request, min_size=1, max_size=12), st.booleans())
def test_any_interleaving_gives_each_caller_its_own_answer(
    requests: list[tuple[list[float], str, int]], slow: bool
) -> None:
    """Sizes, bad rows, cancellations and deadlines in any order: everybody gets their own answer or their own error."""

    async def one(queue: Batcher, values: list[float], manner: str, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        task = asyncio.create_task(ask(queue, *values, timeout_seconds=0.0 if manner == "impatient" else 10.0))
        if manner == "cancel":
            await asyncio.sleep(0)
            task.cancel()
        try:
            answer = await asyncio.wait_for(task, 10)
        except asyncio.CancelledError:
            assert manner == "cancel"
        except DeadlineExceeded:
            assert manner == "impatient"
        except ModelFailed as failed:
            assert values[failed.row] in (POISON, INFINITE)  # noqa: PT017 - one outcome of several
        else:
            assert answer == [value * 10 for value in values]

    async def scenario() -> None:
        queue = batcher(slow=slow, max_queue_rows=1000)
        await asyncio.gather(*(one(queue, *request) for request in requests))
        assert queue.waiting_rows == 0
        await queue.close()

    asyncio.run(scenario())
