"""The GPU that is measured: whether ONNX Runtime can use it, and what it is called."""

import csv
import importlib.metadata
import subprocess
from dataclasses import dataclass

import onnxruntime

from service.errors import ProviderError
from service.runtime import cuda

QUERY = ("name", "driver_version", "memory.total")


@dataclass(frozen=True)
class Accelerator:
    """`cuda:N` as asked for; `trouble` says why it cannot be used, and is None where it can."""

    device: str
    facts: dict[str, str]
    trouble: str | None

    @property
    def line(self) -> str:
        """For people."""
        if self.trouble is not None:
            return f"GPU: no GPU: CPU only ({self.trouble})"
        return "\n".join(f"{name}: {value}" for name, value in self.facts.items())


def find(index: int) -> Accelerator:
    """The GPU `cuda:index` of this machine."""
    try:
        cuda.open_device(index, memory_bytes=0)
    except ProviderError as error:
        return Accelerator(f"cuda:{index}", {}, str(error))
    name, driver, memory = _nvidia_smi(index) or ("a CUDA device (nvidia-smi does not tell its name)", "?", "?")
    facts = {
        "GPU": f"{name}, {memory}, as cuda:{index}",
        "driver": driver,
        "CUDA of onnxruntime": str(getattr(onnxruntime, "cuda_version", "?")),
    }
    return Accelerator(f"cuda:{index}", facts | _libraries(), None)


def _nvidia_smi(index: int) -> list[str] | None:
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    row = next(csv.reader(run.stdout.splitlines(), skipinitialspace=True), [])
    return row if len(row) == len(QUERY) else None


def _libraries() -> dict[str, str]:
    """Versions of the packages of NVIDIA that pip installed."""
    found = {}
    for name in ("nvidia-cublas", "nvidia-cudnn-cu13"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
