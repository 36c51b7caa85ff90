"""Batches on a device: in buckets, padded, cut back, copied once, from one thread, and halved where memory is short."""

import asyncio
import threading

import numpy as np
import onnxruntime
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from pretend_gpu import PretendGpu

from service.errors import ModelFailed
from service.runtime import cuda
from service.runtime.batcher import Batcher
from service.runtime.binding import BoundRun, bucket, buckets

NAMES = ("margin", "probability")
MODEL = toy.toy_model()


@pytest.fixture
def gpu(monkeypatch):
    return PretendGpu().install(monkeypatch)


def bound(max_rows=16, device=None):
    """A session on the pretended GPU, and how it is run."""
    device = device or cuda.open_device(0, memory_bytes=0)
    options = onnxruntime.SessionOptions()
    cuda.configure(options, device, one_row=False)
    session = onnxruntime.InferenceSession(MODEL, options, providers=[(cuda.PROVIDER, device.provider_options())])
    return session, BoundRun(session, device, max_rows=max_rows)


def matrix(rows, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def plain():
    """What the model answers on the CPU."""
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    return lambda X: session.run(NAMES, {"X": X})


@pytest.mark.parametrize(
    ("rows", "size"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (255, 256), (256, 256), (257, 512)]
)
def test_a_bucket_is_the_next_power_of_two(rows, size):
    assert bucket(rows) == size


@pytest.mark.parametrize(("max_rows", "sizes"), [(1, [1]), (8, [8, 4, 2, 1]), (9, [16, 8, 4, 2, 1])])
def test_the_buckets_end_with_that_of_the_largest_batch(max_rows, sizes):
    """The largest first: what it takes of the memory serves the others too."""
    assert buckets(max_rows) == sizes


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 70), min_size=1, max_size=6))
def test_every_row_gets_the_answer_of_the_cpu_whatever_came_before(plain, sizes):
    """Padding and memory that is used again leave no trace, in either direction."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        gpu = PretendGpu().install(monkeypatch)
        _, run = bound(max_rows=16)
        answers = [(run(NAMES, {"X": matrix(rows, seed)}), matrix(rows, seed)) for seed, rows in enumerate(sizes)]
    for answer, X in answers:  # only now, when every run is over
        for found, expected in zip(answer, plain(X), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert {rows for rows, _ in gpu.runs} <= {1, 2, 4, 8, 16}


def test_padding_repeats_the_last_row(gpu):
    """Not zeros: what a graph does to a row that nobody sent may be slow, or fail."""
    session, run = bound()
    run(NAMES, {"X": matrix(8)})
    run(NAMES, {"X": matrix(5, seed=1)})
    (slot,) = run._slots.values()
    np.testing.assert_array_equal(slot.host[:5], matrix(5, seed=1))
    np.testing.assert_array_equal(slot.host[5:], np.repeat(matrix(5, seed=1)[-1:], 3, axis=0))
    assert [rows for rows, _ in session.runs] == [8, 8]


def test_a_bucket_is_bound_once_and_an_answer_copied_once(gpu):
    """Input and outputs lie on the asked device, and the second batch of a size makes nothing new."""
    device = cuda.open_device(3, memory_bytes=0)
    session, run = bound(device=device)
    for seed in range(4):
        run(NAMES, {"X": matrix(3, seed)})
    (binding,) = session.bindings
    assert gpu.values == [((4, 5), "cuda", 3)]
    assert binding.outputs == [("margin", "cuda", 3), ("probability", "cuda", 3)]
    assert len(session.runs) == session.copies == binding.synchronized == 4


def test_more_rows_than_a_run_may_have_become_several(gpu, plain):
    """Never a larger bucket than that of the largest batch."""
    session, run = bound(max_rows=8)
    found = run(NAMES, {"X": matrix(19)})
    np.testing.assert_array_equal(found[0], plain(matrix(19))[0])
    assert [rows for rows, _ in session.runs] == [8, 8, 4]


def test_every_caller_s_run_happens_on_the_device_s_one_thread(gpu):
    """Also those of another session on it; another device has another thread."""
    first, run_first = bound()
    second, run_second = bound()
    callers = [threading.Thread(target=run, args=(NAMES, {"X": matrix(2)})) for run in (run_first, run_second) * 4]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(first.runs) == len(second.runs) == 4
    assert len({thread for _, thread in gpu.runs}) == 1
    _, run_elsewhere = bound(device=cuda.open_device(1, memory_bytes=0))
    run_elsewhere(NAMES, {"X": matrix(2)})
    assert len({thread for _, thread in gpu.runs}) == 2


def test_a_run_on_the_device_s_own_thread_does_not_wait_for_itself(gpu):
    device = cuda.open_device(0, memory_bytes=0)
    _, run = bound(device=device)
    assert len(device.run(lambda: run(NAMES, {"X": matrix(2)}))[0]) == 2


@pytest.mark.parametrize("rows", [2, 3, 5, 8, 13, 16])
def test_without_memory_for_a_batch_it_is_run_in_halves(gpu, plain, rows):
    """Both are of half the bucket, which was seen to fit at load; the answer is the same."""
    session, run = bound()
    gpu.most_rows = bucket(rows) // 2
    found = run(NAMES, {"X": matrix(rows)})
    for array, expected in zip(found, plain(matrix(rows)), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert len(session.runs) == 2


def test_halves_are_not_halved_again(gpu):
    """A device that has no room for half of a batch has another trouble than this batch."""
    session, run = bound()
    gpu.most_rows = 3
    with pytest.raises(RuntimeError, match="Failed to allocate memory"):
        run(NAMES, {"X": matrix(16)})
    assert session.runs == []


def test_other_failures_are_not_tried_again(gpu, monkeypatch):
    session, run = bound()
    tries = []
    monkeypatch.setattr(session, "run_with_iobinding", lambda binding: tries.append(binding) or [][0])
    with pytest.raises(IndexError):
        run(NAMES, {"X": matrix(8)})
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("message", "is_it"),
    [
        ("Failed to allocate memory for requested buffer of size 939524096", True),
        ("CUDA failure 2: out of memory ; GPU=0 ; hostname=x", True),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0", True),
        ("CUDA failure 700: an illegal memory access was encountered", False),
        ("indices element out of data bounds, idx=7", False),
    ],
)
def test_want_of_memory_is_told_by_its_message(message, is_it):
    """ONNX Runtime raises the same class for everything."""
    assert cuda.is_out_of_memory(RuntimeError(message)) is is_it


def test_for_a_caller_want_of_memory_is_a_failed_model(gpu):
    """The batch fails; those that came with it and fit are answered."""
    _, run = bound()

    async def ask():
        batcher = Batcher(lambda X: tuple(run(NAMES, {"X": X})), max_batch_rows=16, max_queue_rows=64, inline=False)
        answers = await asyncio.gather(
            batcher.infer(matrix(8), timeout_seconds=10),
            batcher.infer(matrix(1), timeout_seconds=10),
            return_exceptions=True,
        )
        await batcher.close()
        return answers

    gpu.most_rows = 2
    large, small = asyncio.run(ask())
    assert isinstance(large, ModelFailed)
    assert len(small[0]) == 1


def test_runs_of_a_device_leave_the_event_loop(gpu):
    """However short they are expected to be: the loop must not wait for what the device does for others."""
    threads = []

    async def ask(inline):
        def run(X):
            threads.append(threading.current_thread())
            return X, X

        batcher = Batcher(run, max_batch_rows=16, max_queue_rows=64, inline=inline)
        await batcher.infer(matrix(1), timeout_seconds=10)
        await batcher.close()

    asyncio.run(ask(inline=True))
    asyncio.run(ask(inline=False))
    assert [thread is threading.main_thread() for thread in threads] == [True, False]
