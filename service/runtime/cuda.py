"""CUDA: what a session on a GPU is told, who runs there, and what its sessions share.

Knows ONNX Runtime; knows no models, packages or requests. Nothing of this is reached by a session on the CPU.
"""

import contextlib
import ctypes
import functools
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import onnxruntime
import structlog

from service.errors import ProviderError

log = structlog.get_logger(__name__)

PROVIDER = "CUDAExecutionProvider"
# Name of the batch axis in the explainers that the offline package compiles.
BATCH_AXIS = "n"
SAME_AS_REQUESTED = 1  # arena_extend_strategy, as OrtArenaCfg takes it
COMPLAINT = "Failed to load "

Answer = TypeVar("Answer")


class Device:
    """One GPU as this process uses it: one thread, and one arena for the activations of all its sessions.

    One thread, because ONNX Runtime keeps a stream, cuBLAS handles and their workspace for every thread that ever ran a
    session, and what the arena gave to one stream is lost to the next (microsoft/onnxruntime issue 29351). One
    arena, because runs come one after another: the largest of them, not their sum, is what has to fit.
    """

    def __init__(self, index: int, *, memory_bytes: int) -> None:
        """`memory_bytes` bounds the arena, 0 does not. Raises ProviderError where it cannot be had."""
        self.index = index
        self.memory_bytes = memory_bytes
        self.shares_memory = self._share_memory()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"plumbline-cuda-{index}")
        # Started here, because a thread inherits the priority of the one that starts it.
        self._thread = self._executor.submit(threading.current_thread).result()

    def run(self, function: Callable[[], Answer]) -> Answer:
        """What `function` returns or raises, from the device's thread, which the caller waits for."""
        if threading.current_thread() is self._thread:
            return function()
        return self._executor.submit(function).result()

    def provider_options(self) -> dict[str, str]:
        """How every session on this device is set up; ONNX Runtime takes strings."""
        options = {
            "device_id": str(self.index),
            # The weights' arena, and that of everything else where none is shared: no more than what is asked for.
            "arena_extend_strategy": "kSameAsRequested",
            # EXHAUSTIVE times every algorithm at each new shape, in a request, and may choose another one next time.
            "cudnn_conv_algo_search": "HEURISTIC",
            # Copies on a stream of their own may race with kernels, as ONNX Runtime's documentation warns.
            "do_copy_in_default_stream": "1",
            # TF32 keeps 10 bits of the mantissa: an error of 5e-4 in each product, where golden rows and the additivity
            # of explanations are held to 1e-3 of the whole sum. Graphs this small would not gain from it.
            "use_tf32": "0",
        }
        return options | ({"gpu_mem_limit": str(self.memory_bytes)} if self.memory_bytes else {})

    def _share_memory(self) -> bool:
        """Register one arena for the sessions of this process, once: it cannot be changed or taken back."""
        kind, memory = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
        trouble = load_libraries()
        try:
            onnxruntime.create_and_register_allocator_v2(
                PROVIDER,
                onnxruntime.OrtMemoryInfo("Cuda", kind, self.index, memory),
                {"device_id": str(self.index)},
                onnxruntime.OrtArenaCfg({"max_mem": self.memory_bytes, "arena_extend_strategy": SAME_AS_REQUESTED}),
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
            if trouble is not None:
                raise ProviderError(trouble) from error
            if self.memory_bytes:
                raise ProviderError(f"{self.memory_bytes} bytes of the GPU cannot be shared: {error}") from error
            log.warning("models do not share the memory of the GPU", device=f"cuda:{self.index}", reason=str(error))
            return False
        return True


_devices: dict[int, Device] = {}
_lock = threading.Lock()


def open_device(index: int, *, memory_bytes: int) -> Device:
    """The device of this process, made at the first call, whose `memory_bytes` (0: no limit) then holds.

    Raises ProviderError, with the reason, where CUDA cannot be had.
    """
    with _lock:
        if index not in _devices:
            if not is_built_in():
                raise ProviderError("this build of ONNX Runtime has no CUDA provider")
            _devices[index] = Device(index, memory_bytes=memory_bytes)
        return _devices[index]


def is_built_in() -> bool:
    """Whether this is ONNX Runtime's CUDA build; it says so also where there is no GPU."""
    return PROVIDER in onnxruntime.get_available_providers()


@functools.cache
def load_libraries() -> str | None:
    """Load the CUDA libraries that pip installed, which no search path names. What is missing, or None."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):  # it prints what it misses, and returns
        onnxruntime.preload_dlls()
    for line in printed.getvalue().splitlines():
        if line.startswith(COMPLAINT):
            library = line.removeprefix(COMPLAINT).partition(":")[0].rpartition("/")[2]
            return f"the CUDA library {library} cannot be loaded"
    try:
        ctypes.CDLL("libcuda.so.1")  # comes with the driver, and with nothing else
    except OSError:
        return "there is no NVIDIA driver (libcuda.so.1)"
    return None


def configure(options: Any, device: Device, *, one_row: bool) -> None:
    """Set in `options` (SessionOptions) what holds for every session on `device`.

    `one_row` fixes the batch axis of a graph that only ever gets one row: shapes become constants, where ONNX Runtime
    would compute them on the CPU, which is refused.
    """
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_session_config_entry("session.use_env_allocators", str(int(device.shares_memory)))
    if one_row:
        options.add_free_dimension_override_by_name(BATCH_AXIS, 1)


def why(error: Exception) -> str:
    """ONNX Runtime's reason, in plain words where it is the usual one."""
    if "assigned to the default CPU EP" in str(error):
        return "ONNX Runtime has CUDA kernels for only a part of the graph"
    return str(error)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a run failed for want of device memory. ONNX Runtime has no type for it, only messages."""
    message = str(error).lower()
    return any(part in message for part in ("failed to allocate memory", "out of memory", "alloc_failed"))
