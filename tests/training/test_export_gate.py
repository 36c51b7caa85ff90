"""The gate, and the conversion it guards: a graph that computes something else is never written."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from models.diagnosis import data as diagnosis
from models.evaluate import Cost
from models.export import Trained, check_agreement, export, shortest
from models.graph import graph_from_torch, graph_from_trees, run
from models.task import Declaration, Rows, stratified_splits
from service.errors import PackageError
from service.manifest import Feature


def trees_on(splits, declaration, **options):
    """A few boosted trees on `splits`, ready for export."""
    classifier = HistGradientBoostingClassifier(max_iter=15, early_stopping=False, random_state=0, **options)
    classifier.fit(splits.training.X, splits.training.y)
    return Trained(
        declaration=declaration,
        splits=splits,
        cost=diagnosis.COST,
        seed=0,
        graph=graph_from_trees(classifier, len(declaration.features)),
        native_margin=classifier.decision_function,
        native_probability=lambda X: classifier.predict_proba(X)[:, 1],
        card_template=Path(diagnosis.__file__).with_name("card.md"),
        libraries=("numpy",),
    )


@pytest.fixture
def trained():
    """Boosted trees on the breast cancer data."""
    return trees_on(diagnosis.load_splits(), diagnosis.DECLARATION)


def test_a_faithful_graph_is_written(trained, tmp_path):
    """The package appears, and its graph gives scikit-learn's margin."""
    folder = export(trained, tmp_path).folder
    X = trained.splits.held_out.X
    margin, _ = run((folder / "model.onnx").read_bytes(), X)
    np.testing.assert_allclose(margin[:, 0], trained.native_margin(X), atol=1e-5)


@pytest.mark.parametrize("error", [1e-3, np.nan], ids=["off by a thousandth", "not a number"])
def test_a_wrong_margin_is_refused(trained, tmp_path, error):
    """The gate compares the margin on every held-out row; nothing is written."""
    wrong = replace(trained, native_margin=lambda X: trained.native_margin(X) + error)
    with pytest.raises(PackageError, match="differs from the trained model"):
        export(wrong, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_probability_is_refused(trained, tmp_path):
    """A probability column the wrong way round does not pass."""
    wrong = replace(trained, native_probability=lambda X: 1 - trained.native_probability(X))
    with pytest.raises(PackageError, match="differs from the trained model"):
        export(wrong, tmp_path)


def test_perturbed_weights_are_refused(torch, trained):
    """A torch network whose weights moved by a thousandth after export is not the exported one."""
    from models.diagnosis.network import Network
    from models.fit import torch_margin, torch_probability

    torch.manual_seed(0)
    X = torch.from_numpy(trained.splits.training.X)
    network = Network(X.mean(0), X.std(0), hidden=4)
    graph = graph_from_torch(network, X.shape[1])
    candidate = replace(
        trained,
        graph=graph,
        native_margin=partial(torch_margin, network),
        native_probability=partial(torch_probability, network),
    )
    model = graph.SerializeToString()
    check_agreement(model, candidate, trained.splits.held_out.X)
    with torch.no_grad():
        network.margin.weight.mul_(1.001)
    with pytest.raises(PackageError, match="differs from the trained model"):
        check_agreement(model, candidate, trained.splits.held_out.X)


def test_the_wrong_conversion_of_categorical_splits_is_refused(tmp_path):
    """skl2onnx converts `categorical_features` into another model without a word; the gate catches it."""
    rng = np.random.default_rng(0)
    X = np.stack([rng.integers(0, 8, 2000), rng.normal(size=2000)], axis=1).astype(np.float32)
    y = (np.isin(X[:, 0], (1, 4, 6)) ^ (rng.random(2000) < 0.1)).astype(np.int64)
    declaration = Declaration(
        name="toy",
        description="",
        classes=("no", "yes"),
        favourable_outcome="no",
        features=[
            Feature(name="colour", kind="categorical", categories=list("abcdefgh")),
            Feature(name="size", kind="numeric"),
        ],
    )
    splits = stratified_splits(Rows(X, y), fractions=(0.5, 0.25, 0.25), seed=0)
    export(trees_on(splits, declaration), tmp_path / "ordered")
    with pytest.raises(PackageError, match="differs from the trained model"):
        export(trees_on(splits, declaration, categorical_features=[0]), tmp_path / "categorical")


def test_a_missing_value_goes_the_same_way_in_both(transaction_splits):
    """For every nullable field, set to NaN on all rows, ONNX Runtime follows scikit-learn."""
    from models.transaction.data import DECLARATION

    training = transaction_splits.training
    classifier = HistGradientBoostingClassifier(max_iter=30, early_stopping=False, random_state=0)
    classifier.fit(training.X[:20_000], training.y[:20_000])
    model = graph_from_trees(classifier, training.X.shape[1]).SerializeToString()
    nullable = [i for i, feature in enumerate(DECLARATION.features) if feature.nullable]
    assert nullable
    for column in nullable:
        X = transaction_splits.validation.X[:500].copy()
        X[:, column] = np.nan
        np.testing.assert_allclose(run(model, X)[0][:, 0], classifier.decision_function(X), rtol=1e-5, atol=1e-5)


def test_numbers_are_written_with_the_fewest_digits_that_read_back():
    """17.99 stays 17.99, and is the same float32 again."""
    assert shortest(np.float32(17.99)) == 17.99
    assert np.float32(shortest(np.float32(1 / 3))) == np.float32(1 / 3)


def test_a_cost_counts_alarms_and_missed_positives():
    """Two alarms at 3 and one missed positive worth 10."""
    rows = Rows(np.zeros((4, 1), np.float32), np.array([1, 1, 0, 0]))
    cost = Cost(alarm=3.0, missed=lambda rows: np.full(len(rows), 10.0), unit="EUR", stated="")
    assert cost.total(rows, np.array([True, False, True, False])) == 16.0
