"""Writes the package of an understood model: every file, the manifest last."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from models.evaluate import EVALUATION_FILE
from models.explainer.compile import Compiled
from models.export import Written, created_at, golden, json_bytes, processor, replay, sample, write_package
from models.packaging.card import write_card
from models.packaging.explanations import compile_explanations
from models.packaging.findings import Findings
from models.packaging.quality import SEED, Assessment, assess, assess_classes
from models.packaging.request import Request
from models.packaging.understanding import Understood, understand
from models.reference import attributions, frozen_counts
from models.task import fingerprint
from service.errors import PackageError
from service.manifest import (
    CARD_FILE,
    GOLDEN_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    MODEL_NAME,
    MODEL_VERSION,
    REFERENCE_FILE,
    REPLAY_FILE,
    ExplainerInfo,
    Label,
    Manifest,
    Provenance,
    digest_bytes,
    parse_part,
    read_manifest,
)
from service.monitor.exposition import MOST_SERIES, check_series
from service.reference import Reference

LONGEST_NAME, LONGEST_VERSION = 100, 18
LIBRARIES = ("numpy", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Prepared:
    """A package that could be written: its manifest, its files, and what they say."""

    manifest: Manifest
    contents: dict[str, bytes]
    assessment: Assessment | None


def prepare(request: Request, findings: Findings) -> Prepared:
    """Understand the model and make every file of its package in memory. Raises PackageError, naming the fix."""
    _check_place(request)
    understood = understand(request, findings)
    assessment = _assess(understood, held_out=request.held_out)
    _doubt(assessment, findings)
    model = understood.graph.SerializeToString(deterministic=True)
    compiled = compile_explanations(model, list(understood.declaration.features), understood.rows.X, findings)
    contents = {
        MODEL_FILE: model,
        GOLDEN_FILE: golden(model, understood.rows.X).model_dump_json().encode() + b"\n",
        REFERENCE_FILE: json_bytes(_reference(understood, compiled)),
        REPLAY_FILE: _replay(understood),
    }
    if assessment is not None:
        contents[EVALUATION_FILE] = json_bytes(assessment.model_dump(mode="json"))
    if compiled is not None:
        contents |= compiled.files()
    draft = _manifest(request, understood, assessment, contents, None if compiled is None else compiled.info())
    _budget(draft, contents[REFERENCE_FILE], findings)
    text = write_card(
        draft, understood.declaration, understood.answers, assessment, findings, understood.given.producer
    )
    contents[CARD_FILE] = text.encode()
    digests = {name: digest_bytes(content) for name, content in sorted(contents.items())}
    return Prepared(draft.model_copy(update={"digests": digests}), contents, assessment)


def write(prepared: Prepared, request: Request) -> Written:
    """Put the package in its place, whole. PackageError if another one is there and `replace` is not asked for."""
    folder = request.repository / request.name / request.version
    if (folder / MANIFEST_FILE).exists() and not request.replace:
        old = read_manifest(folder)
        if old.digests != prepared.manifest.digests:
            raise PackageError(
                f"{request.name} version {request.version} exists and differs; what has answered requests should not "
                f"change under its number: use --version {int(request.version) + 1}, or --replace"
            )
    try:
        return write_package(request.repository, prepared.manifest, prepared.contents)
    except OSError as error:
        raise PackageError(f"--repository: {folder} cannot be written: {error.strerror}") from error


def _check_place(request: Request) -> None:
    if not MODEL_NAME.fullmatch(request.name) or len(request.name) > LONGEST_NAME:
        raise PackageError(
            f"--name: {request.name!r} must begin with a letter or digit, then letters, digits, . _ -, at most "
            f"{LONGEST_NAME} in all"
        )
    if not MODEL_VERSION.fullmatch(request.version) or len(request.version) > LONGEST_VERSION:
        raise PackageError(f"--version: {request.version!r} must be a whole number from 1")
    if request.repository.exists() and not request.repository.is_dir():
        raise PackageError(f"--repository: {request.repository} is a file; name a folder")


def _assess(understood: Understood, *, held_out: bool) -> Assessment | None:
    classes, answers = understood.classes, understood.answers
    if classes.y is None:
        return None
    several = None
    if len(classes.labels) > 2:
        several = assess_classes(classes.y, answers.probability, [str(label) for label in classes.labels])
    return assess(
        understood.declaration,
        understood.rows,
        answers,
        positive=classes.positive,
        threshold=understood.threshold,
        held_out=held_out,
        multiclass=several,
    )


def _doubt(assessment: Assessment | None, findings: Findings) -> None:
    """Warn of a ranking that points to a misunderstanding rather than to a poor model."""
    if assessment is None or assessment.auroc.low is None or assessment.auroc.high is None:
        return
    if assessment.auroc.high < 0.5:
        findings.warn(
            "The model ranks the rows against their labels (AUROC below 0.5): the output may be about another class; "
            "--classes gives the order of its columns."
        )
    elif assessment.auroc.low <= 0.5:
        findings.warn(
            "The model ranks the rows no better than chance: are the features in the order of training? --features "
            "gives it."
        )


def _budget(manifest: Manifest, reference: bytes, findings: Findings) -> None:
    """Warn where the service as it comes would refuse the package for the number of its groups and features."""
    try:
        check_series(manifest, parse_part(reference, REFERENCE_FILE, Reference), most=MOST_SERIES)
    except PackageError as error:
        findings.warn(f"The service will refuse this package: {error}.")


def _reference(understood: Understood, compiled: Compiled | None) -> dict[str, Any]:
    """What drift is measured against. The data at hand serves as training rows too: nothing tells the two apart."""
    classes, rows, features = understood.classes, understood.rows, understood.declaration.features
    binary = len(classes.labels) == 2
    watched: list[Label] = [classes.positive_class] if binary else classes.labels
    explained = classes.positive_class if classes.positive_class is not None else classes.favourable_outcome
    shares = None
    if compiled is not None and explained is not None:
        column = 0 if binary else classes.labels.index(explained)
        shares = attributions(compiled.explainer.content, column, features, rows.X)
    return frozen_counts(
        features,
        rows,
        training=rows.X,
        scores={label: understood.answers.probability[:, classes.labels.index(label)] for label in watched},
        positive_class=classes.positive_class,
        labelled=classes.y is not None,
        attributions=shares,
        data_fingerprint=fingerprint(rows),
    )


def _replay(understood: Understood) -> bytes:
    classes, rows = understood.classes, understood.rows
    y = np.zeros(len(rows), np.int64) if classes.y is None else classes.y
    index = sample(y, len(classes.labels), SEED)
    labels = None if classes.y is None else [classes.labels[i] for i in classes.y[index]]
    return replay(understood.declaration.features, rows, index, labels)


def _manifest(
    request: Request,
    understood: Understood,
    assessment: Assessment | None,
    contents: dict[str, bytes],
    explainer: ExplainerInfo | None,
) -> Manifest:
    """The contract that goes with `contents`, whose digests still lack those of later files."""
    declaration, classes = understood.declaration, understood.classes
    return Manifest(
        name=request.name,
        version=request.version,
        task="binary" if len(classes.labels) == 2 else "multiclass",
        link=understood.link,
        created_at=created_at(),
        description=declaration.description,
        classes=classes.labels,
        positive_class=classes.positive_class,
        favourable_outcome=classes.favourable_outcome,
        threshold=understood.threshold,
        features=list(declaration.features),
        sensitive_features=list(declaration.sensitive_features),
        intersections=[list(names) for names in declaration.intersections],
        explainer=explainer,
        digests={name: digest_bytes(content) for name, content in contents.items()},
        provenance=Provenance(
            seed=SEED,
            data_fingerprint=fingerprint(understood.rows),
            libraries={
                **{name: version(name) for name in LIBRARIES},
                "processor": processor(),
                "producer": understood.given.producer,
            },
            metrics=_metrics(understood, assessment),
        ),
    )


def _metrics(understood: Understood, assessment: Assessment | None) -> dict[str, Any]:
    metrics: dict[str, Any] = {"given_model": understood.given.digest, "rows": len(understood.rows)}
    if assessment is not None:
        kept = {"held_out", "positives", "auroc", "average_precision", "brier", "calibration_error"}
        metrics |= assessment.model_dump(include=kept)
    return metrics
