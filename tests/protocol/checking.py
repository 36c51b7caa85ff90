"""What the scripts for the environment of clients share: rows of a model, what `:predict` says of them, a report.

Standard library and NumPy only; `service` is not installed there.
"""

import json
import sys
import traceback
import urllib.request
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[2] / "models" / "repository"
URL = sys.argv[1]
CHECKS = {}


def check(function):
    """Have `function` run by `report`."""
    CHECKS[function.__name__] = function
    return function


def report():
    """Run every check; print how each ended, as JSON on the last line."""
    ended = {}
    for name, function in CHECKS.items():
        try:
            function()
            ended[name] = "passed"
        except Exception:  # noqa: BLE001 - it is reported
            ended[name] = traceback.format_exc()
    sys.stdout.write("\n" + json.dumps(ended))


def refusal(kind, ask):
    """The exception of this kind that `ask()` raises."""
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError("nothing was refused")


class Package:
    """A committed package: its features, and some rows both as `X` and as instances of `:predict`."""

    def __init__(self, name, rows=3):
        self.name = name
        folder = REPOSITORY / name / "1"
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.features = self.manifest["features"]
        golden = json.loads((folder / "golden.json").read_text())["rows"][:rows]
        self.X = np.array(golden, np.float32)
        self.instances = [
            {feature["name"]: _posted(feature, value) for feature, value in zip(self.features, row, strict=True)}
            for row in golden
        ]

    def predict(self, **fields):
        """The answer of `:predict` to the rows."""
        body = json.dumps({"instances": self.instances, **fields}).encode()
        request = urllib.request.Request(
            f"{URL}/v1/models/{self.name}:predict", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def probabilities(self):
        """Of the positive class, as `:predict` has them."""
        return np.array([row["probability"] for row in self.predict()["predictions"]], np.float32)

    def labels(self):
        return [row["label"] for row in self.predict()["predictions"]]


def _posted(feature, value):
    if value is None:
        return None
    if "categories" in feature:
        return feature["categories"][int(value)]
    return int(value) if feature["kind"] in ("integer", "binary") else value
