"""What a session on a GPU is told, what its sessions share, and the reason where there is none."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import toy
from pretend_gpu import NOT_ALL_ON_CUDA, PretendGpu

from service.errors import PackageError, ProviderError
from service.manifest import BACKGROUND_FILE, EXPLAINER_FILE, MODEL_FILE, read_manifest
from service.runtime import cuda
from service.runtime.explainer import Explainer, open_explainer
from service.runtime.session import build, open_session

REPOSITORY = Path(__file__).parents[2] / "models" / "repository"
GIGABYTE = 2**30


@pytest.fixture
def gpu(monkeypatch):
    return PretendGpu().install(monkeypatch)


def package(name="diagnosis"):
    folder = REPOSITORY / name / "1"
    background = np.load(folder / BACKGROUND_FILE)
    return read_manifest(folder), (folder / MODEL_FILE).read_bytes(), (folder / EXPLAINER_FILE).read_bytes(), background


@pytest.mark.parametrize("memory_bytes", [0, GIGABYTE])
@pytest.mark.parametrize("kind", ["model", "explainer"])
def test_every_session_is_told_the_same(gpu, kind, memory_bytes):
    """TF32 off for both: a margin that is served must be the one that is explained."""
    manifest, model, explainer, _ = package()
    if kind == "model":
        open_session(model, manifest, device="cuda:1", threads=1, memory_bytes=memory_bytes)
    else:
        Explainer(explainer, manifest, device="cuda:1", memory_bytes=memory_bytes)
    (session,) = gpu.sessions
    ((provider, options),) = session.providers
    assert provider == "CUDAExecutionProvider"
    assert options == {
        "device_id": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "do_copy_in_default_stream": "1",
        "use_tf32": "0",
    } | ({"gpu_mem_limit": str(GIGABYTE)} if memory_bytes else {})
    assert session.configuration == {"session.disable_cpu_ep_fallback": "1", "session.use_env_allocators": "1"}
    assert session.others == {"enable_fallback": 0}


def test_sessions_of_a_device_share_one_arena(gpu):
    """The second model and the explainers take theirs from it; another device has its own."""
    manifest, model, explainer, _ = package()
    for device in ("cuda:0", "cuda:0", "cuda:1"):
        open_session(model, manifest, device=device, threads=1, memory_bytes=GIGABYTE)
        Explainer(explainer, manifest, device=device, memory_bytes=GIGABYTE)
    assert [options["device_id"] for _, _, options, _ in gpu.arenas] == ["0", "1"]
    _, memory, _, configuration = gpu.arenas[0]
    assert (memory.name, memory.device_id) == ("Cuda", 0)
    assert (configuration.max_mem, configuration.arena_extend_strategy) == (GIGABYTE, cuda.SAME_AS_REQUESTED)


def failing(*arguments):
    raise RuntimeError("no such allocator")


def test_an_arena_that_cannot_be_shared_is_missed_only_where_there_is_a_limit(gpu, monkeypatch):
    """Without a limit each session has its own; with one, several would take a multiple of it."""
    monkeypatch.setattr(onnxruntime, "create_and_register_allocator_v2", failing)
    manifest, model, _, _ = package()
    with pytest.raises(ProviderError, match=f"cuda:0 was asked for, but {GIGABYTE} bytes of the GPU cannot be shared"):
        open_session(model, manifest, device="cuda:0", threads=1, memory_bytes=GIGABYTE)
    open_session(model, manifest, device="cuda:0", threads=1)
    assert gpu.sessions[0].configuration["session.use_env_allocators"] == "0"


def test_a_model_is_warmed_up_in_every_bucket(gpu):
    """So that no request waits for memory, the largest first; golden rows before, timing after."""
    manifest, model, _, _ = package()
    session = open_session(model, manifest, device="cuda:0", threads=1, max_rows=20)
    golden = toy.golden(model, package()[3][:8].tolist())
    from service.manifest import Golden

    session.warm_up(Golden(**golden), max_rows=20)
    rows = [rows for rows, _ in gpu.runs]
    assert rows[:7] == [8, 32, 16, 8, 4, 2, 1]
    assert set(rows[7:]) == {1, 32}
    assert session.on_gpu


def test_answers_and_explanations_are_those_of_the_cpu(gpu):
    """Through the binding, byte for byte: here the CPU computes both."""
    manifest, model, explainer, background = package()
    on_gpu, on_cpu = (open_session(model, manifest, device=device, threads=1) for device in ("cuda:0", "cpu"))
    for found, expected in zip(on_gpu.run(background), on_cpu.run(background), strict=True):
        np.testing.assert_array_equal(found, expected)
    found, expected = (
        Explainer(explainer, manifest, device=device).explain(background[:1]) for device in ("cuda:0", "cpu")
    )
    for name in ("values", "base_values", "error_std", "fx"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


class Options:
    """SessionOptions that can be read back."""

    def __init__(self):
        self.entries, self.dimensions = {}, {}

    def add_session_config_entry(self, name, value):
        self.entries[name] = value

    def add_free_dimension_override_by_name(self, name, size):
        self.dimensions[name] = size


def test_only_an_explainer_has_its_batch_fixed_at_one_row(gpu):
    """Models answer batches."""
    device = cuda.open_device(0, memory_bytes=0)
    explainer, model = Options(), Options()
    cuda.configure(explainer, device, one_row=True)
    cuda.configure(model, device, one_row=False)
    assert explainer.dimensions == {"n": 1}
    assert model.dimensions == {}


@pytest.mark.parametrize("name", ["diagnosis", "progression", "transaction"])
def test_with_one_row_no_explainer_computes_shapes(name):
    """ONNX Runtime places what computes shapes on the CPU, and a session on a GPU must have nothing there."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_free_dimension_override_by_name(cuda.BATCH_AXIS, 1)
    session = onnxruntime.InferenceSession(package(name)[2], options, providers=["CPUExecutionProvider"])
    operators = {node.op_type for part in session.get_provider_graph_assignment_info() for node in part.get_nodes()}
    assert len(operators) > 5
    assert not operators & {"Shape", "Size", "ConstantOfShape", "Range"}


def test_auto_runs_trees_on_the_cpu_and_the_rest_on_the_gpu(gpu):
    """ONNX Runtime has no CUDA kernel for tree ensembles."""
    trees, network = (
        open_session(model, manifest, device="auto", threads=1)
        for manifest, model, _, _ in (package("transaction"), package("diagnosis"))
    )
    assert (trees.device, trees.provider, trees.on_gpu) == ("cpu", "CPUExecutionProvider", False)
    assert (network.device, network.provider, network.on_gpu) == ("cuda:0", "CUDAExecutionProvider", True)


def test_trees_that_were_asked_onto_the_gpu_are_refused_in_plain_words(gpu):
    """With what ONNX Runtime lacks, not with its word for it."""
    manifest, model, explainer, _ = package("transaction")
    reason = "^cuda:0 was asked for, but ONNX Runtime has CUDA kernels for only a part of the graph$"
    with pytest.raises(ProviderError, match=reason):
        open_session(model, manifest, device="cuda:0", threads=1)
    with pytest.raises(ProviderError, match=reason):
        open_explainer(explainer, manifest, device="cuda:0", may_move=False)
    assert open_explainer(explainer, manifest, device="cuda:0", may_move=True).device == "cpu"


def test_a_session_that_lands_elsewhere_is_refused(gpu, monkeypatch):
    """Whatever let it."""
    monkeypatch.setattr("pretend_gpu.PretendSession.get_providers", lambda self: ["CPUExecutionProvider"])
    manifest, model, _, _ = package()
    with pytest.raises(ProviderError, match="cuda:0 was asked for, but the session runs on CPUExecutionProvider"):
        open_session(model, manifest, device="cuda:0", threads=1)


def test_a_graph_that_nothing_can_load_is_the_package_s_fault(gpu):
    """Also where a GPU was tried first."""
    manifest, *_ = package()
    with pytest.raises(PackageError, match="refuses the graph"):
        open_session(b"no graph", manifest, device="auto", threads=1)
    with pytest.raises(PackageError, match="refuses the graph"):
        build(b"no graph", "cpu", 1)


def test_the_cpu_is_run_by_its_own_run():
    """Nothing stands between a session on the CPU and ONNX Runtime."""
    manifest, model, explainer, _ = package()
    for opened in (
        open_session(model, manifest, device="cpu", threads=1),
        Explainer(explainer, manifest, device="cpu"),
    ):
        assert opened._run.__func__ is onnxruntime.InferenceSession.run


def test_a_build_without_cuda_says_so(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(cuda, "_devices", {})
    with pytest.raises(ProviderError, match=r"^this build of ONNX Runtime has no CUDA provider$"):
        cuda.open_device(0, memory_bytes=0)


@pytest.fixture
def libraries(monkeypatch):
    """What `load_libraries` finds: what ONNX Runtime prints, and whether there is a driver."""

    def find(*lines, driver):
        def load(name):
            assert name == "libcuda.so.1"
            if not driver:
                raise OSError(f"{name}: cannot open shared object file: No such file or directory")

        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print(*lines, sep="\n"))  # noqa: T201
        monkeypatch.setattr(cuda.ctypes, "CDLL", load)
        return cuda.load_libraries.__wrapped__()

    return find


def test_what_is_missing_is_named(libraries):
    """Not where it was looked for; nothing reaches the standard output."""
    assert libraries(driver=True) is None
    complaint = "Failed to load /srv/lib/libcublas.so.13: libcublasLt.so.13: cannot open shared object file"
    assert libraries(complaint, driver=True) == "the CUDA library libcublas.so.13 cannot be loaded"
    assert libraries(driver=False) == "there is no NVIDIA driver (libcuda.so.1)"


def test_what_is_missing_is_the_reason_where_cuda_does_not_start(gpu, monkeypatch):
    """ONNX Runtime's own message says that something is not available."""
    monkeypatch.setattr(cuda, "load_libraries", lambda: "there is no NVIDIA driver (libcuda.so.1)")
    monkeypatch.setattr(onnxruntime, "create_and_register_allocator_v2", failing)
    manifest, model, _, _ = package()
    with pytest.raises(ProviderError, match=r"^cuda:0 was asked for, but there is no NVIDIA driver"):
        open_session(model, manifest, device="cuda:0", threads=1)


def test_the_message_of_a_partial_graph_is_recognised():
    """Its words are ONNX Runtime's; tests/e2e/test_asked_for_cuda.py hears them from itself."""
    assert cuda.why(RuntimeError(NOT_ALL_ON_CUDA)) == "ONNX Runtime has CUDA kernels for only a part of the graph"
    assert (
        cuda.why(RuntimeError("CUDA failure 100: no CUDA-capable device")) == "CUDA failure 100: no CUDA-capable device"
    )
