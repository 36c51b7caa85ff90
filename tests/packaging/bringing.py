"""Brings models as a user would: train, export, write the data, package; then serve and ask for every row."""

import csv
import importlib
import os
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from inprocess import serving

from models.packaging.findings import Findings
from models.packaging.package import prepare, write
from models.packaging.request import Request
from models.packaging.table import Column, Table
from service.runtime.repository import Runtime, load_package

N = 500
NUMBERS = ["age", "income", "debt", "member"]
WORDS = ["home", "job"]


@dataclass(frozen=True)
class Credit:
    """Columns of the data by name; `X` float32 and `y` are what most libraries take."""

    columns: dict
    X: np.ndarray
    y: np.ndarray
    four: np.ndarray

    def with_label(self, y, *, name="y"):
        """Columns to write: numbers, groups and the label."""
        return {key: self.columns[key] for key in [*NUMBERS, "sex", "age_band"]} | {name: y}


def credit_rows(seed=0):
    """Ages, incomes and so on, drawn so that both classes and all four grades occur in quantity."""
    dice = np.random.default_rng(seed)
    age = dice.integers(18, 80, N).astype(np.float32)
    income = dice.lognormal(3, 0.5, N).astype(np.float32)
    debt = dice.normal(10, 4, N).astype(np.float32)
    member = dice.integers(0, 2, N).astype(np.float32)
    score = (age - 48) / 20 + (income - 22) / 10 - (debt - 10) / 4 + member + dice.normal(0, 1, N)
    columns = {
        "age": age.astype(int),
        "income": income,
        "debt": debt,
        "member": member.astype(int),
        "home": dice.choice(["own", "rent", "mortgage"], N),
        "job": dice.choice(["office", "field"], N),
        "sex": dice.choice(["female", "male"], N, p=[0.4, 0.6]),
        "age_band": np.where(age < 30, "18-29", np.where(age < 50, "30-49", "50+")),
    }
    X = np.stack([age, income, debt, member], axis=1)
    return Credit(columns, X, (score > 0.5).astype(int), np.digitize(score, np.quantile(score, [0.25, 0.5, 0.75])))


def need(module):
    """The library `module`; without it skip, saying why, or fail where every check was asked for."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        reason = f"{module} is not installed; the development dependencies bring it"
        if os.environ.get("PLUMBLINE_TEST_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


def quietly(convert, *arguments, **options):
    """Call a converter or exporter: their deprecation warnings are about their own libraries' next releases."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return convert(*arguments, **options)


def write_csv(path, columns):
    """`columns` as a CSV file, float32 with the digits that read back as the same number."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(
            [["" if cell != cell else str(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
        )
    return path


def bring(folder, graph, columns, **options):
    """Package `graph` (a ModelProto, or a path) with `columns` (or a path); the package's folder and the findings."""
    onnx, data = folder / "given.onnx", folder / "rows.csv"
    if hasattr(graph, "SerializeToString"):
        onnx.write_bytes(graph.SerializeToString())
    else:
        onnx = graph
    data = write_csv(data, columns) if isinstance(columns, dict) else columns
    defaults = {"label": "y", "sensitive": ("sex", "age_band"), "name": "credit", "version": "1"}
    request = Request(onnx=onnx, data=data, repository=folder / "repository", **defaults | options)
    findings = Findings()
    written = write(prepare(request, findings), request)
    load_package(written.folder, Runtime())
    return written.folder, findings


def served(folder, instances):
    """What the service answers to `instances` (at most 1000), one prediction each."""
    with serving(folder.parents[1], device="cpu") as client:
        response = client.predict({"instances": instances}, model=folder.parent.name)
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def instances(columns, names):
    """One instance per row, in the types that JSON has."""
    return [
        {name: cell.item() if hasattr(cell, "item") else cell for name, cell in zip(names, row, strict=True)}
        for row in zip(*(columns[name] for name in names), strict=True)
    ]


def table(**columns):
    """A table from lists of cells as written."""
    return Table({name: Column(name, list(cells)) for name, cells in columns.items()})
