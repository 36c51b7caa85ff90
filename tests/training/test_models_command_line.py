"""`python -m models evaluate` and `card`, as typed, and on a machine without torch."""

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
WITHOUT_TORCH = """
import runpy, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("torch is not here", name="torch")

sys.meta_path.insert(0, NoTorch())
runpy.run_module("models", run_name="__main__")
"""


def models(*arguments):
    """Run the command line in a process where importing torch fails."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_evaluate_prints_the_model_beside_its_baseline_without_torch():
    """Quality and groups of a torch model, and every figure computed anew from the data and the graph."""
    result = models("evaluate", "progression", "--again")
    assert result.returncode == 0, result.stderr
    assert "logistic regression" in result.stdout
    assert "age_band" in result.stdout
    assert "every figure agrees" in result.stdout


def test_card_prints_the_card(package):
    """Exactly the file."""
    assert models("card", package.parent.name).stdout == (package / "card.md").read_text(encoding="utf-8")


def test_a_missing_package_is_one_line(tmp_path):
    """No traceback; the message says what makes a package."""
    result = models("evaluate", "diagnosis", "--repository", str(tmp_path))
    assert result.returncode == 1
    assert "train diagnosis" in result.stderr
    assert "Traceback" not in result.stderr


def test_only_transaction_takes_a_csv(tmp_path):
    """Another model with --csv is a usage error."""
    path = tmp_path / "any.csv"
    path.write_text("")
    result = models("train", "diagnosis", "--csv", str(path))
    assert result.returncode == 2
    assert "only transaction" in result.stderr
