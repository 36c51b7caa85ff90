"""Computes a package's evaluation and explainer anew, from its own model.onnx and the data. Needs no torch."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from models.evaluate import Evaluation, evaluate
from models.explainer.compile import Compiled, compile_explainer
from models.graph import run
from models.task import Splits
from service.errors import PackageError
from service.manifest import MODEL_FILE, Manifest

# A figure may move by this much where another processor rounds differently.
TOLERANCE = 2e-3


def recompute(manifest: Manifest, stored: Evaluation, contents: Mapping[str, bytes], csv: Path | None) -> list[str]:
    """Names of the figures that differ from `stored`; the ablation is not computed again, for it needs training.

    Raises PackageError if the data are not those that the package was trained on.
    """
    source, splits = _data(manifest, csv)
    margin, probability = (output.astype(np.float64) for output in run(contents[MODEL_FILE], splits.held_out.X))
    fresh = evaluate(
        source.DECLARATION,
        splits,
        source.COST,
        threshold=stored.model.threshold,
        margin=margin[:, 0],
        probability=probability[:, 1],
        seed=manifest.provenance.seed,
    )
    was, now = (flatten(evaluation.model_dump(exclude={"ablation"})) for evaluation in (stored, fresh))
    return sorted(name for name in was.keys() | now.keys() if not close(was.get(name), now.get(name)))


def recompile(manifest: Manifest, contents: Mapping[str, bytes], csv: Path | None) -> Compiled:
    """The explainer of the package's model.onnx, compiled and calibrated anew on the data.

    Raises PackageError if the data are not those that the package was trained on, or as `compile_explainer` does.
    """
    _, splits = _data(manifest, csv)
    return compile_explainer(
        contents[MODEL_FILE],
        manifest.features,
        population=splits.training.X,
        held_out=splits.held_out.X,
        seed=manifest.provenance.seed,
    )


def _data(manifest: Manifest, csv: Path | None) -> tuple[ModuleType, Splits]:
    source = importlib.import_module(f"models.{manifest.name}.{'data' if csv is None else 'ulb'}")
    splits: Splits = source.load_splits() if csv is None else source.load_splits(csv)
    if splits.fingerprint() != manifest.provenance.data_fingerprint:
        raise PackageError(f"{manifest.name}: the data at hand are not those that the package was trained on")
    return source, splits


def close(was: object, now: object) -> bool:
    """Whether two leaves of an evaluation say the same."""
    if isinstance(was, float) and isinstance(now, float):
        return abs(was - now) <= TOLERANCE * max(1.0, abs(was))
    return was == now


def flatten(content: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested names joined by dots: {"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, object] = {}
    for name, value in content.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
