"""The offline command line: `python -m models train NAME | package | evaluate NAME | card NAME`.

torch is imported only when a torch model is trained.
"""

import importlib.util
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from models.card import GAPS, QUALITY, estimate, rate
from models.evaluate import EVALUATION_FILE, Estimate, Evaluation, Quality
from models.export import Written
from models.packaging.command import package
from models.recompute import recompile, recompute
from service.errors import PackageError
from service.manifest import CARD_FILE, ExplainerInfo, Manifest, parse_part, read_manifest, verify_digests

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command()(package)
# A pipe has no width: keep each row on one line there.
out, err = Console(width=None if sys.stdout.isatty() else 160), Console(stderr=True)


class ModelName(StrEnum):
    """The models that this package can train."""

    diagnosis = "diagnosis"
    progression = "progression"
    transaction = "transaction"


Name = Annotated[ModelName, typer.Argument(help="Which model.")]
Repository = Annotated[Path, typer.Option(help="Folder of the model packages.", file_okay=False)]
Csv = Annotated[
    Path | None,
    typer.Option(help="transaction only: the public ULB table instead of the simulator.", dir_okay=False, exists=True),
]
DEFAULT_REPOSITORY = Path(__file__).with_name("repository")


@app.command()
def train(name: Name, repository: Repository = DEFAULT_REPOSITORY, csv: Csv = None) -> None:
    """Train a model and write its package; a package that would be the same is left untouched."""
    if csv is not None and name is not ModelName.transaction:
        raise typer.BadParameter("only transaction is trained from a CSV file", param_hint="--csv")
    if name is not ModelName.transaction and importlib.util.find_spec("torch") is None:
        raise PackageError(f"training {name.value} needs torch==2.13.0 (its CPU build), which is not installed")
    report(_train(name, repository, csv))


def _train(name: ModelName, repository: Path, csv: Path | None) -> Written:
    match name:
        case ModelName.diagnosis:
            from models.diagnosis.train import train as train_diagnosis

            return train_diagnosis(repository)
        case ModelName.progression:
            from models.progression.train import train as train_progression

            return train_progression(repository)
        case ModelName.transaction:
            from models.transaction.train import train as train_transaction

            return train_transaction(repository, csv)


def report(written: Written) -> None:
    """Say what became of the package, and print its figures."""
    manifest, evaluation, _ = load(written.folder)
    if not written.existed:
        err.print(f"wrote {manifest.name} version {manifest.version}")
    elif written.changed:
        err.print(f"replaced {manifest.name} version {manifest.version}; changed: {', '.join(written.changed)}")
    else:
        err.print(f"{manifest.name} version {manifest.version} is unchanged: same digests, left untouched")
    show(manifest, evaluation)


def load(folder: Path) -> tuple[Manifest, Evaluation, dict[str, bytes]]:
    """Manifest, stored evaluation and all files by name of a package, its digests checked."""
    manifest = read_manifest(folder)
    contents = verify_digests(folder, manifest)
    return manifest, parse_part(contents[EVALUATION_FILE], EVALUATION_FILE, Evaluation), contents


@app.command()
def evaluate(
    name: Name,
    repository: Repository = DEFAULT_REPOSITORY,
    csv: Csv = None,
    again: Annotated[bool, typer.Option("--again", help="Also compute it anew from the data and compare.")] = False,
) -> None:
    """Print the evaluation that a package holds."""
    manifest, stored, contents = load(package_folder(repository, name))
    show(manifest, stored)
    if again:
        differing = recompute(manifest, stored, contents, csv)
        if differing:
            raise PackageError(f"{name.value}: computed anew, these figures differ from the stored ones: {differing}")
        out.print("Computed anew from the data and model.onnx: every figure agrees.")


@app.command()
def explain_check(name: Name, repository: Repository = DEFAULT_REPOSITORY, csv: Csv = None) -> None:
    """Compile and calibrate a package's explainer anew, print the figures, and compare with the package."""
    manifest, _, contents = load(package_folder(repository, name))
    compiled = recompile(manifest, contents, csv)
    show_calibration(compiled.info())
    if differing := [name for name, content in compiled.files().items() if contents.get(name) != content]:
        raise PackageError(
            f"{name.value}: compiled anew, these files differ from the package's: {', '.join(differing)}"
        )
    out.print("Compiled anew: the same bytes as in the package.")


def show_calibration(info: ExplainerInfo) -> None:
    """Print what an explainer is and what its calibration measured."""
    title = f"{info.algorithm}, {info.n_evals:,} model rows, background of {info.background_rows} rows"
    table = Table("calibration", "default plan", "doubled plan", title=title, title_justify="left")
    doubled = info.calibration.get("doubled", {})
    for key, value in info.calibration.items():
        if key != "doubled":
            table.add_row(key.replace("_", " "), f"{value}", f"{doubled.get(key, '')}")
    out.print(table)


@app.command()
def card(
    name: Annotated[str, typer.Argument(help="Any packaged model.")], repository: Repository = DEFAULT_REPOSITORY
) -> None:
    """Print the card of a package."""
    folder = package_folder(repository, name)
    typer.echo(verify_digests(folder, read_manifest(folder))[CARD_FILE].decode(), nl=False)


def package_folder(repository: Path, name: str) -> Path:
    """The highest version of `name`; PackageError if there is none."""
    versions = [int(path.name) for path in (repository / name).glob("[1-9]*") if path.name.isdigit()]
    if not versions:
        raise PackageError(f"{name} has no package here; `python -m models train {name}` or `package` makes one")
    return repository / name / str(max(versions))


def show(manifest: Manifest, evaluation: Evaluation) -> None:
    """Print quality beside the baseline, and rates per group."""
    rows = f"{evaluation.n} held-out rows, {evaluation.positives} {manifest.positive_class}"
    title = f"{manifest.name} {manifest.version}: {rows}"
    quality = Table("", "model", "logistic regression", title=title, title_justify="left")
    for key, words in QUALITY.items():
        quality.add_row(words, _figure(evaluation.model, key), _figure(evaluation.baseline, key))
    quality.add_row("Threshold", f"{evaluation.model.threshold:g}", f"{evaluation.baseline.threshold:g}")
    out.print(quality)
    favourable = manifest.favourable_outcome == manifest.positive_class
    for feature, groups in evaluation.groups.items():
        table = Table(feature, "n", f"called {manifest.favourable_outcome}", "TPR", "FPR", "PPV", "base rate")
        for group, counts in groups.items():
            rates = counts.cells.rates(positive_is_favourable=favourable).values()
            table.add_row(group, str(counts.cells.n), *(rate(share) for share in rates))
        out.print(table)
        for key, words in GAPS.items():
            out.print(f"  {words}: {estimate(evaluation.gaps[feature][key])}")


def _figure(quality: Quality, key: str) -> str:
    value = getattr(quality, key)
    return estimate(value) if isinstance(value, Estimate) else f"{value:.4f}"


if __name__ == "__main__":
    try:
        app()
    except PackageError as error:
        err.print(f"error: {error}", markup=False)
        raise SystemExit(1) from None
