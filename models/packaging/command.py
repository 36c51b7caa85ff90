"""`python -m models package`: its options, and what it tells the person who typed it."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.card import estimate
from models.packaging.card import possible
from models.packaging.findings import Findings
from models.packaging.package import Prepared, prepare, write
from models.packaging.request import Request
from service.errors import PackageError
from service.manifest import Manifest

# A pipe has no width: keep each row on one line there.
out, err = Console(width=None if sys.stdout.isatty() else 160), Console(stderr=True)


def package(
    onnx: Annotated[Path, typer.Option(help="The exported model.")],
    data: Annotated[Path, typer.Option(help="Its rows, .csv or .parquet; some hundred or more.")],
    name: Annotated[str, typer.Option(help="Name of the model in the service.")],
    repository: Annotated[Path, typer.Option(help="Folder of the model packages.")],
    version: Annotated[str, typer.Option(help="A whole number; the highest answers.")] = "1",
    label: Annotated[str | None, typer.Option(help="Column of the true class.")] = None,
    sensitive: Annotated[str, typer.Option(help="Columns whose groups are watched: sex,age_band.")] = "",
    features: Annotated[str, typer.Option(help="Columns that the model takes, in its order. [all others]")] = "",
    range_: Annotated[list[str] | None, typer.Option("--range", help="What is possible, NAME=LOW:HIGH.")] = None,
    nullable: Annotated[str, typer.Option(help="Features that may be missing, which the model takes as NaN.")] = "",
    schema: Annotated[Path | None, typer.Option(help="YAML file: kinds, units, categories, descriptions.")] = None,
    classes: Annotated[str, typer.Option(help="Labels in the order of the output's columns.")] = "",
    positive: Annotated[str | None, typer.Option(help="Class the margin is about. [last label, sorted]")] = None,
    favourable: Annotated[str | None, typer.Option(help="Outcome people hope for. [the positive class]")] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Called positive from here on. [0.5]")] = None,
    reference: Annotated[list[str] | None, typer.Option(help="Group others are compared with, sex=male.")] = None,
    intersections: Annotated[str, typer.Option(help="Watched together: sex+age_band.")] = "",
    output: Annotated[
        Literal["margin", "probability"] | None, typer.Option(help="What the graph's scores are.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="What is decided, for the card.")] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="The model has not seen these rows.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a version that differs.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and report, write nothing.")] = False,
) -> None:
    """Package your own ONNX model with its data: recognised, brought to the contract, proved equal, written whole."""
    request = Request(
        onnx=onnx,
        data=data,
        name=name,
        version=version,
        repository=repository,
        label=label,
        sensitive=_split(sensitive),
        features=_split(features) or None,
        ranges=tuple(range_ or ()),
        nullable=_split(nullable),
        schema=schema,
        classes=_split(classes) or None,
        positive=positive,
        favourable=favourable,
        threshold=threshold,
        reference=tuple(part for text in reference or () for part in _split(text)),
        intersections=_split(intersections),
        output=output,
        description=description,
        held_out=held_out,
        replace=replace,
    )
    findings = Findings()
    try:
        prepared = prepare(request, findings)
    except PackageError:
        # What was found until then often shows why it went wrong.
        show_findings(findings)
        raise
    show(prepared, findings)
    if dry_run:
        err.print("dry run: nothing was written")
        return
    written = write(prepared, request)
    done = "replaced" if written.existed and written.changed else "wrote" if written.changed else "unchanged:"
    err.print(f"{done} {request.name} version {request.version}: {len(prepared.contents) + 1} files", markup=False)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def show(prepared: Prepared, findings: Findings) -> None:
    """Print features, groups, figures and findings."""
    _show_features(prepared.manifest)
    if prepared.manifest.sensitive_features:
        groups = Table("sensitive feature", "groups", "reference group", title="Groups", title_justify="left")
        for feature in prepared.manifest.sensitive_features:
            groups.add_row(*map(escape, (feature.name, ", ".join(feature.groups), feature.reference_group)))
        out.print(groups)
    show_findings(findings)
    if (found := prepared.assessment) is not None:
        rows = "held-out rows" if found.held_out else "rows that may be training data"
        out.print(f"AUROC {estimate(found.auroc)} on {found.n} {rows}", markup=False)


def _show_features(manifest: Manifest) -> None:
    title = f"{manifest.name} {manifest.version}: {len(manifest.features)} features"
    features = Table("feature", "kind", "possible", "description", title=title, title_justify="left")
    for feature in manifest.features:
        features.add_row(*map(escape, (feature.name, feature.kind, possible(feature), feature.description)))
    out.print(features)


def show_findings(findings: Findings) -> None:
    """Print what was understood, then what was assumed, not found, and to be warned of."""
    if findings.understood:
        table = Table("what", "found", title="Understood", title_justify="left")
        for what, found in findings.understood:
            table.add_row(escape(what), escape(found))
        out.print(table)
    parts = {"Assumed": findings.assumed, "Not found": findings.not_found, "Warning": findings.warnings}
    for title, sentences in parts.items():
        for sentence in sentences:
            out.print(f"{title}: {sentence}", markup=False, soft_wrap=True)
