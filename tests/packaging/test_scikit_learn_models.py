"""scikit-learn models, exported by skl2onnx in each of its ways, answer in the service as in scikit-learn."""

import numpy as np
import pytest
from bringing import NUMBERS, WORDS, bring, instances, quietly, served
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from models.graph import run
from service.errors import PackageError
from service.manifest import read_manifest

MODELS = {
    "logistic regression": (lambda: LogisticRegression(max_iter=5000), "logit", True),
    "random forest": (lambda: RandomForestClassifier(20, max_depth=6, random_state=0), "identity", False),
    "boosted trees": (lambda: HistGradientBoostingClassifier(max_iter=20, random_state=0), "logit", True),
}
WAYS = {"zipmap": {}, "no zipmap": {"zipmap": False}, "columns": {"zipmap": "columns"}}


def convert(model, width=4, **options):
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    types = [("input", FloatTensorType([None, width]))]
    return quietly(convert_sklearn, model, initial_types=types, options={id(model): options})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_a_binary_model_answers_as_in_scikit_learn(rows, tmp_path, name, way):
    """500 rows, each probability within 1e-5; the margin is the decision function where there is one."""
    make, link, has_margin = MODELS[name]
    model = make().fit(rows.X, rows.y)
    folder, _ = bring(tmp_path, convert(model, **WAYS[way]), rows.with_label(rows.y))
    expected = model.predict_proba(rows.X)[:, 1]
    predictions = served(folder, instances(rows.columns, NUMBERS))
    np.testing.assert_allclose([one["probability"] for one in predictions], expected, atol=1e-5)
    assert [one["label"] for one in predictions] == model.predict(rows.X).tolist()
    assert read_manifest(folder).link == link
    if has_margin:
        margin, _ = run((folder / "model.onnx").read_bytes(), rows.X)
        np.testing.assert_allclose(margin[:, 0], model.decision_function(rows.X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["logistic regression", "boosted trees"])
def test_raw_scores_are_the_margin(rows, tmp_path, name):
    """Exported with raw_scores, the probability is made of them by the sigmoid."""
    model = MODELS[name][0]().fit(rows.X, rows.y)
    folder, _ = bring(tmp_path, convert(model, zipmap=False, raw_scores=True), rows.with_label(rows.y))
    predictions = served(folder, instances(rows.columns, NUMBERS))
    expected = model.predict_proba(rows.X)[:, 1]
    np.testing.assert_allclose([one["probability"] for one in predictions], expected, atol=1e-5)


# A random forest has no decision function, and so no raw scores.
WITH_FOUR_CLASSES = [(name, raw) for name in MODELS for raw in (False, True) if not (raw and name == "random forest")]


@pytest.mark.parametrize(("name", "raw"), WITH_FOUR_CLASSES)
def test_four_classes_answer_as_in_scikit_learn(rows, tmp_path, name, raw):
    """Every class's probability within 1e-5, and the same label."""
    model = MODELS[name][0]().fit(rows.X, rows.four)
    options = {"zipmap": False, "raw_scores": True} if raw else {}
    folder, _ = bring(tmp_path, convert(model, **options), rows.with_label(rows.four))
    predictions = served(folder, instances(rows.columns, NUMBERS))
    found = [list(one["probabilities"].values()) for one in predictions]
    np.testing.assert_allclose(found, model.predict_proba(rows.X), atol=1e-5)
    assert [one["label"] for one in predictions] == model.predict(rows.X).tolist()
    assert read_manifest(folder).link == ("identity" if name == "random forest" else "softmax")


@pytest.fixture(scope="module")
def pipeline(rows):
    """Scaler and one-hot before a logistic regression, on named columns, with words as labels."""
    frame = np.array([rows.columns[name] for name in [*NUMBERS, *WORDS]], object).T
    words = np.where(rows.y == 1, "repaid", "defaulted")
    encode = make_column_transformer((StandardScaler(), [0, 1, 2, 3]), (OneHotEncoder(), [4, 5]))
    return make_pipeline(encode, LogisticRegression(max_iter=1000)).fit(frame, words), frame, words


def convert_named(model, **options):
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    kinds = {"age": Int64TensorType, "member": Int64TensorType} | dict.fromkeys(WORDS, StringTensorType)
    types = [(name, kinds.get(name, FloatTensorType)([None, 1])) for name in [*NUMBERS, *WORDS]]
    return quietly(convert_sklearn, model, initial_types=types, **options)


@pytest.mark.parametrize("opset", [11, 17, 21])
def test_named_inputs_and_words_are_folded_into_one_matrix(pipeline, rows, tmp_path, opset):
    """A Pipeline with one input per column, text included, takes `X` and answers as in scikit-learn."""
    model, frame, words = pipeline
    columns = rows.columns | {"y": words}
    folder, _ = bring(tmp_path, convert_named(model, target_opset=opset), columns)
    predictions = served(folder, instances(rows.columns, [*NUMBERS, *WORDS]))
    expected = model.predict_proba(frame)[:, 1]
    np.testing.assert_allclose([one["probability"] for one in predictions], expected, atol=1e-5)
    assert [one["label"] for one in predictions] == model.predict(frame).tolist()
    kinds = {feature.name: feature.kind for feature in read_manifest(folder).features}
    assert kinds == {
        "age": "integer",
        "income": "numeric",
        "debt": "numeric",
        "member": "binary",
        "home": "categorical",
        "job": "categorical",
    }


def test_the_order_of_features_may_differ_from_that_of_the_inputs(pipeline, rows, tmp_path):
    """--features orders `X`; the graph's inputs find their columns by name."""
    model, frame, words = pipeline
    order = ("job", "debt", "income", "age", "home", "member")
    folder, _ = bring(tmp_path, convert_named(model), rows.columns | {"y": words}, features=order)
    assert tuple(read_manifest(folder).feature_names) == order
    predictions = served(folder, instances(rows.columns, order))
    expected = model.predict_proba(frame)[:, 1]
    np.testing.assert_allclose([one["probability"] for one in predictions], expected, atol=1e-5)


def test_missing_values_go_the_way_of_the_model(rows, tmp_path):
    """A nullable feature takes null, and boosted trees send it where they learnt to."""
    X = rows.X.copy()
    X[::7, 1] = np.nan
    model = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(X, rows.y)
    columns = rows.with_label(rows.y) | {"income": X[:, 1]}
    folder, _ = bring(tmp_path, convert(model), columns, nullable=("income",))
    posted = instances(columns, NUMBERS)
    for row in posted[::7]:
        row["income"] = None
    predictions = served(folder, posted)
    np.testing.assert_allclose([one["probability"] for one in predictions], model.predict_proba(X)[:, 1], atol=1e-5)


def test_a_positive_class_may_be_the_first(rows, tmp_path):
    """--positive turns the margin around; the columns of the probability stay."""
    model = LogisticRegression(max_iter=5000).fit(rows.X, rows.y)
    folder, _ = bring(tmp_path, convert(model), rows.with_label(rows.y), positive="0", favourable="1", threshold=0.3)
    manifest = read_manifest(folder)
    assert (manifest.classes, manifest.positive_class, manifest.favourable_outcome) == ([0, 1], 0, 1)
    margin, probability = run((folder / "model.onnx").read_bytes(), rows.X)
    np.testing.assert_allclose(margin[:, 0], -model.decision_function(rows.X), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(probability, model.predict_proba(rows.X), atol=1e-5)
    first = served(folder, instances(rows.columns, NUMBERS)[:1])[0]
    assert first["threshold"] == 0.3
    assert first["probability"] == pytest.approx(model.predict_proba(rows.X)[0, 0], abs=1e-5)


def test_classes_that_the_model_does_not_know_are_refused(rows, tmp_path):
    """Rows with a third and a fourth label, and a model of two."""
    model = LogisticRegression(max_iter=5000).fit(rows.X, rows.y)
    with pytest.raises(PackageError, match="cannot emit, `2`, `3`; the model emits `0`, `1`"):
        bring(tmp_path, convert(model), rows.with_label(rows.four))


def test_classes_that_the_rows_do_not_show_stay(rows, tmp_path):
    """The model names four; the rows have two of them."""
    model = LogisticRegression(max_iter=5000).fit(rows.X, rows.four)
    folder, _ = bring(tmp_path, convert(model), rows.with_label(np.minimum(rows.four, 1)))
    assert read_manifest(folder).classes == [0, 1, 2, 3]


def test_several_classes_have_no_threshold(rows, tmp_path):
    """The likeliest class answers; --threshold would say nothing."""
    model = LogisticRegression(max_iter=5000).fit(rows.X, rows.four)
    with pytest.raises(PackageError, match="--threshold: a model of several classes"):
        bring(tmp_path, convert(model), rows.with_label(rows.four), threshold=0.4)
