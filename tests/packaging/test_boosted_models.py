"""XGBoost and LightGBM models, exported by onnxmltools, answer in the service as in their own libraries."""

import numpy as np
import pytest
from bringing import NUMBERS, bring, instances, need, quietly, served

from models.graph import run
from service.manifest import read_manifest

LIBRARIES = ("xgboost", "lightgbm")


def trained(library, X, y):
    module = need(library)
    if library == "xgboost":
        return module.XGBClassifier(n_estimators=20, max_depth=4, n_jobs=1, random_state=0).fit(X, y)
    return module.LGBMClassifier(n_estimators=20, num_leaves=8, n_jobs=1, random_state=0, verbose=-1).fit(X, y)


def convert(library, model, **options):
    onnxmltools = need("onnxmltools")
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("input", FloatTensorType([None, 4]))]
    return quietly(getattr(onnxmltools, f"convert_{library}"), model, initial_types=types, **options)


def probabilities(model, X):
    return quietly(model.predict_proba, X)


def raw_margin(library, model, X):
    """The sum of the trees as the library gives it."""
    name = "output_margin" if library == "xgboost" else "raw_score"
    return quietly(model.predict, X, **{name: True})


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_binary_model_answers_as_in_its_library(rows, tmp_path, library):
    """500 rows, each probability within 1e-5, and the margin is the library's raw score."""
    model = trained(library, rows.X, rows.y)
    folder, _ = bring(tmp_path, convert(library, model), rows.with_label(rows.y))
    predictions = served(folder, instances(rows.columns, NUMBERS))
    expected = probabilities(model, rows.X)[:, 1]
    np.testing.assert_allclose([one["probability"] for one in predictions], expected, atol=1e-5)
    margin, _ = run((folder / "model.onnx").read_bytes(), rows.X)
    np.testing.assert_allclose(margin[:, 0], raw_margin(library, model, rows.X), rtol=1e-5, atol=1e-5)
    assert read_manifest(folder).link == "logit"


@pytest.mark.parametrize("library", LIBRARIES)
def test_four_classes_answer_as_in_their_library(rows, tmp_path, library):
    """Every class's probability within 1e-5, and the margins are the library's raw scores."""
    model = trained(library, rows.X, rows.four)
    folder, _ = bring(tmp_path, convert(library, model), rows.with_label(rows.four))
    predictions = served(folder, instances(rows.columns, NUMBERS))
    found = [list(one["probabilities"].values()) for one in predictions]
    np.testing.assert_allclose(found, probabilities(model, rows.X), atol=1e-5)
    margin, _ = run((folder / "model.onnx").read_bytes(), rows.X)
    np.testing.assert_allclose(margin, raw_margin(library, model, rows.X), rtol=1e-5, atol=1e-5)
    assert read_manifest(folder).link == "softmax"


@pytest.mark.parametrize("library", LIBRARIES)
def test_missing_values_go_the_way_of_the_library(rows, tmp_path, library):
    """A nullable feature takes null."""
    X = rows.X.copy()
    X[::5, 2] = np.nan
    model = trained(library, X, rows.y)
    columns = rows.with_label(rows.y) | {"debt": X[:, 2]}
    folder, _ = bring(tmp_path, convert(library, model), columns, nullable=("debt",))
    posted = instances(columns, NUMBERS)
    for row in posted[::5]:
        row["debt"] = None
    predictions = served(folder, posted)
    np.testing.assert_allclose([one["probability"] for one in predictions], probabilities(model, X)[:, 1], atol=1e-5)


def test_words_as_labels_are_taken_for_sorted_when_the_model_counts_from_0(rows, tmp_path):
    """XGBoost trains on 0 and 1; the data says words; the order is assumed and said."""
    model = trained("xgboost", rows.X, rows.y)
    words = np.where(rows.y == 1, "repaid", "defaulted")
    folder, findings = bring(tmp_path, convert("xgboost", model), rows.with_label(words))
    assert read_manifest(folder).classes == ["defaulted", "repaid"]
    assert any("LabelEncoder" in sentence for sentence in findings.assumed)


def test_lightgbm_without_zipmap(rows, tmp_path):
    """A plain [n, 2] output is recognised as well."""
    model = trained("lightgbm", rows.X, rows.y)
    folder, _ = bring(tmp_path, convert("lightgbm", model, zipmap=False), rows.with_label(rows.y))
    _, probability = run((folder / "model.onnx").read_bytes(), rows.X)
    np.testing.assert_allclose(probability, probabilities(model, rows.X), atol=1e-5)
