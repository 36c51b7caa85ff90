"""Understands a given model and its rows: everything that is settled before a package is written."""

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from models.packaging.agreement import Answers, check_agreement, check_rows_stand_alone
from models.packaging.contract import bring_to_contract
from models.packaging.declared import declared
from models.packaging.features import feature_matrix, infer_features, input_types
from models.packaging.findings import Findings
from models.packaging.given import Given, read_given
from models.packaging.groups import read_intersections, understand_groups
from models.packaging.inputs import choose_columns, feeds_of_given
from models.packaging.labels import Classes, compare_decisions, understand_classes
from models.packaging.margin import Link, find_margin
from models.packaging.outputs import recognise
from models.packaging.request import Request
from models.packaging.table import Table, read_table
from models.task import Declaration, Rows
from service.errors import PackageError
from service.manifest import Feature

DEFAULT_THRESHOLD = 0.5
FEW_ROWS = 50


@dataclass(frozen=True)
class Understood:
    """A model brought to the contract, the rows as the service takes them, and its answers to them.

    `declaration` and `rows.y` are about the positive class (1) against the rest (0); `classes` tells them all apart.
    """

    given: Given
    graph: ModelProto
    link: Link
    declaration: Declaration
    classes: Classes
    threshold: float | None
    rows: Rows
    answers: Answers


def understand(request: Request, findings: Findings) -> Understood:
    """Read, recognise, rewrite, prove. Raises PackageError, naming the fix; writes nothing."""
    given, table = read_given(request.onnx), read_table(request.data)
    _describe(given, table, findings)
    if request.label is not None:
        table.column(request.label, "--label")
    sensitive, groups = understand_groups(table, request.sensitive, request.reference, findings)
    intersections = read_intersections(request.intersections, request.sensitive)
    names, features = _features(request, given, table, findings)
    X = feature_matrix(table, features)
    feeds = feeds_of_given(given.inputs, names, table, features)

    results = given.run(feeds, "running the given graph")
    check_rows_stand_alone(given, feeds, results)
    outputs = recognise(given, results, request.output, findings)
    recipe = find_margin(given.proto, outputs, feeds, findings)
    classes = understand_classes(
        outputs,
        None if request.label is None else table.columns[request.label],
        named=request.classes,
        positive=request.positive,
        favourable=request.favourable,
        findings=findings,
    )
    graph = bring_to_contract(given, names, features, recipe, classes=len(classes.labels), positive=classes.positive)
    answers = check_agreement(graph, X, outputs, recipe.link, positive=classes.positive)
    compare_decisions(outputs, answers.probability, findings)
    declaration = Declaration(
        name=request.name,
        description=request.description or f"A model packaged from {request.onnx.name}.",
        classes=_one_against_rest(classes),
        favourable_outcome=_one_against_rest(classes)[classes.favourable_outcome == classes.positive_class],
        features=features,
        sensitive_features=sensitive,
        intersections=intersections,
    )
    # Without labels no row counts as positive, and no figure is made of that.
    y = np.zeros(len(X), np.int64) if classes.y is None else (classes.y == classes.positive).astype(np.int64)
    rows = Rows(X, y, groups)
    return Understood(
        given, graph, recipe.link, declaration, classes, _threshold(request, classes, findings), rows, answers
    )


def _describe(given: Given, table: Table, findings: Findings) -> None:
    findings.understand("graph", f"by {given.producer}, {len(given.proto.graph.node)} nodes")
    findings.understand("data", f"{len(table)} rows, {len(table.columns)} columns")
    if len(table) < FEW_ROWS:
        findings.warn(
            f"{len(table)} rows are few: kinds, outputs and margin are recognised by their values on the data, and "
            "drift is measured against it. Some hundred rows are better."
        )


def _features(request: Request, given: Given, table: Table, findings: Findings) -> tuple[list[str], list[Feature]]:
    """Columns in the order of the graph's inputs, and features in the order of `X`."""
    beside = [name for name in (request.label, *request.sensitive) if name is not None]
    names = choose_columns(given.inputs, table, beside, request.features, findings)
    types = input_types(given.inputs, names)
    found = declared(request.schema, request.ranges, request.nullable)
    order = request.features or names
    features = infer_features(table, {name: types[name] for name in order}, found, findings)
    if open_ended := [f.name for f in features if f.kind == "numeric" and f.minimum is None and f.maximum is None]:
        findings.lack(f"ranges of {len(open_ended)} numeric features: any number is answered; --range NAME=LOW:HIGH")
    if not any(feature.description or feature.unit for feature in features):
        findings.lack("units and descriptions of the features: --schema FILE gives them")
    if not request.sensitive:
        findings.lack("sensitive features: no disparity can be watched; --sensitive NAMES")
    if request.label is None:
        findings.lack("labels: no quality can be measured; --label NAME")
    elif not request.held_out:
        findings.assume("The rows may be training data, and the card says so; --held-out states that they are not.")
    if request.description is None:
        findings.lack("a description of what is decided, for the card; --description TEXT")
    return names, features


def _one_against_rest(classes: Classes) -> tuple[str, str]:
    others = [str(label) for label in classes.labels if label != classes.positive_class]
    return (others[0] if len(others) == 1 else f"not {classes.positive_class}"), str(classes.positive_class)


def _threshold(request: Request, classes: Classes, findings: Findings) -> float | None:
    if len(classes.labels) > 2:
        if request.threshold is not None:
            raise PackageError(
                "--threshold: a model of several classes answers with the likeliest, without a threshold"
            )
        return None
    if request.threshold is None:
        findings.assume(
            f"The threshold is {DEFAULT_THRESHOLD}, as in most libraries; --threshold sets what errors cost."
        )
        return DEFAULT_THRESHOLD
    return request.threshold
