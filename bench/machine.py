"""What figures depend on: the processor, the versions, the commit."""

import os
import platform
import re
import subprocess
from pathlib import Path

import onnxruntime

ROOT = Path(__file__).parents[1]


def description() -> str:
    """Hardware, load, versions and commit, one per line."""
    return "\n".join(f"{name}: {value}" for name, value in facts().items())


def facts() -> dict[str, str]:
    """The same by name."""
    load = ", ".join(f"{average:.2f}" for average in os.getloadavg())
    return {
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores, load average {load} before",
        "Python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "commit": _commit(),
    }


def _cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def _commit() -> str:
    """Abbreviated hash, with `-dirty` where tracked files differ from it; `unknown` outside a repository."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return run.stdout.strip()
