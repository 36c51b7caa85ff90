"""`bench gpu`: what a GPU gains over this machine's CPU, for predictions and for explanations.

Each package is run as the service runs it: predictions in batches of a power of two, explanations row by row. All
contenders take turns run by run, so that what slows the machine down for a while hits all. The baseline of
explanations is `shap.KernelExplainer(l1_reg=0)` around the same model on the same device, with the same background and
as many evaluations of the model. Without a GPU the CPU is measured alone.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.accelerator import find
from bench.errors import BenchError, Unsuitable
from bench.gpu_runs import Plan, explain, load_shap, predict, read_package
from bench.gpu_tables import explain_table, predict_table
from bench.machine import ROOT, facts
from service.errors import ConfigurationError, PackageError
from service.runtime.repository import find_packages
from service.runtime.session import check_one_runtime
from service.runtime.threads import available_cpus

REPOSITORY = ROOT / "models" / "repository"
TABLE_WIDTH = 110
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
QUICK_BATCHES = (1, 64)


def gpu(
    repository: Annotated[Path, typer.Option(help="Folder of the model packages.", file_okay=False)] = REPOSITORY,
    index: Annotated[int, typer.Option("--device", min=0, max=99, help="Which GPU: the N of cuda:N.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Few batches and runs, to see that it works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures, in seconds, instead of tables.")] = False,
) -> None:
    """Measure predictions and explanations on a GPU beside the CPU, and beside shap's KernelExplainer on both."""
    plan = Plan(QUICK_BATCHES, 0.05, 1, available_cpus()) if quick else Plan(BATCHES, 1.0, 5, available_cpus())
    try:
        check_one_runtime()
        accelerator = find(index)
        packages = [read_package(folder) for folder in find_packages(repository)]
        if not packages:
            raise Unsuitable(f"{repository}: there is no package NAME/VERSION/ in it")
        shap = load_shap()
        notes: list[str] = []
        predicted = [row for package in packages for row in predict(package, accelerator, plan, notes)]
        explained = [row for package in packages for row in explain(package, accelerator, plan, shap, notes)]
    except (BenchError, ConfigurationError, PackageError) as error:
        typer.echo(f"bench gpu: {error}", err=True)
        raise typer.Exit(getattr(error, "exit_code", 1)) from error
    version = None if shap is None else str(shap.__version__)
    if as_json:
        document = {
            "machine": facts(),
            "gpu": accelerator.facts or None,
            "no_gpu": accelerator.trouble,
            "shap": version,
            "predict": [asdict(row) for row in predicted],
            "explain": [asdict(row) for row in explained],
            "notes": notes,
        }
        typer.echo(json.dumps(document, indent=1))
        return
    console = Console(width=TABLE_WIDTH)
    for name, value in facts().items():
        console.print(f"{name}: {value}", highlight=False)
    console.print(accelerator.line, highlight=False)
    console.print(f"shap: {version or 'not installed, so that there is no baseline of explanations'}", highlight=False)
    console.print(f"threads of a prediction on the CPU: {plan.threads}; of an explanation: 1", highlight=False)
    console.print(predict_table(predicted))
    console.print(explain_table(explained))
    for note in notes:
        console.print(f"- {note}", highlight=False)
