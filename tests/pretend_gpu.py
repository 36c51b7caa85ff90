"""ONNX Runtime with a GPU that is not there: it writes down what it is told, and the CPU computes.

What it cannot show is that CUDA does as it is told; `docs/gpu.md` says what remains.
"""

import threading
from dataclasses import dataclass, field

import numpy as np
import onnxruntime

from service.runtime import cuda

OUT_OF_MEMORY = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Gemm node. Status "
    "Message: BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 31457280"
)
NOT_ALL_ON_CUDA = (
    "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the default CPU EP, but "
    "fallback to CPU EP has been explicitly disabled by the user."
)
CONFIGURATION = "session.disable_cpu_ep_fallback", "session.use_env_allocators"


@dataclass
class PretendGpu:
    """What ONNX Runtime was told. A run of more than `most_rows` finds no memory."""

    sessions: list = field(default_factory=list)
    arenas: list = field(default_factory=list)
    values: list = field(default_factory=list)
    most_rows: float = np.inf

    @property
    def runs(self):
        """(rows, thread) of every run, over all sessions."""
        return [run for session in self.sessions for run in session.runs]

    def install(self, monkeypatch):
        """Put it in the place of ONNX Runtime's parts for as long as the test lasts."""
        real, make_value = onnxruntime.InferenceSession, onnxruntime.OrtValue.ortvalue_from_shape_and_type

        def session(model, options=None, providers=(), **others):
            if not any(isinstance(provider, tuple) for provider in providers):
                return real(model, options, providers=providers, **others)
            if b"TreeEnsemble" in model:
                raise RuntimeError(NOT_ALL_ON_CUDA)
            self.sessions.append(PretendSession(self, real, model, options, providers, others))
            return self.sessions[-1]

        def value(shape, element_type, kind, index):
            self.values.append((tuple(shape), kind, index))
            return make_value(shape, element_type)

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cuda.PROVIDER, "CPUExecutionProvider"])
        monkeypatch.setattr(onnxruntime, "InferenceSession", session)
        monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_shape_and_type", value)
        monkeypatch.setattr(onnxruntime, "create_and_register_allocator_v2", self._register)
        monkeypatch.setattr(cuda, "load_libraries", lambda: None)
        monkeypatch.setattr(cuda, "_devices", {})
        return self

    def _register(self, provider, memory, options, configuration):
        self.arenas.append((provider, memory, options, configuration))


class PretendSession:
    """A session on the CPU that says it is on CUDA."""

    def __init__(self, gpu, real, model, options, providers, others):
        self.gpu = gpu
        self.providers, self.others = providers, others
        self.configuration = {name: options.get_session_config_entry(name) for name in CONFIGURATION}
        quiet = onnxruntime.SessionOptions()
        quiet.log_severity_level = 4
        self._real = real(model, quiet, providers=["CPUExecutionProvider"])
        self.runs, self.bindings, self.copies = [], [], 0

    def get_providers(self):
        return [self.providers[0][0], "CPUExecutionProvider"]

    def get_inputs(self):
        return self._real.get_inputs()

    def get_outputs(self):
        return self._real.get_outputs()

    def run(self, names, feeds):
        raise AssertionError("a session on a GPU is run with its tensors bound there")

    def io_binding(self):
        self.bindings.append(PretendBinding(self, self._real.io_binding()))
        return self.bindings[-1]

    def run_with_iobinding(self, binding):
        if binding.rows > self.gpu.most_rows:
            raise RuntimeError(OUT_OF_MEMORY)
        self.runs.append((binding.rows, threading.current_thread().name))
        self._real.run_with_iobinding(binding.real)


class PretendBinding:
    """Binds on the CPU what is to be bound on the GPU."""

    def __init__(self, session, real):
        self.session, self.real = session, real
        self.rows, self.outputs, self.synchronized = 0, [], 0

    def bind_ortvalue_input(self, name, value):
        assert name == "X"
        self.rows = value.shape()[0]
        self.real.bind_ortvalue_input(name, value)

    def bind_output(self, name, kind, index):
        self.outputs.append((name, kind, index))
        self.real.bind_output(name)

    def synchronize_outputs(self):
        self.synchronized += 1

    def copy_outputs_to_cpu(self):
        self.session.copies += 1
        return self.real.copy_outputs_to_cpu()
