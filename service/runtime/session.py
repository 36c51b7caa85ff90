"""One ONNX Runtime session that has proved where it runs and that it answers as its package promises.

Knows the graph contract (`X` -> `margin`, `probability`) and nothing of HTTP, batching or JSON.
"""

import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import onnxruntime
import structlog
from numpy.typing import NDArray

from service.errors import ConfigurationError, PackageError, ProviderError
from service.manifest import Golden, Manifest
from service.runtime import cuda
from service.runtime.binding import BoundRun, buckets

log = structlog.get_logger(__name__)

Floats = NDArray[np.float32]
# As `InferenceSession.run`: names of outputs and inputs by name -> outputs.
Run = Callable[[Sequence[str], dict[str, Floats]], list[Floats]]

# Largest relative difference between a golden row's stored and computed value (DESIGN: CPU 1e-5, GPU 1e-3).
GOLDEN_TOLERANCE = {"cpu": 1e-5, "cuda": 1e-3}
WARM_UP_RUNS = 5

onnxruntime.set_default_logger_severity(4)  # its messages may quote tensors; failures are raised as exceptions anyway


def check_one_runtime() -> None:
    """Raise ConfigurationError if both ONNX Runtime builds are installed: they silently overwrite each other."""
    installed = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            installed.append(f"{name} {distribution(name).version}")
        except PackageNotFoundError:
            continue
    if len(installed) > 1:
        raise ConfigurationError(f"install one of {' and '.join(installed)}, not both: they overwrite each other")


def open_session(
    model: bytes, manifest: Manifest, *, device: str, threads: int, memory_bytes: int = 0, max_rows: int = 256
) -> "Session":
    """A session on `device`: `cpu`, `cuda:N`, or `auto`, which is CUDA where this graph runs there and else the CPU.

    Raises as `Session` does. Only `auto` may end on another device than the first one tried, and the log says why.
    """

    def on(device: str) -> Session:
        return Session(model, manifest, device=device, threads=threads, memory_bytes=memory_bytes, max_rows=max_rows)

    if device != "auto":
        return on(device)
    if cuda.is_built_in():
        try:
            return on("cuda:0")
        except ProviderError as error:
            log.warning("the CPU runs this model", model=f"{manifest.name}/{manifest.version}", reason=str(error))
    return on("cpu")


class Session:
    """A loaded graph: `run` is stateless and may be called from any thread."""

    def __init__(
        self,
        model: bytes,
        manifest: Manifest,
        *,
        device: str,
        threads: int,
        memory_bytes: int = 0,
        max_rows: int = 256,
    ) -> None:
        """Build the session, check provider and graph against `manifest`.

        `max_rows` is the largest batch, `memory_bytes` what all sessions together may take of a GPU (0: no limit).
        Raises ProviderError if the graph would run elsewhere than on `device` (`cpu` or `cuda:N`), PackageError if
        ONNX Runtime refuses the graph or its inputs and outputs are not the contract's.
        """
        self.device = device
        self.manifest = manifest
        session = build(model, device, threads, memory_bytes=memory_bytes)
        self.provider: str = session.get_providers()[0]
        _check_graph(session, manifest)
        self._run = run_on(device, session, max_rows=max_rows)
        self._sizes = buckets(max_rows) if self.on_gpu else []
        self._seconds_fixed, self._seconds_per_row = 0.0, 0.0

    @property
    def on_gpu(self) -> bool:
        """Whether runs are waited for, while another thread has them made."""
        return self.device != "cpu"

    def run(self, X: Floats) -> tuple[Floats, Floats]:
        """`X` `(n, d)` raw features -> margin `(n, 1)` or `(n, K)`, probability `(n, K)`; float32.

        Whatever ONNX Runtime raises passes through; its message may quote values and must not leave the process.
        """
        margin, probability = self._run(("margin", "probability"), {"X": X})
        return margin, probability

    def seconds(self, rows: int) -> float:
        """Expected duration of one run with `rows` rows, from the measurements of `warm_up`."""
        return self._seconds_fixed + self._seconds_per_row * rows

    def warm_up(self, golden: Golden, *, max_rows: int) -> None:
        """Check the golden rows, then time runs of one row and of `max_rows` rows.

        Raises PackageError if a golden row's answer differs by more than the device's tolerance, or a run fails.
        """
        golden.check(self.manifest.features)
        X = np.array(golden.rows, np.float32)  # (8, d); null becomes NaN
        answers = self._attempt(X)
        tolerance = GOLDEN_TOLERANCE[self.device.partition(":")[0]]
        for name, expected, found in zip(
            ("margin", "probability"), (golden.margin, golden.probability), answers, strict=True
        ):
            stored = np.array(expected)  # float64: what float32 cannot hold differs
            if stored.shape != found.shape or not np.isfinite(found).all():
                raise PackageError(f"golden rows: {name} has shape {found.shape} or is not finite")
            worst = float(np.max(np.abs(found - stored) / np.maximum(1.0, np.abs(stored))))
            if not worst <= tolerance:  # this way round, NaN is refused
                raise PackageError(f"golden rows: {name} differs by {worst:.1e}, tolerated are {tolerance:.0e}")
        for rows in self._sizes:  # the largest first: what it took of the memory serves the others too
            self._attempt(np.resize(X, (rows, X.shape[1])))
        one = self._time(X[:1])
        many = self._time(np.resize(X, (max_rows, X.shape[1])))
        self._seconds_per_row = max(0.0, (many - one) / max(1, max_rows - 1))
        self._seconds_fixed = max(0.0, one - self._seconds_per_row)

    def _attempt(self, X: Floats) -> tuple[Floats, Floats]:
        try:
            return self.run(X)
        except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
            raise PackageError(f"golden rows: the graph fails on a batch of {len(X)}") from error

    def _time(self, X: Floats) -> float:
        durations = []
        for _ in range(WARM_UP_RUNS):
            start = time.perf_counter()
            self._attempt(X)
            durations.append(time.perf_counter() - start)
        return min(durations)


def build(
    model: bytes, device: str, threads: int, *, memory_bytes: int = 0, one_row: bool = False
) -> onnxruntime.InferenceSession:
    """A session of any graph on `device` and nowhere else; of one that only ever gets one row, if `one_row`.

    Raises ProviderError or PackageError.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads must not burn the quota
    if device != "cpu":
        return _build_on_gpu(model, device, options, memory_bytes=memory_bytes, one_row=one_row)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
        raise PackageError(f"ONNX Runtime {onnxruntime.__version__} refuses the graph: {error}") from error


def _build_on_gpu(
    model: bytes, device: str, options: onnxruntime.SessionOptions, *, memory_bytes: int, one_row: bool
) -> onnxruntime.InferenceSession:
    try:
        gpu = cuda.open_device(_index(device), memory_bytes=memory_bytes)
        cuda.configure(options, gpu, one_row=one_row)
        # Without its own fallback, which hides the first reason behind that of a second try.
        session = onnxruntime.InferenceSession(
            model, options, providers=[(cuda.PROVIDER, gpu.provider_options())], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
        raise ProviderError(f"{device} was asked for, but {cuda.why(error)}") from error
    if session.get_providers()[0] != cuda.PROVIDER:
        raise ProviderError(f"{device} was asked for, but the session runs on {session.get_providers()[0]}")
    return session


def run_on(device: str, session: onnxruntime.InferenceSession, *, max_rows: int) -> Run:
    """How a session from `build` is run: on the CPU by its own `run`, on a GPU with its tensors bound there."""
    if device == "cpu":
        run: Run = session.run
        return run
    return BoundRun(session, cuda.open_device(_index(device), memory_bytes=0), max_rows=max_rows)


def _index(device: str) -> int:
    return int(device.partition(":")[2])


def _check_graph(session: onnxruntime.InferenceSession, manifest: Manifest) -> None:
    inputs = session.get_inputs()
    width = len(manifest.features)
    if [node.name for node in inputs] != ["X"] or inputs[0].type != "tensor(float)":
        raise PackageError("the graph must have one input, X, of type float32")
    rows, *columns = inputs[0].shape
    if columns != [width]:
        raise PackageError(f"the graph's X has shape {inputs[0].shape}, the manifest names {width} features")
    if isinstance(rows, int):
        raise PackageError(f"the graph's batch axis is fixed at {rows}; it must be dynamic")
    outputs = {node.name: node for node in session.get_outputs()}
    classes = len(manifest.classes)
    expected = {"margin": 1 if manifest.task == "binary" else classes, "probability": classes}
    for name, count in expected.items():
        if name not in outputs or outputs[name].type != "tensor(float)":
            raise PackageError(f"the graph must have a float32 output {name}")
        if len(outputs[name].shape) != 2 or outputs[name].shape[1] not in (count, None):
            raise PackageError(f"the graph's {name} has shape {outputs[name].shape}, expected [n, {count}]")
