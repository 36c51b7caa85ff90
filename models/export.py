"""From a trained model to a package folder: the gate, the golden rows, the digests, the atomic replacement.

A package is written only if ONNX Runtime gives what the training library gives on every held-out row. All files but
the manifest depend on nothing except data, code and seed, so that retraining reproduces their digests.
"""

import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from models.card import card
from models.evaluate import EVALUATION_FILE, Cost, Estimate, Evaluation, choose_threshold, evaluate
from models.explainer.card import card as explainer_card
from models.explainer.compile import compile_explainer
from models.graph import run
from models.reference import reference
from models.task import Declaration, FloatMatrix, Floats, Integers, Rows, Splits
from service.errors import PackageError
from service.manifest import (
    CARD_FILE,
    GOLDEN_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    REPLAY_FILE,
    ExplainerInfo,
    Feature,
    Golden,
    Label,
    Manifest,
    Provenance,
    digest_bytes,
    read_manifest,
)

# So many that each group of the demo traffic is spread as its reference is.
REPLAY_ROWS = 2000
GOLDEN_ROWS = 8
PACKAGE_VERSION = "1"
MARGIN_TOLERANCE = 1e-5
PROBABILITY_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Trained:
    """A fitted model with everything that its package is made from.

    `native_margin` maps `X` `(n, d)` to the margin `(n,)` as the training library computes it, `native_probability` to
    the positive class's probability `(n,)`. `libraries` names the distributions that had a part in the figures.
    """

    declaration: Declaration
    splits: Splits
    cost: Cost
    seed: int
    graph: ModelProto
    native_margin: Callable[[FloatMatrix], Floats]
    native_probability: Callable[[FloatMatrix], Floats]
    card_template: Path
    libraries: tuple[str, ...]
    ablation: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """What became of a package: its folder, and the files that are new or whose digest differs from before."""

    folder: Path
    changed: list[str]
    existed: bool


def export(trained: Trained, repository: Path) -> Written:
    """Check, judge and package `trained` under `repository`; PackageError if the graph computes something else."""
    model = trained.graph.SerializeToString(deterministic=True)
    splits, declaration = trained.splits, trained.declaration
    check_agreement(model, trained, splits.held_out.X)

    threshold = choose_threshold(splits.validation, positive_probability(model, splits.validation), trained.cost)
    margin = run(model, splits.held_out.X)[0][:, 0].astype(np.float64)
    held_out = positive_probability(model, splits.held_out)
    evaluation = evaluate(
        declaration,
        splits,
        trained.cost,
        threshold=threshold,
        margin=margin,
        probability=held_out,
        seed=trained.seed,
    )
    evaluation = evaluation.model_copy(update={"ablation": dict(trained.ablation)})

    unseen = positive_probability(model, splits.unseen)
    explainer = compile_explainer(
        model,
        declaration.features,
        population=splits.training.X,
        held_out=splits.held_out.X,
        seed=trained.seed,
    )
    about = explainer_card(explainer.info(), declaration.features)
    contents = {
        MODEL_FILE: model,
        GOLDEN_FILE: golden(model, splits.held_out.X).model_dump_json().encode() + b"\n",
        REFERENCE_FILE: json_bytes(reference(declaration, splits, unseen, explainer.explainer.content)),
        EVALUATION_FILE: json_bytes(evaluation.model_dump(mode="json")),
        REPLAY_FILE: replay_lines(declaration, splits.unseen, trained.seed),
        CARD_FILE: card(declaration, splits, trained.cost, evaluation, about, trained.card_template).encode(),
        **explainer.files(),
    }
    promise = manifest(trained, threshold, evaluation, explainer.info(), contents)
    return write_package(repository, promise, contents)


def check_agreement(model: bytes, trained: Trained, X: FloatMatrix) -> None:
    """PackageError unless ONNX Runtime and the training library agree on every row of `X`.

    Tolerance: 1e-5 * max(1, |margin|) on the margin (a float32 ulp at margin 99 is 7.6e-6) and 1e-5 on the probability.
    """
    margin, probability = run(model, X)
    native = trained.native_margin(X)
    margin_error = np.abs(margin[:, 0] - native) / np.maximum(1, np.abs(native))
    positive = trained.native_probability(X)
    probability_error = np.abs(probability - np.stack([1 - positive, positive], axis=1))
    # Compared this way round, NaN fails.
    if not (margin_error.max() <= MARGIN_TOLERANCE and probability_error.max() <= PROBABILITY_TOLERANCE):
        raise PackageError(
            f"{trained.declaration.name}: the ONNX graph differs from the trained model by {margin_error.max():.3g} of "
            f"the margin and {probability_error.max():.3g} in probability; at most {MARGIN_TOLERANCE:g} is allowed"
        )


def positive_probability(model: bytes, rows: Rows) -> Floats:
    """Probability of the positive class `(n,)`, as the service will answer it."""
    return run(model, rows.X)[1][:, 1].astype(np.float64)


def golden(model: bytes, X: FloatMatrix) -> Golden:
    """Eight rows from the lowest to the highest margin, one of them with a missing value if any row has one."""
    order = np.argsort(run(model, X)[0][:, 0], kind="stable")
    index = order[np.linspace(0, len(X) - 1, GOLDEN_ROWS).round().astype(int)]
    incomplete = np.flatnonzero(np.isnan(X).any(axis=1))
    if len(incomplete) and not np.isnan(X[index]).any():
        index[GOLDEN_ROWS // 2] = incomplete[0]
    rows = X[index]
    margin, probability = run(model, rows)
    return Golden(
        rows=[[None if np.isnan(value) else shortest(value) for value in row] for row in rows],
        margin=[[shortest(value) for value in row] for row in margin],
        probability=[[shortest(value) for value in row] for row in probability],
    )


def replay_lines(declaration: Declaration, rows: Rows, seed: int) -> bytes:
    """Rows as a client would post them, one JSON object a line: instance, sensitive_features, label.

    A seeded sample with the rows' own share of positives, in their order. `sensitive_features` is empty where
    the data knows no groups.
    """
    index = sample(rows.y, len(declaration.classes), seed)
    return replay(declaration.features, rows, index, [declaration.classes[label] for label in rows.y[index]])


def sample(y: Integers, classes: int, seed: int) -> Integers:
    """Some 2,000 positions in `y` `(n,)`, in order, with the share that each of the labels 0 to `classes` - 1 has."""
    rng = np.random.default_rng(seed)
    share = min(1.0, REPLAY_ROWS / len(y))
    drawn = [
        rng.permutation(np.flatnonzero(y == label))[: round(share * (y == label).sum())] for label in range(classes)
    ]
    return np.sort(np.concatenate(drawn))


def replay(features: Sequence[Feature], rows: Rows, index: Integers, labels: Sequence[Label] | None) -> bytes:
    """The rows at `index`, one JSON object a line; `labels` are theirs, None where nobody knows them."""
    lines = []
    for position, i in enumerate(index):
        line: dict[str, Any] = {
            "instance": {
                feature.name: as_posted(feature, value) for feature, value in zip(features, rows.X[i], strict=True)
            },
            "sensitive_features": {name: str(values[i]) for name, values in rows.groups.items()},
        }
        if labels is not None:
            line["label"] = labels[position]
        lines.append(json.dumps(line, separators=(",", ":")))
    return ("\n".join(lines) + "\n").encode()


def as_posted(feature: Feature, value: np.float32) -> float | int | str | None:
    """One value of `X` in the form that a client posts it."""
    if np.isnan(value):
        return None
    if feature.categories is not None:
        return feature.categories[int(value)]
    return shortest(value) if feature.kind == "numeric" else int(value)


def shortest(value: np.float32) -> float:
    """The number with the fewest digits that is read back as the same float32."""
    return float(str(value))


def manifest(
    trained: Trained,
    threshold: float,
    evaluation: Evaluation,
    explainer: ExplainerInfo,
    contents: Mapping[str, bytes],
) -> Manifest:
    """The contract that goes with `contents`; the only place that carries a time."""
    declaration = trained.declaration
    return Manifest(
        name=declaration.name,
        version=PACKAGE_VERSION,
        task="binary",
        link="logit",
        created_at=created_at(),
        description=declaration.description,
        classes=list(declaration.classes),
        positive_class=declaration.positive_class,
        favourable_outcome=declaration.favourable_outcome,
        threshold=threshold,
        features=list(declaration.features),
        sensitive_features=list(declaration.sensitive_features),
        intersections=[list(names) for names in declaration.intersections],
        explainer=explainer,
        digests={name: digest_bytes(content) for name, content in sorted(contents.items())},
        provenance=Provenance(
            seed=trained.seed,
            data_fingerprint=trained.splits.fingerprint(),
            libraries={**{name: version(name) for name in trained.libraries}, "processor": processor()},
            metrics=_summary(evaluation),
        ),
    )


def processor() -> str:
    """Architecture and widest vector extension: what the last bits of a sum may depend on."""
    extensions = np.show_config(mode="dicts")["SIMD Extensions"]
    return f"{platform.machine()} {(extensions.get('found') or extensions['baseline'])[-1]}"


def _summary(evaluation: Evaluation) -> dict[str, Any]:
    """The figures worth having beside the model's name; all others stand in evaluation.json."""
    summary: dict[str, Any] = {"held_out_rows": evaluation.n, "positives": evaluation.positives}
    for name, quality in (("model", evaluation.model), ("baseline", evaluation.baseline)):
        summary[name] = quality.model_dump(include={"auroc", "average_precision", "brier", "calibration_error"})
    return summary


def created_at() -> str:
    """Now in UTC, or the time that SOURCE_DATE_EPOCH states."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(seconds), UTC) if seconds else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def json_bytes(content: Any) -> bytes:
    """`content` as it stands in a file of the package: indented, and without NaN."""
    return json.dumps(content, indent=1, allow_nan=False).encode() + b"\n"


def write_package(repository: Path, new: Manifest, contents: Mapping[str, bytes]) -> Written:
    """Put the package beside its place and rename it into it; a package that says the same already is left untouched.

    There is an instant between the two renames in which the folder is absent; never one in which it is half written.
    """
    folder = repository / new.name / new.version
    old = read_manifest(folder) if (folder / MANIFEST_FILE).exists() else None
    changed = [name for name, digest in new.digests.items() if old is None or old.digests.get(name) != digest]
    if old is not None and not changed and _same_promise(old, new):
        return Written(folder, [], existed=True)
    partial, previous = (folder.with_name(f".{folder.name}.{state}") for state in ("partial", "previous"))
    for leftover in (partial, previous):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for name, content in contents.items():
            (partial / name).write_bytes(content)
        (partial / MANIFEST_FILE).write_text(new.to_json(), encoding="utf-8")
        if folder.exists():
            folder.rename(previous)
        partial.rename(folder)
    finally:
        # After a failure half a package must not stay behind, nor the whole one before it be lost.
        if previous.exists() and not folder.exists():
            previous.rename(folder)
        for leftover in (partial, previous):
            shutil.rmtree(leftover, ignore_errors=True)
    return Written(folder, [*changed, MANIFEST_FILE], existed=old is not None)


def _same_promise(old: Manifest, new: Manifest) -> bool:
    # Time and library versions tell of this training, not of the model.
    def promise(manifest: Manifest) -> dict[str, Any]:
        return manifest.model_dump(exclude={"created_at": True, "provenance": {"libraries"}}, exclude_none=True)

    return promise(old) == promise(new)
